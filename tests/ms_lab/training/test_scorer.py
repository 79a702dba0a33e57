"""What the scorer learns from, how it is calibrated, and its training from first to last with a tiny network."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from ms_core.config import CARD_FILE, SCORER_FILE, WEIGHTS_FILE, Calibration, ModelCard, ScorerConfig
from ms_core.errors import CheckpointError, InvalidInputError, ModelNotFoundError
from ms_core.model_dir.inventory import check_inventory
from ms_core.sampling.events import Generation
from ms_core.scoring import Scorer, ScorerNetwork
from ms_core.scoring.views import unevenness
from ms_core.spec import Box, GenerationSpec
from ms_lab.evaluation.own_pictures import (
    BATCH_SIZE,
    _Drawer,
    draw_own_scene,
    half_drawn,
    judge_own_pictures,
    kind_of,
    require_scenes,
    spec_of,
    spoiled_spec,
)
from ms_lab.evaluation.questions.candidates import CandidateChooser
from ms_lab.evaluation.questions.groups import GROUPS
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.mini.batches import Share
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneDrawer
from ms_lab.mini.scenes import Scene
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import AVERAGE
from ms_lab.training.loop import DONE, LOG, StageConfig
from ms_lab.training.scorer.calibration import (
    calibrate,
    calibration_weights,
    expected_calibration_error,
    identity_auc,
    ranking,
)
from ms_lab.training.scorer.examples import ABSENT, EXCHANGED, HALF_DRAWN, KINDS, USUAL, ScorerExamples
from ms_lab.training.scorer.spoiled_scenes import SpoiledScenes, Spoiler, Spoiling, box_overlap
from ms_lab.training.scorer.stage import ScorerStage, all_logits, weighted_loss
from ms_lab.training.scorer.trainer import (
    LEAST_APART,
    LEAST_THINGS,
    SMOKE,
    ScorerTraining,
    begin_scorer_from,
    find_most_uneven,
    split_pack,
)
from ms_lab.training.team import Team
from tests.support.paths import ROOT

SIDE = SMOKE.sizes.side
NOTHING = Spoiling(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ROOT / "assets" / "smoke-sprites.zip")


def scenes(pack: SpritePack, count: int, num_subjects: int = 1) -> Iterator[tuple[np.random.Generator, Scene]]:
    drawer = SceneDrawer(pack, PLAIN_SCENES)
    for number in range(count):
        rng = np.random.default_rng(number)
        yield rng, drawer.draw(rng, num_subjects, PLAIN_SCENES.kinds[0])


def through_nothing(pictures: torch.Tensor, strength: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return pictures


def examples(pack: SpritePack, rows: int = 8, number: int = 0) -> ScorerExamples:
    return SpoiledScenes(pack, PLAIN_SCENES, Share(rows, seed=3), SIDE, through_nothing).batch(number)


def test_an_unspoiled_scene_is_what_was_asked_for(pack: SpritePack) -> None:
    for rng, scene in scenes(pack, 3, num_subjects=2):
        spoiled = Spoiler(pack, NOTHING).spoil(rng, scene)
        assert spoiled.picture.tobytes() == spoiled.asked.image.tobytes()
        assert spoiled.answers == [(1.0, 1.0, 1.0)] * 2
        assert spoiled.weights == [(1.0, 1.0, 1.0)] * 2


def test_of_what_is_left_out_nothing_is_there(pack: SpritePack) -> None:
    for rng, scene in scenes(pack, 3):
        spoiled = Spoiler(pack, replace(NOTHING, left_out=1.0)).spoil(rng, scene)
        assert spoiled.answers == [(0.0, 0.0, 0.0)]
        assert spoiled.picture.tobytes() != spoiled.asked.image.tobytes()


def test_exchanged_subjects_stand_there_and_are_others(pack: SpritePack) -> None:
    for rng, scene in scenes(pack, 5, num_subjects=2):
        spoiled = Spoiler(pack, replace(NOTHING, exchanged=1.0)).spoil(rng, scene)
        assert [answer[:2] for answer in spoiled.answers] == [(1.0, 0.0)] * 2


def test_other_colours_are_another_subject_wherever_one_can_see_it(pack: SpritePack) -> None:
    known = []
    for rng, scene in scenes(pack, 12):
        spoiled = Spoiler(pack, replace(NOTHING, recoloured=1.0)).spoil(rng, scene)
        assert spoiled.answers == [(1.0, 0.0, 1.0)]
        known.append(spoiled.weights[0][1])
    assert 0.5 <= sum(known) / len(known) <= 1.0


def test_what_is_elsewhere_overlaps_less_and_is_recognised_only_near_its_place(pack: SpritePack) -> None:
    answers = []
    for rng, scene in scenes(pack, 20):
        spoiled = Spoiler(pack, replace(NOTHING, moved=1.0)).spoil(rng, scene)
        (present, identity, overlap), (_, identity_weight, _) = spoiled.answers[0], spoiled.weights[0]
        assert overlap <= present
        if identity_weight:
            assert identity == float(overlap >= 0.6)
        answers.append(overlap)
    assert len(set(answers)) > 10
    assert min(answers) < 0.3 < max(answers) < 1.0


@given(
    corners=st.tuples(*[st.floats(0, 0.4)] * 4, *[st.floats(0.5, 1)] * 4),
)
def test_the_overlap_of_boxes_is_a_share_and_symmetric(corners: tuple[float, ...]) -> None:
    one, other = (Box(*corners[start::2][:2], *corners[start + 4 :: 2][:2]) for start in (0, 1))
    overlap = box_overlap(one, other)
    assert 0 <= overlap <= 1
    assert overlap == pytest.approx(box_overlap(other, one))
    assert box_overlap(one, one) == pytest.approx(1.0)


def test_the_same_number_gives_the_same_batch(pack: SpritePack) -> None:
    first, again, other = examples(pack), examples(pack), examples(pack, number=1)
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.answers, again.answers)
    assert not torch.equal(first.pictures[: len(other)], other.pictures[: len(first)])
    assert first.pictures.shape[1:] == (6, SIDE, SIDE)
    assert len(set(first.numbers.tolist())) == 8


def test_examples_that_are_saved_are_loaded(pack: SpritePack, tmp_path: Path) -> None:
    made = examples(pack)
    made.save(tmp_path / "0.safetensors")
    loaded = ScorerExamples.load(tmp_path / "0.safetensors")
    chosen = loaded.rows(torch.tensor([2, 0]))
    assert torch.allclose(chosen.pictures, made.pictures[[2, 0]], atol=1e-3)
    assert torch.equal(chosen.answers, made.answers[[2, 0]])
    assert [path.name for path in tmp_path.iterdir()] == ["0.safetensors"]
    assert torch.equal(made.mirrored().mirrored().pictures, made.pictures)
    assert torch.equal(chosen.kinds, torch.zeros(2, dtype=torch.int64))


def test_examples_of_an_older_version_are_refused(pack: SpritePack, tmp_path: Path) -> None:
    made, path = examples(pack), tmp_path / "0.safetensors"
    made.save(path)
    save_file({name: value for name, value in load_file(path).items() if name != "kinds"}, path)
    with pytest.raises(CheckpointError, match="older version; remove the folder"):
        ScorerExamples.load(path)


@settings(max_examples=25)
@given(slope=st.floats(0.3, 3.0), offset=st.floats(-2.0, 2.0))
def test_a_calibration_finds_what_the_logits_mean(slope: float, offset: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20_000, generator=generator)
    chances = torch.sigmoid(slope * logits + offset)
    found = calibrate(logits, (torch.rand(len(logits), generator=generator) < chances).float())
    assert (found.slope, found.offset) == pytest.approx((slope, offset), abs=0.15)


def test_a_calibration_is_moved_little_by_a_few_answers() -> None:
    found = calibrate(torch.tensor([2.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0]))
    assert found.slope == pytest.approx(1.0, abs=0.2)
    assert 0 < found.offset < 0.5


def test_a_calibration_never_turns_the_order_around() -> None:
    logits = torch.linspace(-3, 3, 500)
    assert calibrate(logits, (logits < 0).float()).slope > 0
    assert calibrate(logits, torch.ones(500)) != Calibration()


def test_the_calibration_error_is_what_is_told_minus_what_is_so() -> None:
    estimates = torch.tensor([0.9] * 10 + [0.2] * 10)
    right = torch.tensor([1.0] * 9 + [0.0] + [1.0] * 2 + [0.0] * 8)
    assert expected_calibration_error(estimates, right) == pytest.approx(0.0, abs=1e-6)
    assert expected_calibration_error(estimates, torch.zeros(20)) == pytest.approx(0.55)


def test_an_answer_counts_as_often_as_its_weight_says() -> None:
    logits, answers = torch.randn(40, generator=torch.Generator().manual_seed(2)), torch.tensor([1.0, 0.0] * 20)
    counts = torch.tensor([1.0, 3.0] * 20)
    repeated = torch.cat([logits, logits[1::2], logits[1::2]]), torch.cat([answers, torch.zeros(40)])
    assert calibrate(logits, answers, counts) == calibrate(*repeated) != calibrate(logits, answers)
    estimates = torch.sigmoid(logits)
    error = expected_calibration_error(estimates, answers, counts)
    assert error == pytest.approx(expected_calibration_error(torch.sigmoid(repeated[0]), repeated[1]), abs=1e-6)
    assert error != pytest.approx(expected_calibration_error(estimates, answers), abs=1e-3)


def of_kinds(pack: SpritePack, kinds: list[str], identity: list[float]) -> ScorerExamples:
    """Examples of these kinds, which are the subject or not."""
    made = examples(pack, 24).rows(torch.arange(len(kinds)))
    answers = torch.tensor([[1.0, value, 1.0] for value in identity])
    return replace(made, answers=answers, kinds=torch.tensor([KINDS.index(kind) for kind in kinds]))


def test_what_is_spoiled_on_purpose_counts_a_tenth(pack: SpritePack) -> None:
    kinds = [USUAL] * 4 + [ABSENT, EXCHANGED, HALF_DRAWN, ABSENT]
    weights = calibration_weights(of_kinds(pack, kinds, [1.0] * 8))
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[4:].sum() / weights.sum()) == pytest.approx(0.1)
    assert torch.equal(calibration_weights(of_kinds(pack, [USUAL] * 3, [1.0] * 3)), torch.ones(3))


def test_each_kind_of_failure_is_told_from_usual_subjects_that_are_right(pack: SpritePack) -> None:
    kinds = [USUAL, USUAL, USUAL, ABSENT, EXCHANGED, EXCHANGED]
    made = of_kinds(pack, kinds, [1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    logits = torch.tensor([2.0, 1.0, 1.5, 0.0, 3.0, -9.0])
    assert identity_auc(logits, made) == {USUAL: 0.5, ABSENT: 1.0, EXCHANGED: 0.0}


def test_a_ranking_counts_pairs() -> None:
    answers = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert ranking(torch.tensor([3.0, 2.0, 1.0, 0.0]), answers) == 1.0
    assert ranking(torch.tensor([3.0, 0.0, 1.0, 2.0]), answers) == 0.5
    assert ranking(torch.tensor([1.0, 1.0, 1.0, 1.0]), answers) == 0.5


def test_unknown_answers_teach_nothing(pack: SpritePack) -> None:
    made = examples(pack)
    unknown = replace(made, weights=torch.zeros_like(made.weights).index_fill(1, torch.tensor([0]), 1.0))
    logits = torch.zeros(len(made), 3).requires_grad_()
    weighted_loss(logits, unknown).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 1:], torch.zeros(len(made), 2))
    assert bool((logits.grad[:, 0] != 0).all())


def test_the_loss_is_the_mean_surprise_at_the_known_answers(pack: SpritePack) -> None:
    made = examples(pack).rows(torch.arange(2))
    answers = torch.tensor([[1.0, 0.0, 0.7], [0.0, 1.0, 0.3]])
    weights = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    chances = torch.tensor([[0.9, 0.2, 0.6], [0.4, 0.5, 0.3]])
    surprises = [
        -math.log(0.9),
        -math.log(0.8),
        -0.7 * math.log(0.6) - 0.3 * math.log(0.4),
        -math.log(0.6),
        -0.3 * math.log(0.3) - 0.7 * math.log(0.7),
    ]
    known = replace(made, answers=answers, weights=weights)
    assert float(weighted_loss(chances.logit(), known)) == pytest.approx(sum(surprises) / 5, rel=1e-5)


def test_a_little_training_tells_what_is_there_from_what_is_not(pack: SpritePack) -> None:
    torch.manual_seed(0)
    network = ScorerNetwork(ScorerConfig(16, (8, 16, 32), 2))
    stage = ScorerStage(network, examples(pack, 16))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    batches = [examples(pack, 24, number) for number in range(1, 7)]
    before = stage.telemetry()["held_out_loss"]
    for step in range(60):
        stage.loss(batches[step % len(batches)], 0.0).backward()
        optimizer.step()
        optimizer.zero_grad()
    logits = all_logits(network, batches[0])
    assert ranking(logits[:, 0], batches[0].answers[:, 0]) > 0.8
    assert stage.telemetry()["held_out_loss"] < before
    assert stage.sheet().width > 0


def test_nearly_all_references_of_the_calibration_are_known() -> None:
    # Each has one more striped row than the one before.
    references = torch.ones(12, 3, 20, 20)
    references[:, :, 4:16, 4:16] = -0.5
    for striped in range(12):
        references[striped, :, 4 : 4 + striped, 4:16:2] = 0.0
    limit = find_most_uneven(references)
    assert [unevenness(view) > limit for view in references] == [False] * 11 + [True]


def test_the_artwork_is_split_by_things(pack: SpritePack) -> None:
    learning, calibration = split_pack(pack)
    assert len(learning) + len(calibration) == len(pack)
    assert not set(learning.by_concept) & set(calibration.by_concept)
    assert len(calibration.by_concept) == LEAST_APART


def test_of_many_things_a_share_is_kept_to_calibrate_with(pack: SpritePack) -> None:
    many = [replace(sprite, concept=f"thing:{number}") for number, sprite in enumerate(pack.sprites)]
    _, calibration = split_pack(SpritePack(many, pack.pictures))
    assert len(calibration) == round(0.15 * len(pack))


def test_too_few_things_are_told(pack: SpritePack) -> None:
    few = sorted(pack.by_concept)[: LEAST_THINGS - 1]
    with pytest.raises(InvalidInputError, match=f"at least {LEAST_THINGS} things; the artwork shows {len(few)}"):
        split_pack(pack.subset([index for concept in few for index in pack.by_concept[concept]]))


def test_as_few_things_as_can_be_split_give_scenes_of_every_group(pack: SpritePack) -> None:
    # One drawing of each, as in a folder of one's own.
    own = pack.subset([pack.by_concept[concept][0] for concept in sorted(pack.by_concept)[:LEAST_THINGS]])
    require_scenes(split_pack(own))


@pytest.mark.parametrize("count", [1, 4])
def test_too_few_drawings_are_told(pack: SpritePack, count: int) -> None:
    few = BenchPack(SpritePack([], []), pack.subset(range(count)))
    with pytest.raises(InvalidInputError, match="too small or too uniform"):
        draw_own_scene(np.random.default_rng(0), CandidateChooser(few), GROUPS["headline"], 0)


CARD = ModelCard(max_height=128, max_width=128)


@pytest.fixture(scope="module")
def chooser(pack: SpritePack) -> CandidateChooser:
    return CandidateChooser(BenchPack(SpritePack([], []), pack))


def own_scene(chooser: CandidateChooser, group: str) -> BenchScene:
    return draw_own_scene(np.random.default_rng(0), chooser, GROUPS[group], 0)


def test_an_absent_subject_is_asked_for_by_nothing(chooser: CandidateChooser) -> None:
    scene = own_scene(chooser, "three")
    spec = spec_of(scene, CARD)
    absent = spoiled_spec(spec, scene, ABSENT)
    assert absent.subjects == spec.subjects[1:]
    assert spec.subjects[0].phrase in spec.prompt
    assert spec.subjects[0].phrase not in absent.prompt
    assert all(subject.phrase in absent.prompt for subject in absent.subjects)
    assert (absent.seed, absent.height) == (spec.seed, spec.height)
    one = own_scene(chooser, "one")
    alone = spoiled_spec(spec_of(one, CARD), one, ABSENT)
    assert alone.subjects[0].scale == 0.0
    assert alone.prompt == one.scene.background


def test_exchanged_subjects_have_each_others_pictures(chooser: CandidateChooser) -> None:
    scene = own_scene(chooser, "three")
    spec = spec_of(scene, CARD)
    first, second, third = spec.subjects
    exchanged = spoiled_spec(spec, scene, EXCHANGED)
    assert [subject.image for subject in exchanged.subjects] == [second.image, first.image, third.image]
    assert [subject.box for subject in exchanged.subjects] == [subject.box for subject in spec.subjects]
    assert spoiled_spec(spec, scene, USUAL) == spoiled_spec(spec, scene, HALF_DRAWN) == spec


def test_of_eight_pictures_three_are_spoiled(chooser: CandidateChooser) -> None:
    three, one = own_scene(chooser, "three"), own_scene(chooser, "one")
    assert [kind_of(row, three) for row in range(BATCH_SIZE)] == [USUAL] * 5 + [ABSENT, EXCHANGED, HALF_DRAWN]
    assert [kind_of(row, one) for row in range(5, BATCH_SIZE)] == [ABSENT, USUAL, HALF_DRAWN]


def test_half_a_box_is_as_in_the_picture_without_the_subject() -> None:
    picture, absent = (Image.new("RGB", (16, 8), colour) for colour in ("red", "blue"))
    for side in range(4):
        blue = np.asarray(half_drawn(picture, absent, Box(0.25, 0.0, 0.75, 1.0), side))[..., 2] > 0
        rows, columns = np.nonzero(blue)
        assert int(blue.sum()) == 4 * 8
        expected = [(0, 7, 4, 7), (0, 7, 8, 11), (0, 3, 4, 11), (4, 7, 4, 11)][side]
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == expected
    assert np.asarray(picture)[..., 2].max() == 0


class BlueWhereAbsent:
    """Draws red pictures, and blue ones of requests that lack a subject."""

    card = CARD

    def run(self, specs: list[GenerationSpec]) -> list[Generation]:
        colours = ["blue" if len(spec.subjects) < 3 else "red" for spec in specs]
        return [Generation(Image.new("RGB", (128, 128), colour), torch.zeros(1, 1, 1, 1), 0, ()) for colour in colours]


def test_a_half_drawn_picture_is_made_of_two(pack: SpritePack, chooser: CandidateChooser) -> None:
    scene = own_scene(chooser, "three")
    scene = replace(scene, scene=replace(scene.scene, seed=7))
    drawer = _Drawer(BlueWhereAbsent(), pack, 0, SIDE)  # type: ignore[arg-type]
    kinds = [HALF_DRAWN, USUAL, ABSENT, EXCHANGED]
    half, usual, absent, exchanged = drawer._draw([scene] * 4, kinds, None)
    blue = [float((np.asarray(image)[..., 2] > 0).mean()) for image in (half, usual, absent, exchanged)]
    box = scene.original.subjects[0].box
    area = (box.x_max - box.x_min) * (box.y_max - box.y_min)
    assert blue == [pytest.approx(area / 2, abs=0.02), 0.0, 1.0, 0.0]
    assert half.tobytes() == half_drawn(usual, absent, box, side=7 % 4).tobytes()


@pytest.mark.faults
def test_drawings_that_look_alike_are_told(pack: SpritePack) -> None:
    alike = SpritePack(pack.sprites, [pack.pictures[0]] * len(pack))
    with pytest.raises(InvalidInputError, match="too small or too uniform"):
        require_scenes([alike])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The bundled model in a folder of its own, without its scorer if it has one."""
    directory = tmp_path / "model"
    shutil.copytree(ROOT / "models" / "mini", directory, ignore=shutil.ignore_patterns(SCORER_FILE))
    replace(ModelCard.load(directory), scorer=None).save(directory)
    return directory


