"""Random scenes to train on: within the picture, as far apart as they should be, and as varied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_lab.mini.painting import PLAIN
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneDrawer, SceneKind, SceneOdds, largest_overlap
from ms_lab.mini.sprites import SpritePack
from tests.support.paths import ASSETS

ALWAYS = replace(SceneOdds(), extreme=1.0, overlap=1.0, twins=1.0, scene_subject=1.0, treatment=1.0, variation=1.0)

(SQUARE,) = PLAIN_SCENES.kinds


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ASSETS / "smoke-sprites.zip")


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(SceneOdds().kinds), data=st.data())
def test_sprites_lie_within_the_picture(pack: SpritePack, seed: int, kind: SceneKind, data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([number for number, weight in enumerate(kind.subjects, 1) if weight]))
    scene = SceneDrawer(pack, SceneOdds()).draw(np.random.default_rng(seed), count, kind)
    assert (scene.height, scene.width) == (kind.height, kind.width)
    shape = kind.height, kind.width
    for placement in scene.placements:
        for centre, side in zip(placement.centre, shape, strict=True):
            half = placement.size * min(shape) / side / 2
            assert half - 1e-9 <= centre <= 1 - half + 1e-9


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 4))
def test_plain_scenes_hold_nothing_special(pack: SpritePack, seed: int, count: int) -> None:
    scene = SceneDrawer(pack, PLAIN_SCENES).draw(np.random.default_rng(seed), count, SQUARE)
    assert len(scene.placements) == count
    assert scene.treatment == PLAIN
    assert not scene.scene_subject
    assert all(placement.variation is None and not placement.mirrored for placement in scene.placements)
    assert largest_overlap([(*placement.centre, placement.size) for placement in scene.placements]) <= 0.1


def test_a_scene_subject_counts_as_one(pack: SpritePack) -> None:
    scene = SceneDrawer(pack, ALWAYS).draw(np.random.default_rng(0), 3, SQUARE)
    assert scene.scene_subject
    assert len(scene.placements) == 2


def test_one_subject_is_never_the_scene_alone(pack: SpritePack) -> None:
    scene = SceneDrawer(pack, ALWAYS).draw(np.random.default_rng(0), 1, SQUARE)
    assert not scene.scene_subject
    assert len(scene.placements) == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_twins_are_one_thing_by_two_artists(pack: SpritePack, seed: int) -> None:
    odds = replace(PLAIN_SCENES, twins=1.0)
    scene = SceneDrawer(pack, odds).draw(np.random.default_rng(seed), 2, SQUARE)
    first, second = (pack.sprites[placement.sprite] for placement in scene.placements)
    assert first.concept == second.concept
    assert first.artist != second.artist


def test_overlap_of_squares_is_a_share_of_the_smaller() -> None:
    assert largest_overlap([(0.5, 0.5, 0.4), (0.5, 0.7, 0.2)]) == pytest.approx(0.5)
    assert largest_overlap([(0.2, 0.2, 0.2), (0.8, 0.8, 0.2)]) == 0.0
    assert largest_overlap([(0.5, 0.5, 0.8), (0.5, 0.5, 0.1)]) == pytest.approx(1.0)
