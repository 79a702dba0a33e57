"""Photographs as references: every one is asked for once, among nine others, and the judge knows them in composites."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ms_core.config import ModelCard
from ms_core.spec import GenerationSpec
from ms_lab.evaluation.judge.judge import judge_picture
from ms_lab.evaluation.photos import (
    NEGLECT,
    PHOTO_PACK,
    asked_of,
    draw_photo_scenes,
    draw_sheet,
    summarise,
)
from ms_lab.evaluation.questions.candidates import NUM_CANDIDATES
from ms_lab.evaluation.questions.columns import MODEL, SCALE_ZERO, THROUGH_VAE, Requests, Settings
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.run.columns import make_columns
from ms_lab.evaluation.run.making import Maker
from ms_lab.mini.painting import paint_backdrop
from ms_lab.mini.sprites import SpritePack
from tests.support.paths import ASSETS

CARD = replace(ModelCard(name="painter"), defaults=replace(ModelCard(name="painter").defaults, height=128, width=128))


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ASSETS / PHOTO_PACK)


@pytest.fixture(scope="module")
def scenes(pack: SpritePack) -> list[BenchScene]:
    return draw_photo_scenes(pack)


def test_every_photograph_is_asked_for_once(pack: SpritePack, scenes: list[BenchScene]) -> None:
    asked = Counter(subject.drawing.sprite for scene in scenes for subject in scene.subjects)
    assert asked == Counter(range(len(pack)))
    for scene in scenes:
        phrases = [pack.sprites[subject.drawing.sprite].phrase for subject in scene.subjects]
        assert [subject.phrase for subject in scene.original.subjects] == phrases


def test_questions_hold_the_true_one_among_ten_different_ones(scenes: list[BenchScene]) -> None:
    for subject in (subject for scene in scenes for subject in scene.subjects):
        question = subject.easy
        assert len(set(question.candidates)) == NUM_CANDIDATES
        assert question.candidates[question.true] == subject.drawing
        assert subject.hard == question
    places = Counter(subject.easy.true for scene in scenes for subject in scene.subjects)
    assert len(places) == NUM_CANDIDATES  # the true one's place tells nothing


def test_the_judge_knows_photographs_in_composites(pack: SpritePack, scenes: list[BenchScene]) -> None:
    for scene in scenes[:2]:
        verdict = judge_picture(scene.original.image, scene, pack)
        assert all(subject.identity_easy and subject.present for subject in verdict.subjects)
    empty = paint_backdrop(scenes[0].scene.background, np.random.default_rng(scenes[0].scene.seed), 128)
    assert not any(subject.present for subject in judge_picture(empty, scenes[0], pack).subjects)


def _shrink(pictures: list[Image.Image]) -> list[Image.Image]:
    return [picture.resize((32, 32)).resize(picture.size) for picture in pictures]


def test_columns_are_in_the_order_of_the_scenes(pack: SpritePack, scenes: list[BenchScene]) -> None:
    by_caption = {scene.original.caption: scene.original.image for scene in scenes}
    grey = Image.new("RGB", (128, 128), (128, 128, 128))

    def paint(specs: list[GenerationSpec]) -> list[Image.Image]:
        return [grey if spec.scale == 0.0 else by_caption[spec.prompt] for spec in specs]

    few = scenes[:3]
    made: list[int] = []
    requests = Requests(few, True, CARD, Settings())
    pictures = make_columns(requests, Maker(paint, _shrink, batch_size=2), asked_of(requests), made.append)
    assert pictures[MODEL] == [scene.original.image for scene in few]
    assert pictures[SCALE_ZERO] == [grey] * 3
    assert pictures[THROUGH_VAE] == _shrink(pictures[MODEL])
    assert sum(made) == 9


def test_summary_and_sheet_tell_what_was_recognised(pack: SpritePack, scenes: list[BenchScene]) -> None:
    few = scenes[:2]
    grey = Image.new("RGB", (128, 128), (128, 128, 128))
    pictures = [few[0].original.image, grey]
    verdicts = [judge_picture(picture, scene, pack) for picture, scene in zip(pictures, few, strict=True)]
    summary = summarise(verdicts)
    assert summary[NEGLECT].value == pytest.approx(0.5)
    assert summary[NEGLECT].count == 2
    assert summary[NEGLECT].low < 0.5 < summary[NEGLECT].high
    colours = {colour for _, colour in draw_sheet(few, pictures, verdicts).getcolors(1 << 20) or []}
    assert (0, 138, 84) in colours