def judge(
    directory: Path, pack: SpritePack, count: int, seed: int, side: int, folder: Path, team: Team
) -> Iterator[Path]:
    """Spoiled scenes in place of the model's own pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0000.safetensors"
    if not path.is_file():
        made = examples(pack, 8, seed)
        kinds = torch.where(made.answers[:, 0] > 0.5, KINDS.index(USUAL), KINDS.index(ABSENT))
        replace(made, kinds=kinds).save(path)
    yield path


def test_a_trained_scorer_is_put_into_its_model(pack: SpritePack, model: Path, tmp_path: Path) -> None:
    training = ScorerTraining(tmp_path / "scorer", model, pack, judge, SMOKE)
    assert training.run()
    card = training.save()
    assert (tmp_path / "scorer" / DONE).is_file()
    assert card.scorer.side == SIDE
    assert card.scorer is not None
    facts = card.training["scorer"]
    assert set(facts) >= {"identity_calibration_error", "present_auc", "box_iou_error"}
    held_out = ScorerExamples.load(tmp_path / "scorer" / "calibration" / "0000.safetensors")
    assert card.scorer.most_uneven == find_most_uneven(held_out.references.float())
    logits, weights = all_logits(training.network, held_out), calibration_weights(held_out)
    assert 0 < facts["not_present"] == int(held_out.is_kind(ABSENT).sum())
    assert set(facts["identity_auc"]) <= set(KINDS)
    assert ABSENT in facts["identity_auc"]
    assert card.scorer.present == calibrate(logits[:, 0], held_out.answers[:, 0], weights)
    assert card.scorer.present != calibrate(logits[:, 0], held_out.answers[:, 0])
    assert card.scorer.identity == calibrate(logits[:, 1], held_out.answers[:, 1], weights)
    kept = load_file(tmp_path / "scorer" / AVERAGE)
    assert all(torch.equal(value, kept[name]) for name, value in training.network.state_dict().items())
    told = Scorer(training.network, card.scorer).estimates(logits)
    errors = [expected_calibration_error(told[:, n], held_out.answers[:, n].float(), weights) for n in (0, 1)]
    assert errors == pytest.approx(
        [facts["present_calibration_error"], facts["identity_calibration_error"]], abs=5.1e-5
    )
    assert card.training["vae"] == ModelCard.load(ROOT / "models" / "mini").training["vae"]
    Scorer.load(model, card.scorer)
    assert check_inventory(model, hashes=True) == []
    stages = [json.loads(row)["stage"] for row in (model / "training_log.jsonl").read_text().splitlines()]
    assert stages[0] == "vae"
    assert stages[-1] == "scorer"
    # Once more changes nothing but the time.
    assert training.save() == card
    assert [json.loads(row)["stage"] for row in (model / "training_log.jsonl").read_text().splitlines()] == stages


def test_interrupted_training_goes_on_and_ends_the_same(pack: SpritePack, model: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE, stage=StageConfig(pictures=8, batch_size=4, warmup=2, autocast=False))
    whole = ScorerTraining(tmp_path / "whole", model, pack, judge, recipe)
    assert whole.run()
    assert not ScorerTraining(tmp_path / "parts", model, pack, judge, recipe).run(minutes=1e-9)
    while not ScorerTraining(tmp_path / "parts", model, pack, judge, recipe).run(minutes=1e-3):
        pass
    once, twice = ((tmp_path / name / "average.safetensors").read_bytes() for name in ("whole", "parts"))
    assert once == twice
    assert (tmp_path / "parts" / LOG).is_file()


def test_pictures_of_one_model_are_not_taken_for_those_of_another(
    pack: SpritePack, model: Path, tmp_path: Path
) -> None:
    ScorerTraining(tmp_path / "scorer", model, pack, judge, SMOKE)
    with (model / WEIGHTS_FILE).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckpointError, match="another model"):
        ScorerTraining(tmp_path / "scorer", model, pack, judge, SMOKE)


def test_a_scorer_can_begin_where_another_one_is(pack: SpritePack, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no scorer"):
        begin_scorer_from(model, tmp_path / "next")
    first = ScorerTraining(tmp_path / "first", model, pack, judge, SMOKE)
    first.run()
    first.save()
    begin_scorer_from(model, tmp_path / "next")
    # One step at a rate of next to nothing.
    stage = StageConfig(pictures=4, batch_size=4, learning_rate=1e-9, warmup=1, average_decay=0.0, autocast=False)
    following = ScorerTraining(tmp_path / "next", model, pack, judge, replace(SMOKE, stage=stage))
    assert following.run()
    following.save()
    for name, value in first.network.state_dict().items():
        assert torch.allclose(following.network.state_dict()[name], value, atol=2e-3)


def test_the_bundled_model_draws_and_the_judge_says_what_is_true(pack: SpritePack, model: Path, tmp_path: Path) -> None:
    card = json.loads((model / CARD_FILE).read_text())
    card["defaults"]["num_inference_steps"] = 2
    (model / CARD_FILE).write_text(json.dumps(card))
    some = pack.subset([index for concept in sorted(pack.by_concept)[:12] for index in pack.by_concept[concept]])
    files = list(judge_own_pictures(model, some, 2, 0, SIDE, tmp_path / "own"))
    (made,) = [ScorerExamples.load(path) for path in files]
    assert len(set(made.numbers.tolist())) == 2
    assert made.is_kind(USUAL).all()
    assert made.pictures.shape == (4, 6, SIDE, SIDE)
    assert bool(((made.answers >= 0) & (made.answers <= 1)).all())
    kept = files[0].stat().st_mtime_ns
    again = judge_own_pictures(model, some, 2, 0, SIDE, tmp_path / "own")
    assert [path.stat().st_mtime_ns for path in again] == [kept]
    # The only batch is the first process's.
    assert list(judge_own_pictures(model, some, 2, 0, SIDE, tmp_path / "own", Team(1, 2))) == []
