"""The evaluation's scenes: fixed, fair, and made of held-out artwork alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.evaluation.scenes import (
    EVALUATION_SEED,
    MIN_COLOUR_TURN,
    NUM_CANDIDATES,
    EvaluationScene,
    draw_scenes,
    fingerprint,
)
from ms_core.mini.sprites import SpritePack

PACK = Path(__file__).parents[2] / "assets" / "heldout-sprites.zip"
# Whoever has to change this line raises JUDGE_VERSION: numbers measured before are void.
FINGERPRINT = "10b7c229acbc932fe788e28ec6cdb40c3e1812c6d1fe35bce78d78a37ef118a0"


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(PACK)


@pytest.fixture(scope="module")
def scenes(pack: SpritePack) -> list[EvaluationScene]:
    return draw_scenes(pack, 100)


def test_the_hundred_scenes_are_those_that_were_committed(scenes: list[EvaluationScene], pack: SpritePack) -> None:
    assert fingerprint(scenes, pack) == FINGERPRINT


def test_fewer_scenes_are_the_first_of_the_hundred(scenes: list[EvaluationScene], pack: SpritePack) -> None:
    assert fingerprint(draw_scenes(pack, 7, EVALUATION_SEED), pack) == fingerprint(scenes[:7], pack)


def test_scenes_have_two_held_out_subjects_and_no_treatment(scenes: list[EvaluationScene]) -> None:
    for scene in scenes:
        assert scene.scene.treatment == ""
        assert len(scene.original.subjects) == 2
        assert all(s.reference_source.startswith("openmoji/") for s in scene.original.subjects)


def test_candidates_are_the_true_one_three_of_its_name_and_six_others(
    scenes: list[EvaluationScene], pack: SpritePack
) -> None:
    for scene in scenes:
        for question in scene.questions:
            concepts = [pack.sprites[c.sprite].concept for c in question.candidates]
            assert len(set(question.candidates)) == NUM_CANDIDATES
            assert concepts.count(concepts[question.true]) == 4
            assert len(set(concepts)) == 7


def test_the_same_drawing_in_other_colours_is_turned_far(scenes: list[EvaluationScene]) -> None:
    for scene in scenes:
        for question in scene.questions:
            true = question.candidates[question.true]
            for rival in question.candidates:
                if rival.sprite == true.sprite and rival != true:
                    turn = (rival.colour_turn - true.colour_turn) % 360
                    assert MIN_COLOUR_TURN <= turn <= 360 - MIN_COLOUR_TURN


def test_the_true_candidates_place_tells_nothing(scenes: list[EvaluationScene]) -> None:
    places = [question.true for scene in scenes for question in scene.questions]
    assert set(places) == set(range(NUM_CANDIDATES))
    assert max(map(places.count, places)) <= 40


def test_the_other_subject_is_the_other_boxs_true_one(scenes: list[EvaluationScene]) -> None:
    for scene in scenes:
        first, second = scene.questions
        assert first.candidates[first.other] == second.candidates[second.true]
        assert second.candidates[second.other] == first.candidates[first.true]


def test_an_exchanged_subject_keeps_to_its_box(scenes: list[EvaluationScene]) -> None:
    """One pixel of 128 is left to rounding."""
    for scene in scenes:
        for box, subject in zip(scene.boxes, scene.exchanged.subjects, strict=True):
            assert subject.box.x_max - subject.box.x_min <= (box.x_max - box.x_min) * 1.12 + 2 / 128
            assert subject.box.y_max - subject.box.y_min <= (box.y_max - box.y_min) * 1.12 + 2 / 128
