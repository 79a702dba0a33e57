"""Scenes: what the caption names is in the target, what the reference shows is not in the caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ms_core.data.records import TrainingSample
from ms_core.mini.backgrounds import BACKGROUNDS
from ms_core.mini.batches import SceneStream, load_batches, subject_counts
from ms_core.mini.scenes import TREATMENTS, Scene, SceneComposer, SceneConfig, caption_of, run_lengths, turn_hue
from ms_core.mini.sprites import SpritePack

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def composer() -> SceneComposer:
    return SceneComposer(SpritePack.load(ASSETS / "smoke-sprites.zip"))


def _scene(composer: SceneComposer, treatment: str, seed: int = 3) -> Scene:
    scene = composer.draw(np.random.default_rng(seed), num_subjects=2)
    return Scene(scene.placements, scene.background, treatment, scene.seed)


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
    sample: TrainingSample = composer.sample(composer.draw(np.random.default_rng(seed), count))
    assert len(sample.subjects) == count
    for subject in sample.subjects:
        start, end = subject.phrase_span
        assert sample.caption[start:end] == subject.phrase
        assert subject.mask is not None
        silhouette = _decode(subject.mask, sample.height, sample.width)
        rows, columns = np.nonzero(silhouette)
        box = subject.box
        assert box.x_min * sample.width <= columns.min()
        assert columns.max() < box.x_max * sample.width + 1e-6
        assert box.y_min * sample.height <= rows.min()
        assert rows.max() < box.y_max * sample.height + 1e-6


def _decode(runs: tuple[int, ...], height: int, width: int) -> np.ndarray:
    values = [np.full(length, index % 2 == 1) for index, length in enumerate(runs)]
    return np.concatenate(values).reshape(height, width)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_run_lengths_can_be_read_back(bits: list[bool]) -> None:
    mask = np.array(bits).reshape(3, 4)
    assert (_decode(run_lengths(mask), 3, 4) == mask).all()


def test_exchange_keeps_places_and_swaps_sprites(composer: SceneComposer) -> None:
    scene = _scene(composer, "")
    first, second = composer.exchange(scene).placements
    assert (first.sprite, second.sprite) == (scene.placements[1].sprite, scene.placements[0].sprite)
    assert [p.centre for p in (first, second)] == [p.centre for p in scene.placements]


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
    assert subject_counts(16, SceneConfig().weights) == [1] * 2 + [2] * 8 + [3] * 4 + [4] * 2


def test_batch_of_a_number_never_changes(composer: SceneComposer) -> None:
    streams = [SceneStream(composer.pack, SceneConfig(), 4, seed=1, first=first) for first in (0, 2)]
    ahead = streams[0].batch(2)
    again = next(iter(streams[1]))
    assert ahead.captions == again.captions
    assert bool((ahead.images == again.images).all())
    assert bool((ahead.references == again.references).all())


def test_several_processes_give_the_same_batches_in_the_same_order(composer: SceneComposer) -> None:
    stream = SceneStream(composer.pack, SceneConfig(), 2, seed=1, first=3)
    loaded = [batch.captions for batch, _ in zip(load_batches(stream, processes=2), range(4), strict=False)]
    assert loaded == [stream.batch(number).captions for number in range(3, 7)]
