"""A run goes on where it stopped, keeps what is there, and refuses a folder of something else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ms_core.errors import InvalidInputError, StorageError
from ms_lab.ablation import run as ablation_run
from ms_lab.ablation.measuring import Measures
from ms_lab.ablation.orders import NOT_MEASURED, ONE_SEED
from ms_lab.ablation.pictures import Bench, composed
from ms_lab.ablation.results import ASKED, SCALE_ZERO, Asked, require_same, summarise
from ms_lab.ablation.run import SMOKE, TABLE, Setting, load_pack, write_results
from ms_lab.ablation.training import build_variant, config_of, stage_of, train_variant, training_facts
from ms_lab.ablation.variants import FULL, NO_MASKS
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.mini.artwork import HELD_OUT_SET
from ms_lab.mini.halves import VALIDATION, half_of
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import AVERAGE
from ms_lab.training.mini import SMOKE_PACK, TRAINING_PACK
from tests.ms_lab.evaluation.report.bench_outcomes import found, outcome
from tests.support.paths import ASSETS, MINI

ASKED_FOR = Asked(2, 3, 1, {"headline": 2}, "a", 64, 8, 4, 20, 319, "b", "c")


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ASSETS / SMOKE_PACK).subset(range(40))


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench.draw(ASSETS, SMOKE.scenes)


def train(folder: Path, pack: SpritePack, minutes: float | None = None) -> bool:
    stage = stage_of(build_variant(MINI, NO_MASKS, 1), pack, 2)
    return train_variant(folder, stage, pack, config_of(1, pictures=4, batch_size=2), minutes)


def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    pack: SpritePack, tmp_path: Path
) -> None:
    assert train(tmp_path / "whole", pack)
    assert not train(tmp_path / "stopped", pack, minutes=0.0)
    assert train(tmp_path / "stopped", pack)
    whole, stopped = (load_file(tmp_path / name / AVERAGE) for name in ("whole", "stopped"))
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    assert training_facts(tmp_path / "stopped")["pictures"] == 4
    # What is done is not trained again.
    before = (tmp_path / "whole" / AVERAGE).stat().st_mtime_ns
    assert train(tmp_path / "whole", pack)
    assert (tmp_path / "whole" / AVERAGE).stat().st_mtime_ns == before


class Counting:
    """Draws the composites, and counts the scenes."""

    def __init__(self) -> None:
        self.scenes = 0

    def __call__(self, scenes: Sequence[BenchScene]) -> list[Image.Image]:
        self.scenes += len(scenes)
        return composed(scenes)


def test_pictures_that_are_there_are_not_drawn_again(bench: Bench, tmp_path: Path) -> None:
    measures, draw = Measures(tmp_path), Counting()
    measures.measure("full-1", bench, draw)
    assert draw.scenes == len(bench.scenes)
    kept = measures.read("full-1")
    assert [(each.group, each.number) for each in kept] == [(each.group, each.number) for each in bench.scenes]
    assert all(subject.identity for each in kept for subject in each.verdict.subjects)
    assert [each.treated for each in kept] == [False, True]
    # As if the judging had been interrupted.
    measures.path("full-1").unlink()
    measures.measure("full-1", bench, draw)
    assert measures.has("full-1")
    assert draw.scenes == len(bench.scenes)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    require_same(tmp_path, ASKED_FOR)
    require_same(tmp_path, ASKED_FOR)
    with pytest.raises(InvalidInputError, match="differs in pictures, artwork digest"):
        require_same(tmp_path, replace(ASKED_FOR, pictures=16, artwork_digest="d"))
    assert json.loads((tmp_path / ASKED).read_text())["pictures"] == 8


@pytest.mark.parametrize("content", ["", '{"pictures": ', "3"])
def test_a_damaged_note_of_what_was_asked_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / ASKED).write_text(content)
    with pytest.raises(InvalidInputError, match=r"asked\.json is damaged"):
        require_same(tmp_path, ASKED_FOR)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        require_same(tmp_path / "file" / "out", ASKED_FOR)


def test_other_drawings_leave_an_ablation_on_the_bundled_ones_as_it_is(pack: SpritePack, tmp_path: Path) -> None:
    run, out = tmp_path / "mini", tmp_path / "out"
    run.mkdir()
    pack.save(run / TRAINING_PACK)
    require_same(out, ASKED_FOR)
    with pytest.raises(InvalidInputError, match="on the bundled drawings"):
        load_pack(ASSETS, out, [run])
    assert not (out / TRAINING_PACK).exists()


def test_a_folder_beside_the_runs_is_no_run(bench: Bench, pack: SpritePack, tmp_path: Path) -> None:
    setting = Setting(MINI, tmp_path, SMOKE, pack, pack, bench, lambda _: None)
    for name in ("full-old", "full-1-copy", "notes-3"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    setting.measures.measure("no-masks-1", bench, composed)
    written = write_results(setting, ASKED_FOR)
    assert written.columns == {}
    assert {order.verdict for order in written.orders} == {NOT_MEASURED}
    assert "the full method is not measured yet" in (tmp_path / TABLE).read_text()


def test_an_order_waits_for_the_budget_of_its_seed(bench: Bench, tmp_path: Path) -> None:
    measures = Measures(tmp_path)
    names = ["full-1", "no-masks-1", "full-2", "no-masks-2", "scale-0-1"]
    for name in names:
        measures.measure(name, bench, composed)
    # Of one of the two seeds nobody knows whether the full method learnt anything.
    with patch("ms_lab.ablation.results.is_enough", return_value=True):
        judged = summarise(ASKED_FOR, measures, names, {}).orders
    assert {order.verdict for order in judged if order.variant == NO_MASKS} == {ONE_SEED}


def test_the_drawings_of_a_run_of_msd_train_mini_are_taken_and_kept(pack: SpritePack, tmp_path: Path) -> None:
    run, out = tmp_path / "mini", tmp_path / "out"
    run.mkdir()
    pack.save(run / TRAINING_PACK)
    assert len(load_pack(ASSETS, out, ())) == len(SpritePack.load(ASSETS / SMOKE_PACK))
    assert len(load_pack(ASSETS, out, [run])) == len(pack)
    assert len(load_pack(ASSETS, out, ())) == len(pack)


def test_a_column_that_another_command_works_on_is_left_to_it(tmp_path: Path) -> None:
    with Measures(tmp_path).claim("full-1") as free:
        assert free
        with Measures(tmp_path).claim("full-1") as also:
            assert not also
        with Measures(tmp_path).claim("full-2") as other:
            assert other
    with Measures(tmp_path).claim("full-1") as again:
        assert again


def test_the_scenes_are_of_the_validation_half(bench: Bench) -> None:
    assert {half_of(sprite.phrase) for sprite in bench.pack.sprites if sprite.artist == HELD_OUT_SET} == {VALIDATION}


def test_a_variant_is_compared_with_the_full_method_of_its_own_seed() -> None:
    rows = {
        "full-1": [outcome(number=number) for number in range(8)],
        "full-2": [outcome([found(identity=False)] * 2, number=number) for number in range(8)],
    }
    rows |= {f"{name}-{seed}": rows["full-2"] for name in (NO_MASKS, SCALE_ZERO) for seed in (1, 2)}

    class Kept(Measures):
        def read(self, column: str) -> list[Outcome]:
            return rows[column]

    ablation = summarise(ASKED_FOR, Kept(Path()), list(rows), {})
    for name in (NO_MASKS, SCALE_ZERO):
        assert [ablation.differences[name][seed]["identity"].value for seed in (1, 2)] == [1, 0]
    # The full method of the second seed is no better than its own scale of 0.
    assert not ablation.enough
    rows["full-2"] = rows["full-1"]
    assert summarise(ASKED_FOR, Kept(Path()), list(rows), {}).enough


def test_a_scale_of_0_is_drawn_by_the_full_method_alone_and_without_references(
    bench: Bench, pack: SpritePack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(MINI, tmp_path, SMOKE, pack, pack, bench, lambda _: None)
    measured: list[tuple[str, object]] = []
    monkeypatch.setattr(ablation_run, "_train", lambda _, name, seed, __: f"{name} {seed}")
    monkeypatch.setattr(ablation_run, "drawn_by", lambda stage, steps, sees: (stage, steps, sees))
    monkeypatch.setattr(Measures, "measure", lambda _, column, __, draw: measured.append((column, draw)))
    for name in (FULL, NO_MASKS):
        ablation_run._make_column(setting, name, 2)
    steps = SMOKE.steps
    assert measured == [
        ("full-2", ("full 2", steps, True)),
        ("scale-0-2", ("full 2", steps, False)),
        ("no-masks-2", ("no-masks 2", steps, True)),
    ]
