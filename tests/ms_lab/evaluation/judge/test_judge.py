"""The judge on composed pictures: it finds what is there, sharp or soft, and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from threadpoolctl import threadpool_info, threadpool_limits

from ms_lab.evaluation.judge import judge
from ms_lab.evaluation.judge.judge import judge_picture, judge_swap
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.mini.painting import LIGHTS, PLAIN, TREATMENTS, light, paint_backdrop, paint_sprite, turn_hue
from ms_lab.mini.scenes import Placement
from ms_lab.mini.sprites import SpritePack
from tests.ms_lab.evaluation.judge.judged_scenes import SIZE, compose, with_place, without_subject
from tests.support.paths import ASSETS

PACK = ASSETS / "smoke-sprites.zip"
SOFT = ImageFilter.GaussianBlur(2.0)


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(PACK)


def place(pack: SpritePack, phrase: str, centre: tuple[float, float], size: float, turn: float = 0.0) -> Placement:
    index = next(i for i, sprite in enumerate(pack.sprites) if sprite.phrase == phrase)
    return Placement(index, turn, mirrored=False, centre=centre, size=size)


@pytest.fixture(scope="module")
def pair(pack: SpritePack) -> BenchScene:
    snail, taxi = place(pack, "snail", (0.65, 0.28), 0.45), place(pack, "oncoming taxi", (0.4, 0.75), 0.4, 120.0)
    return compose(pack, [snail, taxi])


@pytest.mark.parametrize("soft", [False, True])
def test_a_composite_is_right_in_everything(pair: BenchScene, pack: SpritePack, soft: bool) -> None:
    picture = pair.original.image.filter(SOFT) if soft else pair.original.image
    verdict = judge_picture(picture, pair, pack)
    assert verdict.background
    assert verdict.inside >= 0.95
    assert (verdict.place, verdict.treatment) == (None, None)
    for subject in verdict.subjects:
        assert (subject.identity, subject.identity_easy, subject.present) == (True, True, True)
        assert not subject.intruded
        assert subject.iou >= 0.8
        assert subject.treatment is None


def test_a_subject_left_out_is_absent_and_its_neighbour_is_not(pair: BenchScene, pack: SpritePack) -> None:
    for index in range(2):
        subjects = judge_picture(without_subject(pair, pack, index), pair, pack).subjects
        assert not subjects[index].present
        assert subjects[index].iou == 0.0
        assert not subjects[index].intruded
        assert subjects[1 - index].present


def test_exchanged_subjects_intrude_and_are_not_recognised(pair: BenchScene, pack: SpritePack) -> None:
    assert pair.exchanged is not None
    for subject in judge_picture(pair.exchanged.image, pair, pack).subjects:
        assert subject.present
        assert subject.intruded


def test_all_four_choices_of_a_swap_must_be_right(pair: BenchScene, pack: SpritePack) -> None:
    assert pair.exchanged is not None
    original, exchanged = pair.original.image, pair.exchanged.image
    assert judge_swap(original, exchanged, pair, pack)
    assert not judge_swap(original, original, pair, pack)
    assert not judge_swap(exchanged, exchanged, pair, pack)


def test_a_swap_needs_an_exchanged_composite(pair: BenchScene, pack: SpritePack) -> None:
    with pytest.raises(ValueError, match="exchanged"):
        judge_swap(pair.original.image, pair.original.image, replace(pair, exchanged=None), pack)


def test_another_colour_is_another_drawing(pair: BenchScene, pack: SpritePack) -> None:
    """The same scene with the first subject's colours turned: only the hard question tells."""
    snail, taxi = pair.scene.placements
    turned = compose(pack, [replace(snail, colour_turn=144.0), taxi])
    assert not judge_picture(turned.original.image, pair, pack).subjects[0].identity
    assert judge_picture(turned.original.image, turned, pack).subjects[0].identity


def test_four_subjects_are_told_apart(pack: SpritePack) -> None:
    names = ("dango", "kiwi fruit", "rocket", "closed umbrella")
    centres = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
    scene = compose(pack, [place(pack, name, centre, 0.4) for name, centre in zip(names, centres, strict=True)])
    for subject in judge_picture(scene.original.image, scene, pack).subjects:
        assert subject.identity
        assert subject.present
        assert not subject.intruded


