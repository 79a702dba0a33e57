"""Training: drops, resumption, telemetry, and a smoke run of all stages that ends in a model that draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from ms_core.config import ModelCard
from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from ms_lab.mini.batches import SceneBatch, SceneStream, Share
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneKind, SceneOdds
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import WEIGHTS
from ms_lab.training.denoising_stage import rotate_references
from ms_lab.training.dropout import DropRates, draw_drops
from ms_lab.training.loop import DONE, LOG, StageConfig, Trainer
from ms_lab.training.mini import SMOKE, STAGES, MiniTraining, load_artwork, read_log
from ms_lab.training.weight_average import WeightAverage
from tests.ms_lab.training.mean_colour import MeanColour
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ASSETS / "smoke-sprites.zip")


def _stream(pack: SpritePack) -> Callable[[Share], SceneStream]:
    return partial(SceneStream, pack, replace(PLAIN_SCENES, kinds=(SceneKind(1.0, 32, 32),)))


def _trainer(folder: Path, pictures: int) -> Trainer:
    config = StageConfig(pictures=pictures, batch_size=2, learning_rate=0.1, warmup=1, average_decay=0.5)
    return Trainer(MeanColour(), config, folder)


def test_stopped_and_resumed_training_equals_training_in_one_go(tmp_path: Path, pack: SpritePack) -> None:
    whole = _trainer(tmp_path / "whole", 16)
    assert whole.run(_stream(pack))
    first = _trainer(tmp_path / "parts", 16)
    assert not first.run(_stream(pack), minutes=1e-9)
    assert 0 < first.step < first.num_steps
    second = _trainer(tmp_path / "parts", 16)
    assert second.run(_stream(pack))
    assert torch.equal(whole.stage.trained.state_dict()["weight"], second.stage.trained.state_dict()["weight"])
    assert torch.equal(whole.average.shadow[0], second.average.shadow[0])


@pytest.mark.parametrize("known", [True, False])
def test_a_cpu_that_must_emulate_bfloat16_trains_in_float32(
    tmp_path: Path, pack: SpritePack, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": known})
    trainer = _trainer(tmp_path, 2)
    loss, seen = trainer.stage.loss, []

    def note(batch: SceneBatch, progress: float) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss(batch, progress)

    trainer.stage.loss = note
    trainer.run(_stream(pack))
    assert seen == [known]


def test_interrupted_training_keeps_its_steps(tmp_path: Path, pack: SpritePack) -> None:
    trainer = _trainer(tmp_path, 16)
    train = trainer._train

    def interrupt(batch: SceneBatch, stop: bool) -> tuple[float, bool]:
        if trainer.step == 3:
            raise KeyboardInterrupt
        return train(batch, stop)

    trainer._train = interrupt
    with pytest.raises(KeyboardInterrupt):
        trainer.run(_stream(pack))
    again = _trainer(tmp_path, 16)
    again.resume()
    assert again.step == 3


def test_weights_alone_are_enough_to_go_on(tmp_path: Path, pack: SpritePack) -> None:
    first = _trainer(tmp_path, 4)
    first.run(_stream(pack))
    (tmp_path / "state.pt").unlink()
    again = _trainer(tmp_path, 4)
    again.resume()
    assert again.step == 0
    assert torch.equal(again.stage.trained.state_dict()["weight"], first.stage.trained.state_dict()["weight"])


def test_weights_of_another_model_are_refused(tmp_path: Path, pack: SpritePack) -> None:
    trainer = _trainer(tmp_path, 4)
    trainer.run(_stream(pack))
    trainer.stage.trained = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="another model"):
        trainer.resume()


def test_learning_rate_rises_stays_and_falls(tmp_path: Path) -> None:
    trainer = Trainer(MeanColour(), StageConfig(pictures=2000, batch_size=1, warmup=100, decay=0.5), tmp_path)
    rates = []
    for trainer.step in range(2000):
        rates.append(trainer.learning_rate())
    peak = trainer.config.learning_rate
    assert rates[0] == pytest.approx(peak / 100)
    assert rates[100:1000] == [peak] * 900
    assert rates[1500] == pytest.approx(peak / 2)
    assert rates[-1] == pytest.approx(peak / 1000)


def test_average_of_constant_weights_is_the_weights() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.9)
    for _ in range(5):
        average.update(4)
    assert torch.allclose(average.shadow[0], module.weight)


def test_drops_come_at_their_rates_and_exclude_each_other() -> None:
    rates = DropRates(text=0.05, image=0.05, both=0.05, grounding=0.1)
    drops = draw_drops(100_000, rates, torch.Generator().manual_seed(0))
    both = drops.text & drops.image
    assert float((drops.text & ~both).float().mean()) == pytest.approx(0.05, abs=0.005)
    assert float((drops.image & ~both).float().mean()) == pytest.approx(0.05, abs=0.005)
    assert float(both.float().mean()) == pytest.approx(0.05, abs=0.005)
    assert float(drops.grounding.float().mean()) == pytest.approx(0.1, abs=0.005)


def test_wrong_references_are_a_permutation_of_the_right_ones(pack: SpritePack) -> None:
    batch = SceneStream(pack, SceneOdds(), Share(4, seed=0)).batch(0)
    wrong = rotate_references(batch)
    right_rows, wrong_rows = batch.references[batch.present], wrong.references[batch.present]
    assert torch.equal(wrong_rows, right_rows.roll(1, 0))
    assert wrong.captions == batch.captions


def test_training_without_artwork_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="--artwork"):
        load_artwork(tmp_path, (), ASSETS, smoke=False)


def test_the_minutes_bound_all_stages_together(tmp_path: Path) -> None:
    training = MiniTraining(tmp_path, *load_artwork(tmp_path, (), ASSETS, smoke=True), SMOKE)
    assert training.run(minutes=0.0) == "vae"
    assert not (tmp_path / "vae").exists()
    assert not training.has_come_far()


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> MiniTraining:
    folder = tmp_path_factory.mktemp("smoke")
    training = MiniTraining(folder, *load_artwork(folder, (), ASSETS, smoke=True), SMOKE)
    assert training.run() is None
    return training


@pytest.mark.slow
def test_every_stage_leaves_weights_log_and_sheet(smoke_run: MiniTraining) -> None:
    for name in STAGES:
        folder = smoke_run.folder / name
        assert (folder / WEIGHTS).is_file()
        assert list(folder.glob("sheet-*.png"))
        assert all(json.loads(line)["stage"] == name for line in (folder / LOG).read_text().splitlines())
    telemetry = [row for row in read_log(smoke_run.folder) if row["stage"] == "base"][-1]
    assert {"reference_gain_200", "reference_gain_450", "reference_gain_700"} <= set(telemetry)


@pytest.mark.slow
def test_a_model_can_be_written_before_its_last_stage_is_done(smoke_run: MiniTraining, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(smoke_run.folder, tmp_path / "run"))
    (folder / STAGES[-1] / DONE).unlink()
    training = MiniTraining(folder, smoke_run.pack, smoke_run.pack, SMOKE)
    assert training.run(minutes=0.0) == STAGES[-1]
    assert training.has_come_far()
    directory = training.save()
    assert ModelCard.load(directory).training["base"]["pictures"] == SMOKE.base.pictures


@pytest.mark.slow
def test_trained_model_draws_through_the_public_pipeline(smoke_run: MiniTraining) -> None:
    pipeline = MSDiffusionPipeline.from_pretrained(smoke_run.save())
    subject = Subject("cat", Image.new("RGB", (50, 80), (200, 30, 30)), Box(0.1, 0.1, 0.6, 0.9))
    spec = GenerationSpec("a cat on the beach", (subject,), num_inference_steps=2)
    generation = pipeline.run(spec)[0]
    assert generation.image.size == (128, 128)
    assert pipeline.card.training["sprites"] == len(smoke_run.pack)
