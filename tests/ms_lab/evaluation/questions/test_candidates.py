"""What a box is asked: ten drawings that can be told apart, chosen so that no single cue gives the true one away."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ms_lab.evaluation.questions.candidates import (
    MIN_COLOUR_TURN,
    NUM_CANDIDATES,
    NUM_SAME_NAME,
    NUM_TURNED,
    Candidate,
    CandidateChooser,
    Question,
    candidate_picture,
    draw_turn,
)
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.visibility import VISIBLE_DIFFERENCE, Look
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def chooser() -> CandidateChooser:
    return CandidateChooser(BenchPack.read(ASSETS))


@pytest.fixture(scope="module")
def asked(chooser: CandidateChooser) -> list[tuple[Candidate, Question, Question]]:
    """A hard and an easy question on every 23rd drawing, half of them turned."""
    rng = np.random.default_rng(0)
    trues = [Candidate(sprite, draw_turn(rng)) for sprite in range(0, len(chooser.pack), 23)]
    return [(true, chooser.hard(rng, true), chooser.easy(rng, true)) for true in trues]


def _turn(true: Candidate, other: Candidate) -> float:
    """Hue turn from one to the other, at most 180 degrees."""
    turn = abs(true.colour_turn - other.colour_turn) % 360
    return min(turn, 360 - turn)


def _difference(first: Image.Image, second: Image.Image) -> float:
    """Mean difference where either is opaque, at full size: not the way in which candidates are chosen."""
    pixels = [np.asarray(picture, np.float64) for picture in (first, second)]
    opacity = [p[..., 3:] / 255 for p in pixels]
    colours = [p[..., :3] * o + 128 * (1 - o) for p, o in zip(pixels, opacity, strict=True)]
    weight = np.maximum(*opacity)[..., 0]
    return float((np.abs(colours[0] - colours[1]).mean(-1) * weight).sum() / weight.sum())


def test_questions_have_ten_different_candidates_and_the_true_one(
    asked: list[tuple[Candidate, Question, Question]],
) -> None:
    for true, *questions in asked:
        for question in questions:
            assert len(set(question.candidates)) == NUM_CANDIDATES
            assert question.candidates[question.true] == true


def test_hard_candidates_are_turns_then_rivals_of_the_name_then_like_colours(
    chooser: CandidateChooser, asked: list[tuple[Candidate, Question, Question]]
) -> None:
    kinds: Counter[tuple[int, int]] = Counter()
    for true, hard, _ in asked:
        own = chooser.pack.sprites[true.sprite]
        others = [c for c in hard.candidates if c != true]
        turned = [c for c in others if c.sprite == true.sprite]
        named = [c for c in others if c.sprite != true.sprite and chooser.pack.sprites[c.sprite].concept == own.concept]
        rest = [c for c in others if chooser.pack.sprites[c.sprite].concept != own.concept]
        assert len(turned) <= NUM_TURNED
        assert len(turned) + len(named) <= NUM_TURNED + NUM_SAME_NAME
        assert all(_turn(true, c) >= MIN_COLOUR_TURN for c in turned)
        assert all(_turn(a, b) >= 40 for a in turned for b in turned if a != b)
        assert all(c.colour_turn == true.colour_turn for c in named)
        assert all(chooser.pack.sprites[c.sprite].artist != own.artist for c in named)
        assert all(chooser.pack.sprites[c.sprite].artist == own.artist for c in rest)
        assert all(chooser.pack.cell_of(c.sprite) == chooser.pack.cell_of(true.sprite) for c in rest)
        kinds[len(turned), len(named)] += 1
    assert kinds[NUM_TURNED, NUM_SAME_NAME] > len(asked) / 3


def test_easy_candidates_are_other_things_by_the_same_artist(
    chooser: CandidateChooser, asked: list[tuple[Candidate, Question, Question]]
) -> None:
    turned = 0
    for true, _, easy in asked:
        own = chooser.pack.sprites[true.sprite]
        others = [c for c in easy.candidates if c != true]
        assert {chooser.pack.sprites[c.sprite].artist for c in others} == {own.artist}
        assert own.phrase not in {chooser.pack.sprites[c.sprite].phrase for c in others}
        assert len({chooser.pack.sprites[c.sprite].concept for c in others}) == NUM_CANDIDATES - 1
        turned += sum(c.colour_turn != 0 for c in others)
    assert 0.4 < turned / (len(asked) * (NUM_CANDIDATES - 1)) < 0.6


def test_every_other_candidate_differs_visibly_from_the_true_one(
    chooser: CandidateChooser, asked: list[tuple[Candidate, Question, Question]]
) -> None:
    for true, hard, easy in asked[::4]:
        picture = candidate_picture(chooser.pack, true)
        for other in {*hard.candidates, *easy.candidates} - {true}:
            # Candidates are chosen by small copies; at full size they differ no less, but for a little.
            assert _difference(picture, candidate_picture(chooser.pack, other)) >= 0.9 * VISIBLE_DIFFERENCE


def test_like_colours_are_nearer_than_those_of_random_things(
    chooser: CandidateChooser, asked: list[tuple[Candidate, Question, Question]]
) -> None:
    nearer: list[bool] = []
    for true, hard, easy in asked:
        own = chooser.look(true).mean_colour
        concept = chooser.pack.sprites[true.sprite].concept

        def distances(question: Question, own: np.ndarray = own, concept: str = concept) -> list[float]:
            others = [c for c in question.candidates if chooser.pack.sprites[c.sprite].concept != concept]
            return [float(np.linalg.norm(chooser.look(c).mean_colour - own)) for c in others]

        nearer.append(max(distances(hard)) < np.median(distances(easy)))
    assert np.mean(nearer) > 0.9


def test_grey_drawing_has_no_turns_and_more_rivals(chooser: CandidateChooser) -> None:
    sprites = chooser.pack.sprites
    wolf = next(i for i, s in enumerate(sprites) if (s.artist, s.phrase) == ("openmoji", "wolf"))
    hard = chooser.hard(np.random.default_rng(1), Candidate(wolf, 120.0))
    counts = Counter(sprites[c.sprite].artist for c in hard.candidates if sprites[c.sprite].phrase == "wolf")
    assert counts["openmoji"] == 1
    assert sum(counts.values()) - 1 == min(
        NUM_TURNED + NUM_SAME_NAME, len(chooser.pack.by_concept[sprites[wolf].concept]) - 1
    )


def test_pack_with_too_few_things_is_refused(chooser: CandidateChooser) -> None:
    few = chooser.pack.subset(range(3))
    with pytest.raises(ValueError, match="10 candidates"):
        CandidateChooser(BenchPack(few, few.subset([]))).easy(np.random.default_rng(0), Candidate(0, 0.0))


def test_candidate_is_drawn_upright_in_its_colours(chooser: CandidateChooser) -> None:
    picture = candidate_picture(chooser.pack, Candidate(5, 0.0))
    assert picture.tobytes() == chooser.pack.pictures[5].tobytes()
    turned = candidate_picture(chooser.pack, Candidate(5, 180.0))
    assert turned.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    assert turned.tobytes() != picture.tobytes()


@settings(max_examples=30, deadline=None)
@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3), other=st.tuples(*[st.integers(0, 255)] * 3), size=st.integers(24, 96)
)
def test_looks_of_plain_squares_differ_as_their_colours_do(
    colour: tuple[int, int, int], other: tuple[int, int, int], size: int
) -> None:
    first, second = (Look.of(Image.new("RGBA", (size, size), (*c, 255))) for c in (colour, other))
    assert first.mean_colour == pytest.approx(colour, abs=0.01)
    difference = sum(abs(a - b) for a, b in zip(colour, other, strict=True)) / 3
    assert first.differs_visibly(second) == (difference >= VISIBLE_DIFFERENCE)


def test_mean_colour_is_that_of_the_opaque_part() -> None:
    drawing = Image.new("RGBA", (24, 24))
    drawing.paste((200, 100, 0, 255), (0, 0, 6, 24))
    assert Look.of(drawing).mean_colour == pytest.approx((200, 100, 0), abs=0.01)
