"""Scenes: what the caption names is in the target, what the reference shows is not in the caption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from ms_core.spec import WHOLE_PICTURE, Box, GenerationSpec, Subject
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths, run_lengths
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.batches import SceneStream, Share, load_batches, subject_counts
from ms_lab.mini.painting import (
    LIGHTS,
    TREATMENTS,
    box_around,
    cut_centre,
    light,
    loosen,
    opaque_box,
    paint_backdrop,
    paint_sprite,
    turn_hue,
)
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneDrawer, SceneOdds
from ms_lab.mini.scenes import IN_THIS_PLACE, PLACE, Scene, SceneComposer, caption_of
from ms_lab.mini.sprites import SpritePack
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def composer() -> SceneComposer:
    return SceneComposer(SpritePack.load(ASSETS / "smoke-sprites.zip"))


def _drawn(composer: SceneComposer, seed: int, count: int) -> Scene:
    return SceneDrawer(composer.pack, PLAIN_SCENES).draw(np.random.default_rng(seed), count, PLAIN_SCENES.kinds[0])


def _scene(composer: SceneComposer, treatment: str, seed: int = 3) -> Scene:
    return replace(_drawn(composer, seed, 2), treatment=treatment)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32)


def test_same_scene_gives_same_sample(composer: SceneComposer) -> None:
    first, second = (composer.sample(_scene(composer, "at night")) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert [s.reference.tobytes() for s in first.subjects] == [s.reference.tobytes() for s in second.subjects]


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_treatment_changes_target_but_not_references(composer: SceneComposer, treatment: str) -> None:
    plain = composer.sample(_scene(composer, ""))
    treated = composer.sample(_scene(composer, treatment))
    assert np.abs(_pixels(plain.image) - _pixels(treated.image)).mean() > 1.0
    assert treated.caption == f"{plain.caption}, {treatment}"
    for a, b in zip(plain.subjects, treated.subjects, strict=True):
        assert a.reference_source == b.reference_source
        assert a.reference.size == b.reference.size
        assert np.abs(_pixels(a.reference) - _pixels(b.reference)).mean() < 15.0  # only its size may differ


def test_lights_leave_the_reference_exactly(composer: SceneComposer) -> None:
    plain = composer.sample(_scene(composer, ""))
    sepia = composer.sample(_scene(composer, "in sepia"))
    assert [s.reference.tobytes() for s in plain.subjects] == [s.reference.tobytes() for s in sepia.subjects]


def test_there_are_enough_backgrounds_and_treatments() -> None:
    assert len(BACKGROUNDS) >= 8
    assert set(TREATMENTS) == {
        "at night",
        "at sunset",
        "in sepia",
        "in black and white",
        "upside down",
        "tilted",
    }


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
def test_box_holds_the_silhouette_and_caption_the_phrase(composer: SceneComposer, seed: int, count: int) -> None:
    sample: TrainingSample = composer.sample(_drawn(composer, seed, count))
    assert len(sample.subjects) == count
    for subject in sample.subjects:
        start, end = subject.phrase_span
        assert sample.caption[start:end] == subject.phrase
        assert subject.mask is not None
        silhouette = from_run_lengths(subject.mask, sample.height, sample.width)
        rows, columns = np.nonzero(silhouette)
        box = subject.box
        assert box.x_min * sample.width <= columns.min()
        assert columns.max() < box.x_max * sample.width + 1e-6
        assert box.y_min * sample.height <= rows.min()
        assert rows.max() < box.y_max * sample.height + 1e-6


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_run_lengths_can_be_read_back(bits: list[bool]) -> None:
    mask = np.array(bits).reshape(3, 4)
    assert (from_run_lengths(run_lengths(mask), 3, 4) == mask).all()


@given(st.tuples(*[st.floats(0.0, 1.0)] * 4), st.floats(1.0, 2.0), st.booleans())
def test_a_loose_box_holds_the_box_and_keeps_its_middle(
    numbers: tuple[float, float, float, float], factor: float, upright: bool
) -> None:
    (x_min, x_max), (y_min, y_max) = sorted(numbers[:2]), sorted(numbers[2:])
    assume(min(x_max - x_min, y_max - y_min) > 0.01)
    box, loose = Box(x_min, y_min, x_max, y_max), loosen(Box(x_min, y_min, x_max, y_max), factor, upright)
    before, after = np.array(box.as_tuple()), np.array(loose.as_tuple())
    grown = [1, 3] if upright else [0, 2]
    assert (np.delete(before, grown) == np.delete(after, grown)).all()
    assert before[grown].sum() == pytest.approx(after[grown].sum())
    assert after[grown[0]] <= before[grown[0]] + 1e-9
    assert np.diff(after[grown])[0] <= factor * np.diff(before[grown])[0] + 1e-9


def test_a_subject_is_told_to_stand_where_its_drawing_stands_in_a_loose_box(composer: SceneComposer) -> None:
    odds = replace(PLAIN_SCENES, loose=1.0, box_margin=0.0, colour_turn=0.0)
    batch = SceneStream(composer.pack, odds, Share(8, seed=3)).batch(0)
    tight = SceneStream(composer.pack, replace(odds, loose=0.0), Share(8, seed=3)).batch(0)
    area = [(b[..., 2:] - b[..., :2]).prod(-1)[batch.present] for b in (batch.boxes, batch.places, tight.boxes)]
    assert (area[0] > area[2] - 1e-6).all()
    assert float((area[1] / area[2]).log().abs().median()) < 0.15


@pytest.mark.parametrize(("height", "width"), [(96, 160), (160, 96), (128, 128)])
def test_scene_has_its_own_shape_and_shows_the_middle_of_a_square_background(
    composer: SceneComposer, height: int, width: int
) -> None:
    bare = replace(_scene(composer, ""), placements=(), height=height, width=width)
    sample = composer.sample(replace(_scene(composer, ""), height=height, width=width))
    assert sample.image.size == (width, height)
    assert (sample.height, sample.width) == (height, width)
    square = paint_backdrop(bare.background, np.random.default_rng(bare.seed), max(height, width))
    bare_pixels = np.asarray(cut_centre(square, height, width))
    changed = (np.asarray(sample.image) != bare_pixels).any(-1)
    covered = np.zeros((height, width), bool)
    for subject in sample.subjects:
        box = subject.box
        covered[
            int(box.y_min * height) : int(box.y_max * height) + 1, int(box.x_min * width) : int(box.x_max * width) + 1
        ] = True
    assert 0.05 < changed.mean() < 0.95
    # Outside the boxes there may be no more than the sprites' soft edges.
    assert (changed & ~covered).mean() < 0.01


def test_scene_subject_comes_last_fills_the_picture_and_shows_the_background_alone(composer: SceneComposer) -> None:
    scene = replace(_scene(composer, "at night"), scene_subject=True, height=96, width=160)
    sample = composer.sample(scene)
    *drawn, place = sample.subjects
    assert len(drawn) == 2
    assert sample.caption.endswith(f"{IN_THIS_PLACE}, at night")
    assert scene.background not in sample.caption
    assert place.phrase == PLACE
    assert sample.caption[slice(*place.phrase_span)] == PLACE
    assert place.box == WHOLE_PICTURE
    assert place.mask is not None
    assert from_run_lengths(place.mask, 96, 160).all()
    background = paint_backdrop(scene.background, np.random.default_rng(scene.seed), 160)
    side = composer.config.reference_size
    shrunk = np.asarray(background.resize((side, side), Image.Resampling.BOX), np.float32)
    assert np.abs(_pixels(place.reference) - shrunk).max() <= 1.0


def test_scene_subject_changes_nothing_else(composer: SceneComposer) -> None:
    scene = _scene(composer, "")
    plain, with_place = composer.sample(scene), composer.sample(replace(scene, scene_subject=True))
    assert plain.image.tobytes() == with_place.image.tobytes()
    for a, b in zip(plain.subjects, with_place.subjects, strict=False):
        assert (a.phrase, a.box, a.mask) == (b.phrase, b.box, b.mask)
        assert a.reference.tobytes() == b.reference.tobytes()


def test_request_for_a_scene_subject_is_accepted(composer: SceneComposer) -> None:
    sample = composer.sample(replace(_scene(composer, ""), scene_subject=True))
    subjects = [Subject(s.phrase, s.reference, s.box, scene=s.phrase == PLACE) for s in sample.subjects]
    spec = GenerationSpec(sample.caption, tuple(subjects), height=sample.height, width=sample.width)
    assert spec.phrase_spans == tuple(s.phrase_span for s in sample.subjects)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(32, 96),
    width=st.integers(32, 96),
    row=st.floats(0.3, 0.7),
    column=st.floats(0.3, 0.7),
    size=st.floats(0.2, 0.5),
)
def test_sprite_is_painted_where_and_as_large_as_asked(
    height: int, width: int, row: float, column: float, size: float
) -> None:
    canvas = Image.new("RGB", (width, height))
    silhouette = paint_sprite(canvas, Image.new("RGBA", (96, 96), "white"), (row, column), size)
    box = box_around(silhouette)
    assert abs((box.x_max - box.x_min) * width - size * min(height, width)) <= 1.0
    assert abs((box.y_max - box.y_min) * height - size * min(height, width)) <= 1.0
    assert abs((box.x_min + box.x_max) / 2 * width - column * width) <= 1.0
    assert abs((box.y_min + box.y_max) / 2 * height - row * height) <= 1.0
    assert (np.asarray(canvas)[..., 0] == 255).sum() == silhouette.sum()


def test_mirrored_sprite_tilts_the_other_way() -> None:
    drawing = Image.new("RGBA", (64, 64))
    drawing.paste((255, 255, 255, 255), (0, 28, 64, 36))
    bars = [
        paint_sprite(Image.new("RGB", (64, 64)), drawing, (0.5, 0.5), 0.6, "tilted", mirrored=mirrored)
        for mirrored in (False, True)
    ]
    assert np.abs(bars[0].astype(int) - bars[1][:, ::-1]).mean() < 0.02
    assert np.abs(bars[0].astype(int) - bars[1]).mean() > 0.05


@settings(max_examples=50, deadline=None)
@given(
    top=st.integers(0, 20),
    left=st.integers(0, 30),
    height=st.integers(1, 12),
    width=st.integers(1, 10),
    margins=st.lists(st.floats(0, 0.5), min_size=4, max_size=4),
)
def test_box_around_a_rectangle_is_the_rectangle_and_its_margins(
    top: int, left: int, height: int, width: int, margins: list[float]
) -> None:
    mask = np.zeros((32, 40), bool)
    mask[top : top + height, left : left + width] = True
    assert box_around(mask) == Box(left / 40, top / 32, (left + width) / 40, (top + height) / 32)
    wide = box_around(mask, margins)
    assert wide.x_min == pytest.approx(max(0, left - margins[0] * width) / 40)
    assert wide.y_min == pytest.approx(max(0, top - margins[1] * height) / 32)
    assert wide.x_max == pytest.approx(min(40, left + width + margins[2] * width) / 40)
    assert wide.y_max == pytest.approx(min(32, top + height + margins[3] * height) / 32)


def test_opaque_box_leaves_out_what_can_hardly_be_seen() -> None:
    drawing = Image.new("RGBA", (10, 10), (0, 0, 0, 20))
    drawing.paste((0, 0, 0, 255), (2, 3, 8, 10))
    assert opaque_box(drawing) == Box(0.2, 0.3, 0.8, 1.0)


def test_light_is_for_lights_alone() -> None:
    picture = Image.new("RGB", (2, 2), (200, 100, 50))
    for treatment in TREATMENTS:
        assert (light(picture, treatment).tobytes() != picture.tobytes()) == (treatment in LIGHTS)
    grey = np.asarray(light(picture, "in black and white"))
    assert len(np.unique(grey)) == 1


def test_hue_turn_keeps_transparency_and_changes_colour() -> None:
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 200))
    turned = turn_hue(picture, 120.0)
    red, green, _, alpha = turned.getpixel((0, 0))
    assert alpha == 200
    assert green > red
    assert turn_hue(picture, 0.0) is picture


def test_caption_reads_naturally() -> None:
    text, spans = caption_of(["apple", "teapot"], "on the beach", "at night")
    assert text == "an apple and a teapot on the beach, at night"
    assert [text[a:b] for a, b in spans] == ["apple", "teapot"]


def test_every_batch_has_the_same_numbers_of_subjects() -> None:
    usual, *_, many, close_up = SceneOdds().kinds
    assert subject_counts(16, usual.subjects) == [1] * 2 + [2] * 8 + [3] * 4 + [4] * 2
    assert subject_counts(8, many.subjects) == [4, 4, 5, 5, 6, 6, 7, 8]
    assert subject_counts(8, close_up.subjects) == [1] * 5 + [2] * 3


def test_batch_of_a_number_never_changes(composer: SceneComposer) -> None:
    streams = [SceneStream(composer.pack, SceneOdds(), Share(4, seed=1, first=first)) for first in (0, 2)]
    ahead = streams[0].batch(2)
    again = next(iter(streams[1]))
    assert ahead.captions == again.captions
    assert bool((ahead.images == again.images).all())
    assert bool((ahead.references == again.references).all())


def test_no_process_of_a_step_waits_for_a_larger_kind_of_scenes(composer: SceneComposer) -> None:
    """Processes that train together have batches of one kind in each step, and scenes of their own."""
    team = [SceneStream(composer.pack, SceneOdds(), Share(2, seed=1, first=rank, every=2)) for rank in (0, 1)]
    steps = [[stream.batch(2 * step + rank) for rank, stream in enumerate(team)] for step in range(8)]
    assert all(left.images.shape == right.images.shape for left, right in steps)
    assert all(left.captions != right.captions for left, right in steps)
    assert len({left.images.shape for left, _ in steps}) > 1


def test_several_processes_give_the_same_batches_in_the_same_order(composer: SceneComposer) -> None:
    stream = SceneStream(composer.pack, SceneOdds(), Share(2, seed=1, first=3, every=2))
    for processes in (0, 2):
        loaded = [batch.captions for batch, _ in zip(load_batches(stream, processes), range(4), strict=False)]
        assert loaded == [stream.batch(number).captions for number in (3, 5, 7, 9)]
