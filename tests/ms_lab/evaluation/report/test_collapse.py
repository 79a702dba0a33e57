"""What each slot shows, counted from made-up likenesses and from made-up crops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from ms_lab.evaluation.judge.judge import judge_pictures
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene, candidate_picture
from ms_lab.evaluation.report.collapse import BLEND, DOMINANCE, DRIFT, MOVED, RIGHT, collapse
from ms_lab.mini.painting import paint_sprite
from tests.ms_lab.evaluation.judge.judged_scenes import without_subject
from tests.ms_lab.evaluation.report.bench_outcomes import found, outcome
from tests.ms_lab.evaluation.small_bench import draw_few
from tests.support.paths import ASSETS


def told(*likeness: Sequence[float]) -> tuple[str, ...]:
    return collapse(outcome([found(likeness=tuple(row)) for row in likeness], "number-3"))


def test_own_subjects_are_right() -> None:
    assert told((0.9, 0.4, 0.2), (0.3, 0.8, 0.7), (0.1, 0.1, 0.8)) == (RIGHT, RIGHT, RIGHT)


def test_two_that_changed_places_are_moved() -> None:
    assert told((0.3, 0.9, 0.1), (0.8, 0.2, 0.1), (0.1, 0.1, 0.9)) == (MOVED, MOVED, RIGHT)


def test_one_in_several_slots_dominates_those_of_others() -> None:
    assert told((0.9, 0.3, 0.1), (0.8, 0.2, 0.1), (0.9, 0.1, 0.2)) == (RIGHT, DOMINANCE, DOMINANCE)
    assert told((0.2, 0.9, 0.1), (0.3, 0.1, 0.2), (0.2, 0.9, 0.1)) == (DOMINANCE, DRIFT, DOMINANCE)


def test_what_is_like_none_drifts_and_so_does_what_is_absent() -> None:
    absent = found(likeness=(0.9, 0.1), present=False)
    assert collapse(outcome([absent, found(likeness=(0.1, 0.6))], "number-2")) == (DRIFT, DRIFT)


def test_what_is_as_like_another_as_its_own_is_blended() -> None:
    assert told((0.70, 0.68, 0.1), (0.72, 0.7, 0.2), (0.8, 0.79, 0.3)) == (BLEND, BLEND, DOMINANCE)


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS)


@pytest.fixture(scope="module")
def scene(pack: BenchPack) -> BenchScene:
    return draw_few(pack, {"number-3": 1})[0]


def judged(picture: Image.Image, scene: BenchScene, pack: BenchPack) -> tuple[str, ...]:
    (verdict,) = judge_pictures([picture], scene, pack)
    return collapse(Outcome(scene.group, 0, False, ("a", "b", "c"), verdict))


def painted(scene: BenchScene, pack: BenchPack, order: Sequence[int]) -> Image.Image:
    """In each place the drawing of another one, on the scene's background."""
    canvas = scene.original.image.copy()
    for place, drawing in enumerate(order):
        left_out = without_subject(scene, pack, place)
        box = scene.original.subjects[place].box.as_tuple()
        corner = tuple(round(128 * value) - 1 for value in box[:2])
        end = tuple(round(128 * value) + 1 for value in box[2:])
        canvas.paste(left_out.crop((*corner, *end)), corner)
        own = scene.scene.placements[place]
        paint_sprite(canvas, candidate_picture(pack, scene.subjects[drawing].drawing), own.centre, own.size)
    return canvas


def test_crops_of_composites_are_right_and_exchanged_ones_are_not(scene: BenchScene, pack: BenchPack) -> None:
    assert judged(scene.original.image, scene, pack) == (RIGHT, RIGHT, RIGHT)
    assert judged(painted(scene, pack, (1, 0, 2)), scene, pack) == (MOVED, MOVED, RIGHT)
    assert judged(painted(scene, pack, (0, 0, 2)), scene, pack) == (RIGHT, DOMINANCE, RIGHT)
    assert judged(without_subject(scene, pack, 2), scene, pack) == (RIGHT, RIGHT, DRIFT)
    other = Image.blend(scene.original.image, painted(scene, pack, (1, 0, 2)), 0.5)
    assert BLEND in judged(other, scene, pack)