@pytest.mark.parametrize("small_on_top", [False, True])
def test_a_small_subject_in_a_huge_ones_box_has_a_verdict_of_its_own(pack: SpritePack, small_on_top: bool) -> None:
    """A bouquet leaves the corners of its box free; the box covers nearly the whole picture."""
    placements = [place(pack, "saxophone", (0.5, 0.5), 0.9), place(pack, "tangerine", (0.16, 0.2), 0.24)]
    scene = compose(pack, placements if small_on_top else placements[::-1])
    subjects = judge_picture(scene.original.image, scene, pack).subjects
    assert [subject.identity_easy for subject in subjects] == [True, True]
    small = 1 if small_on_top else 0
    alone = judge_picture(without_subject(scene, pack, small), scene, pack).subjects
    assert [alone[small].present, alone[1 - small].present] == [False, True]


@pytest.mark.parametrize("shape", [(96, 160), (160, 96)])
def test_oblong_pictures_are_judged_like_squares(pack: SpritePack, shape: tuple[int, int]) -> None:
    centres = ((0.5, 0.25), (0.5, 0.75)) if shape[0] < shape[1] else ((0.25, 0.5), (0.75, 0.5))
    names = ("rocket", "kiwi fruit")
    scene = compose(pack, [place(pack, n, c, 0.6) for n, c in zip(names, centres, strict=True)], shape=shape)
    verdict = judge_picture(scene.original.image, scene, pack)
    assert verdict.background
    for subject in verdict.subjects:
        assert subject.identity
        assert subject.iou >= 0.8


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_a_treatment_is_found_on_the_subject(pack: SpritePack, treatment: str) -> None:
    scene = compose(pack, [place(pack, "snail", (0.5, 0.5), 0.55)], treatment=treatment)
    verdict = judge_picture(scene.original.image, scene, pack)
    assert verdict.background
    assert verdict.subjects[0].treatment == treatment
    assert verdict.treatment is True
    assert verdict.subjects[0].identity_easy


@pytest.mark.parametrize("treatment", LIGHTS)
def test_what_is_pasted_as_it_is_has_no_treatment(pack: SpritePack, treatment: str) -> None:
    """The background stands in the light that is named, the subject does not."""
    placement = place(pack, "snail", (0.5, 0.5), 0.55)
    scene = compose(pack, [placement], treatment=treatment)
    rng = np.random.default_rng(scene.scene.seed)
    pasted = light(paint_backdrop(scene.scene.background, rng, SIZE), treatment)
    paint_sprite(pasted, turn_hue(pack.pictures[placement.sprite], 0.0), placement.centre, placement.size)
    verdict = judge_picture(pasted, scene, pack)
    assert verdict.subjects[0].treatment == PLAIN
    assert verdict.treatment is False


def test_the_place_is_told_from_other_draws_of_its_kind(pack: SpritePack) -> None:
    kind, seed = "in the city", 5
    backdrops = [(kind, 1), (kind, 2), ("in the desert", 3), (kind, seed), ("in space", 4)]
    scene = with_place(compose(pack, [place(pack, "snail", (0.6, 0.5), 0.5)], kind, seed=seed), backdrops, 3)
    assert judge_picture(scene.original.image, scene, pack).place is True
    other = compose(pack, scene.scene.placements, kind, seed=2)
    assert judge_picture(other.original.image, scene, pack).place is False


def test_a_flat_picture_shows_nothing(pair: BenchScene, pack: SpritePack) -> None:
    verdict = judge_picture(Image.new("RGB", (SIZE, SIZE)), pair, pack)
    assert not verdict.background
    assert verdict.inside <= 1.0


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_matrices_are_multiplied_on_one_thread(pair: BenchScene, pack: SpritePack, monkeypatch) -> None:
    seen: list[set[int]] = []
    reading = judge.Reading
    monkeypatch.setattr(judge, "Reading", lambda *args: seen.append(blas_threads()) or reading(*args))
    with threadpool_limits(2, "blas"):
        judge_picture(pair.original.image, pair, pack)
        judge_swap(pair.original.image, pair.original.image, pair, pack)
        assert blas_threads() == {2}
    assert seen == [{1}] * 3
