"""What the scorer looks at, and what it tells; with random weights, for none of this depends on the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from ms_core.config import SCORER_FILE, Calibration, ModelCard
from ms_core.errors import CheckpointError, DeviceOutOfMemoryError, ModelNotFoundError
from ms_core.sampling.latents import decode_latents
from ms_core.sampling.pipeline import Generation, ModelParts, MSDiffusionPipeline, Progress
from ms_core.sampling.redraws import PASSING
from ms_core.sampling.starts import redraw_weights
from ms_core.scoring import Question, Scorer
from ms_core.scoring.views import REACH, Window, picture_view, reference_view, to_planes, unevenness
from ms_core.spec import Box, GenerationSpec, Subject, derived_seed
from ms_core.spec.resolve import ResolvedSpec
from ms_core.spec.score import UNKNOWN_SCORE, Redraw, SubjectScore
from tests.support.random_scorer import SIZES, add_scorer, random_scorer, scored_copy

SIDE = 48
LEFT, RIGHT = Box(0.05, 0.3, 0.45, 0.8), Box(0.5, 0.2, 0.95, 0.9)


def noise(seed: int, height: int = 40, width: int = 56) -> Image.Image:
    values = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(values.numpy())


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x_min, y_min = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    return Box(x_min, y_min, draw(st.floats(x_min + 0.05, 1)), draw(st.floats(y_min + 0.05, 1)))


@settings(max_examples=30)
@given(box=boxes(), height=st.integers(16, 160), width=st.integers(16, 160))
def test_a_view_shows_all_of_its_box_and_some_more(box: Box, height: int, width: int) -> None:
    window = Window.around(box, height, width)
    own = picture_view(torch.zeros(3, height, width), box, [], SIDE)[3]
    box_height, box_width = (box.y_max - box.y_min) * height, (box.x_max - box.x_min) * width
    assert window.side == pytest.approx(REACH * max(box_height, box_width))
    assert float(own.sum()) * (window.side / SIDE) ** 2 == pytest.approx(box_height * box_width, rel=1e-3)


@settings(max_examples=30)
@given(box=boxes(), height=st.integers(16, 160), width=st.integers(16, 160), grey=st.floats(-1, 1))
def test_an_even_picture_is_even_wherever_there_is_any(box: Box, height: int, width: int, grey: float) -> None:
    view = picture_view(torch.full((3, height, width), grey), box, [], SIDE)
    assert torch.allclose(view[:3], grey * view[5].expand(3, -1, -1), atol=1e-4)
    assert float(view[3:].min()) >= 0
    assert float(view[3:].max()) <= 1 + 1e-5


def test_other_boxes_have_a_plane_of_their_own() -> None:
    view = picture_view(torch.zeros(3, 64, 64), LEFT, [RIGHT, Box(0.0, 0.0, 0.2, 0.2)], SIDE)
    assert float(view[4].max()) == 1.0
    assert float((view[3] * picture_view(torch.zeros(3, 64, 64), LEFT, [RIGHT], SIDE)[4]).sum()) == pytest.approx(0.0)


@settings(max_examples=30)
@given(left=st.integers(0, 30), top=st.integers(0, 30), width=st.integers(8, 34), height=st.integers(8, 34))
def test_a_references_subject_is_as_large_as_one_that_fills_its_box(
    left: int, top: int, width: int, height: int
) -> None:
    reference = torch.ones(3, 64, 64)
    reference[:, top : top + height, left : left + width] = -1.0
    box = Box.from_pixels((left, top, left + width, top + height), 64, 64)
    own = picture_view(reference, box, [], SIDE)[3]
    # Only at its edge, where both are soft, may they differ.
    differs = ((1 - reference_view(reference, SIDE)[0]) / 2 - own).abs() > 0.1
    edge = own.unfold(0, 5, 1).unfold(1, 5, 1).flatten(2)
    assert not bool((differs[2:-2, 2:-2] & (edge.amin(2) == edge.amax(2))).any())


def test_a_reference_without_even_ground_is_seen_as_a_whole() -> None:
    photograph = to_planes(noise(0, 96, 96))
    view = reference_view(photograph, 12)
    assert view[:, 2:-2, 2:-2].mean((1, 2)) == pytest.approx(photograph.mean((1, 2)), abs=0.05)


def test_noise_on_even_ground_is_no_subject() -> None:
    reference = torch.ones(3, 64, 64)
    reference[:, 20:44, 20:44] = -1.0
    speckled = reference - 0.1 * torch.rand(reference.shape, generator=torch.Generator().manual_seed(0))
    assert (reference_view(speckled, SIDE) - reference_view(reference, SIDE)).abs().max() < 0.15


def test_an_even_reference_is_even() -> None:
    assert torch.allclose(
        reference_view(torch.full((3, 40, 30), 0.3), SIDE), torch.full((3, SIDE, SIDE), 0.3), atol=1e-5
    )


def drawn(colours: Image.Image) -> Image.Image:
    """A reference whose subject, a square on white, has these colours."""
    reference = Image.new("RGB", (64, 64), "white")
    reference.paste(colours.resize((40, 40)), (12, 12))
    return reference


FLAT, PHOTOGRAPH = drawn(Image.new("RGB", (8, 8), "teal")), drawn(noise(5))


def test_a_flat_subject_is_even_and_a_photograph_is_not() -> None:
    flat, photograph, nothing = (
        unevenness(reference_view(to_planes(image), SIDE)) for image in (FLAT, PHOTOGRAPH, Image.new("RGB", (64, 64)))
    )
    assert nothing == 0.0
    # At its edge a resampled subject has other colours.
    assert flat < 0.2
    assert photograph > 0.9


def test_half_of_a_subject_that_is_uneven_counts_half() -> None:
    view = torch.full((3, 20, 20), 1.0)
    view[:, 4:16, 4:16] = -0.5
    assert unevenness(view) == 0.0
    # Columns of two colours: neighbours in a row differ, those in a column do not.
    view[:, 4:16, 4:16:2] = 0.0
    assert unevenness(view) == pytest.approx(0.5)
    # The ground does not count.
    view[:, 0, 0:3] = 0.9
    assert unevenness(view) == pytest.approx(0.5)


def test_a_scorer_knows_what_is_as_even_as_its_limit(scorer: Scorer) -> None:
    assert all(scorer.knows(image) for image in (FLAT, PHOTOGRAPH))
    limited = Scorer(scorer.network, replace(scorer.config, most_uneven=0.5))
    assert [limited.knows(image) for image in (FLAT, PHOTOGRAPH)] == [True, False]
    least = unevenness(reference_view(to_planes(FLAT), scorer.config.side))
    assert Scorer(scorer.network, replace(scorer.config, most_uneven=least)).knows(FLAT)


@pytest.fixture
def scorer() -> Scorer:
    return random_scorer(Calibration())


def test_scores_are_numbers_from_0_to_1_in_the_order_of_the_questions(scorer: Scorer) -> None:
    questions = [Question((noise(2),), LEFT, (RIGHT,)), Question((noise(3),), RIGHT, (LEFT,))]
    both = scorer.score(noise(4), questions)
    alone = [scorer.score(noise(4), [question])[0] for question in questions]
    for one, other in zip(both, alone, strict=True):
        assert (one.present, one.identity, one.box_iou) == pytest.approx(
            (other.present, other.identity, other.box_iou), abs=1e-5
        )
        assert 0 < one.weaker <= one.present < 1
    assert scorer.score(noise(4), []) == ()


def test_several_references_of_a_subject_count_the_same(scorer: Scorer) -> None:
    one, two = noise(2), noise(3)
    logits = scorer.logits(noise(4), [Question((image,), LEFT) for image in (one, two)])
    both = scorer.logits(noise(4), [Question((one, two), LEFT)])
    assert torch.allclose(both[0], logits.mean(0), atol=1e-5)


def test_the_reference_and_the_box_count(scorer: Scorer) -> None:
    asked = [Question((noise(2),), LEFT), Question((noise(3),), LEFT), Question((noise(2),), RIGHT)]
    logits = scorer.logits(noise(4), asked)
    assert len({tuple(row.tolist()) for row in logits}) == 3


def test_a_calibration_moves_its_own_estimate_only(scorer: Scorer) -> None:
    logits = torch.tensor([[0.5, 0.5, 0.5]])
    moved = Scorer(scorer.network, replace(SIZES, identity=Calibration(slope=2.0, offset=-1.0)))
    assert moved.estimates(logits)[0].tolist() == pytest.approx([0.6225, 0.5, 0.6225], abs=1e-4)


def test_what_is_saved_is_loaded(scorer: Scorer, tmp_path: Path) -> None:
    scorer.save(tmp_path)
    loaded = Scorer.load(tmp_path, scorer.config)
    question = [Question((noise(2),), LEFT)]
    assert torch.allclose(loaded.logits(noise(4), question), scorer.logits(noise(4), question), atol=1e-2)


def test_a_card_that_tells_of_a_scorer_needs_its_weights(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=SCORER_FILE):
        Scorer.load(tmp_path, scorer.config)
    save_file({"other": torch.zeros(1)}, tmp_path / SCORER_FILE)
    with pytest.raises(CheckpointError, match="does not fit"):
        Scorer.load(tmp_path, scorer.config)
    (tmp_path / SCORER_FILE).write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="does not fit"):
        Scorer.load(tmp_path, scorer.config)


def test_a_model_directory_keeps_its_scorer(golden_model_directory: Path, tmp_path: Path) -> None:
    ModelCard.load(golden_model_directory).save(tmp_path)
    card = add_scorer(tmp_path)
    assert card.scorer == random_scorer().config
    for most_uneven in (None, 0.5):
        kept = replace(card, scorer=replace(card.scorer, most_uneven=most_uneven))
        assert ModelCard.from_dict(kept.to_dict()) == kept


@pytest.fixture(scope="module")
def pipeline(golden_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> MSDiffusionPipeline:
    directory = scored_copy(golden_model_directory, tmp_path_factory.mktemp("scored"))
    return MSDiffusionPipeline(ModelParts.load(directory, torch.float32))


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subjects = (
        Subject("dog", reference_picture(0), LEFT),
        Subject("beach", reference_picture(1), scene=True),
        Subject("cat", (reference_picture(2), reference_picture(3)), RIGHT),
    )
    return GenerationSpec(
        "a dog and a cat on the beach", subjects, height=64, width=72, num_inference_steps=2, seed=3, score=True
    )


def test_the_pipeline_scores_what_it_decoded(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> None:
    (generation,) = pipeline.run(spec)
    assert pipeline.scorer is not None
    dog, scene, cat = generation.scores
    assert scene is None
    seen = [tuple(view.image for view in pipeline.conditioner.reader.see(subject)) for subject in spec.subjects]
    questions = [Question(seen[0], LEFT, (RIGHT,)), Question(seen[2], RIGHT, (LEFT,))]
    assert (dog, cat) == pipeline.scorer.score(generation.image, questions)


def test_a_subject_whose_references_have_one_colour_has_no_score(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec
) -> None:
    """Its box still counts for the others; of several references, the blank one does not."""
    dog, beach, cat = spec.subjects
    white = Image.new("RGB", (20, 20), "white")
    blank = replace(dog, image=white)
    partly = replace(cat, image=(white, *cat.images))
    (plain,), (generation,) = pipeline.run(spec), pipeline.run(replace(spec, subjects=(blank, beach, partly)))
    assert generation.scores[:2] == (UNKNOWN_SCORE, None)
    assert pipeline.scorer is not None
    views = tuple(view.image for view in pipeline.conditioner.reader.see(cat))
    assert generation.scores[2:] == pipeline.scorer.score(generation.image, [Question(views, RIGHT, (LEFT,))])
    assert len(plain.scores) == 3
    assert plain.scores[0] != UNKNOWN_SCORE


def test_a_subject_without_a_picture_has_no_score_and_its_box_counts_for_the_others(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec
) -> None:
    dog, beach, cat = spec.subjects
    words = replace(dog, image=None, prompt="a dog")
    (generation,) = pipeline.run(replace(spec, subjects=(words, beach, cat)))
    assert generation.scores[:2] == (None, None)
    assert pipeline.scorer is not None
    views = tuple(view.image for view in pipeline.conditioner.reader.see(cat))
    assert generation.scores[2:] == pipeline.scorer.score(generation.image, [Question(views, RIGHT, (LEFT,))])
    (alone,) = pipeline.run(replace(spec, subjects=(words,), retries=2))
    assert (alone.scores, alone.draws) == ((None,), 1)


def test_references_unlike_what_the_scorer_knows_are_left_out_with_a_warning(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    dog, beach, cat = spec.subjects
    shown = replace(
        spec, subjects=(replace(dog, image=PHOTOGRAPH), beach, replace(cat, image=(PHOTOGRAPH, FLAT))), retries=1
    )
    (older,) = pipeline.run(replace(shown, retries=0))
    assert pipeline.scorer is not None
    monkeypatch.setattr(pipeline.scorer, "config", replace(pipeline.scorer.config, most_uneven=0.5))
    (generation,) = pipeline.run(shown)
    (unasked,) = pipeline.run(replace(shown, score=False, retries=0))
    assert generation.scores[:2] == (UNKNOWN_SCORE, None)
    views = (pipeline.conditioner.reader.see(replace(cat, image=FLAT))[0].image,)
    assert generation.scores[2:] == pipeline.scorer.score(generation.image, [Question(views, RIGHT, (LEFT,))])
    pointers = ["/subjects/0/image", "/subjects/2/images/0"]
    assert [warning.pointer for warning in generation.warnings if warning.code == "unfamiliar_reference"] == pointers
    assert UNKNOWN_SCORE not in older.scores
    for plain in (older, unasked):
        assert "unfamiliar_reference" not in [warning.code for warning in plain.warnings]


def test_the_kept_draw_can_be_made_again_by_its_seed(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> None:
    (best,) = pipeline.run(replace(spec, retries=2))
    draws = [pipeline.run(replace(spec, seed=derived_seed(3, draw)))[0] for draw in range(3)]
    assert best.draws == 3
    assert best.weakest == max(draw.weakest for draw in draws) < PASSING
    (again,) = (draw for draw in draws if draw.seed == best.seed)
    assert again.image.tobytes() == best.image.tobytes()


GOOD, BAD = SubjectScore(0.99, 0.9, 0.5), SubjectScore(0.99, 0.1, 0.5)


def plays(monkeypatch: pytest.MonkeyPatch, pipeline: MSDiffusionPipeline, cats: Mapping[int, SubjectScore]) -> None:
    """Have the cat, the last subject, score by the seed of its picture; the rest is always good."""

    def score(row: ResolvedSpec, generation: Generation) -> tuple[SubjectScore | None, ...]:
        return (GOOD, None, cats.get(generation.seed, BAD))

    monkeypatch.setattr(pipeline, "_score", score)


def test_a_redrawn_place_leaves_the_rest_to_the_last_bit(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = pipeline.run(spec)
    plays(monkeypatch, pipeline, {derived_seed(3, 1): GOOD})
    (best,) = pipeline.run(replace(spec, retries=2))
    assert (best.redraws, best.seed) == ((Redraw(2, True),), 3)
    inside = redraw_weights(spec.subjects, (2,), *first.latents.shape[-2:])[0] > 0
    assert torch.equal(best.latents[..., ~inside], first.latents[..., ~inside])
    assert (best.latents - first.latents)[..., inside].abs().amax(1).min() > 1e-3
    # From its own latents, so the picture is the VAE's word on them and no more.
    assert decode_latents(pipeline.components, best.latents).tobytes() == best.image.tobytes()
    (again,) = pipeline.run(replace(spec, retries=2))
    assert again.image.tobytes() == best.image.tobytes()


def test_who_ends_while_a_place_is_drawn_again_leaves_nothing_behind(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(monkeypatch, pipeline, {derived_seed(3, 1): GOOD})
    whole = pipeline.run(replace(spec, retries=1))
    events = pipeline.generate(replace(spec, retries=1))
    # Two steps of the first draw; the third is within the second.
    assert any(isinstance(event, Progress) and event.step == 3 for event in events)
    events.close()
    (plain,), again = pipeline.run(replace(spec, score=False)), pipeline.run(replace(spec, retries=1))
    assert again[0].redraws == (Redraw(2, True),)
    assert torch.equal(again[0].latents, whole[0].latents)
    assert not torch.equal(plain.latents, whole[0].latents)


@pytest.mark.parametrize("scheduler", ["euler", "euler_ancestral"])
def test_a_batch_of_whole_and_partial_redraws_gives_each_the_picture_it_gets_alone(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    dog, beach, cat = spec.subjects
    spec = replace(spec, scheduler=scheduler, retries=1, num_inference_steps=3)
    # Alone, the cat's failure is that of all.
    specs = [spec, replace(spec, seed=5, subjects=(cat, beach))]
    score = {3: (GOOD, None, BAD), 5: (BAD, None)}
    monkeypatch.setattr(
        pipeline, "_score", lambda row, made: score.get(made.seed, (GOOD, None, GOOD)[: len(row.spec.subjects)])
    )
    together = pipeline.run(specs)
    assert [made.redraws for made in together] == [(Redraw(2, True),), (Redraw(None, True),)]
    for made, single in zip(together, specs, strict=True):
        (alone,) = pipeline.run(single)
        torch.testing.assert_close(made.latents, alone.latents, atol=1e-3, rtol=1e-3)


def test_a_redrawn_place_survives_a_device_without_memory(
    pipeline: MSDiffusionPipeline, spec: GenerationSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(monkeypatch, pipeline, {derived_seed(3, 1): GOOD, derived_seed(4, 1): GOOD})
    specs = [replace(spec, retries=1), replace(spec, seed=4, retries=1)]
    whole = pipeline.run(specs)
    calls = 0

    def full(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise DeviceOutOfMemoryError("Full.")

    handle = pipeline.unet.register_forward_pre_hook(full)
    try:
        retried = pipeline.run(specs)
    finally:
        handle.remove()
    for one, other in zip(whole, retried, strict=True):
        assert other.redraws == (Redraw(2, True),)
        assert [warning.code for warning in other.warnings][-1] == "memory_retry"
        torch.testing.assert_close(one.latents, other.latents, atol=1e-3, rtol=1e-3)


def test_scoring_changes_no_picture(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> None:
    (scored,), (plain,) = pipeline.run(spec), pipeline.run(replace(spec, score=False))
    assert scored.image.tobytes() == plain.image.tobytes()
    assert plain.scores == ()
