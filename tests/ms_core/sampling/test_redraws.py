"""Scores of finished pictures, and how often those that fail are drawn again."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ms_core.config import ModelCard, ScorerConfig
from ms_core.errors import NoScorerError
from ms_core.sampling.draws import Draw
from ms_core.sampling.events import Event, Finished, Generation, Progress
from ms_core.sampling.redraws import PASSING, make_with_draws, subject_to_redraw
from ms_core.spec import MAX_RETRIES, Box, GenerationSpec, GenerationWarning, StartPicture, Subject, derived_seed
from ms_core.spec.resolve import ResolvedSpec
from ms_core.spec.score import UNKNOWN_SCORE, Redraw, SubjectScore

STEPS = 3
PICTURE = Image.new("RGB", (4, 4))
CARD = ModelCard(scorer=ScorerConfig())
SPEC = GenerationSpec("a cat", (Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0)),), seed=7, score=True)
LEFT, RIGHT = Box(0.0, 0.0, 0.5, 1.0), Box(0.5, 0.0, 1.0, 1.0)
PAIR = replace(SPEC, subjects=(Subject("cat", PICTURE, LEFT), Subject("pot", PICTURE, RIGHT)), retries=3)
CUT = GenerationWarning("prompt_cut", "Cut.")


@dataclass
class Studio:
    """Makes pictures whose latents are their seed, and scores each by its seed.

    Attributes:
        qualities: by seed, of the weakest subject, or of each.
        batches: the seeds of every batch that was made.
        places: which subject's place of which picture each draw drew, whole ones left out: subject and the picture's seed.
    """

    qualities: Mapping[int, float | Sequence[float]]
    batches: list[list[int]] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)

    def make(self, draws: Sequence[Draw]) -> Generator[Event]:
        rows = [draw.row for draw in draws]
        self.batches.append([row.spec.seed for row in rows])
        places = [draw.place for draw in draws if draw.place is not None]
        self.places += [(place.subject, int(place.latents[0, 0, 0, 0])) for place in places]
        yield Progress("encode", 0, STEPS)
        for step in range(STEPS + 1):
            yield Progress("denoise", step, STEPS, ((CUT,),) * len(rows), lambda: PICTURE)
        yield Progress("decode", STEPS, STEPS, ((CUT,),) * len(rows))
        seeds_of = [row.spec.seed for row in rows]
        latents = [torch.full((1, 1, 4, 4), seed, dtype=torch.float64) for seed in seeds_of]
        yield Finished(tuple(Generation(PICTURE, *made, (CUT,)) for made in zip(latents, seeds_of, strict=True)))

    def score(self, row: ResolvedSpec, generation: Generation) -> tuple[SubjectScore | None, ...]:
        self.scored.append(generation.seed)
        quality = self.qualities[generation.seed]
        if isinstance(quality, float):
            return (SubjectScore(0.99, quality, 0.5), None)
        return tuple(SubjectScore(0.99, value, 0.5) for value in quality)

    def run(self, *specs: GenerationSpec) -> tuple[list[Progress], tuple[Generation, ...]]:
        *progress, last = make_with_draws(self.make, [ResolvedSpec.of(spec, CARD) for spec in specs], self.score)
        assert isinstance(last, Finished)
        return [event for event in progress if isinstance(event, Progress)], last.generations


def seeds(seed: int, count: int = MAX_RETRIES + 1) -> list[int]:
    return [derived_seed(seed, draw) for draw in range(count)]


@pytest.mark.parametrize(
    ("present", "identity", "weaker"),
    [(0.2, 0.7, 0.2), (0.7, 0.2, 0.2), (0.3, None, 0.3), (None, 0.4, 0.4), (None, None, None)],
)
def test_the_lower_of_both_probabilities_counts(
    present: float | None, identity: float | None, weaker: float | None
) -> None:
    assert SubjectScore(present, identity, 0.1).weaker == weaker


def test_who_asks_for_no_scores_gets_the_events_as_they_are() -> None:
    studio = Studio({})
    plain = replace(SPEC, score=False)
    progress, (generation,) = studio.run(plain)
    assert [(event.phase, event.step, event.num_inference_steps) for event in progress][-1] == ("decode", STEPS, STEPS)
    assert (generation.scores, generation.draws, studio.scored) == ((), 1, [])


def test_a_picture_that_passes_is_drawn_once() -> None:
    studio = Studio({7: PASSING})
    _, (generation,) = studio.run(replace(SPEC, retries=2))
    assert studio.batches == [[7]]
    assert (generation.seed, generation.draws, generation.weakest) == (7, 1, PASSING)


def test_without_retries_a_failing_picture_is_kept_with_its_score() -> None:
    _, (generation,) = Studio({7: 0.1}).run(SPEC)
    assert (generation.seed, generation.draws, generation.weakest) == (7, 1, 0.1)


def test_only_what_failed_is_drawn_again_and_the_best_is_kept() -> None:
    first, second, third, _ = seeds(7)
    studio = Studio({first: 0.2, second: 0.4, third: 0.3, 8: 0.9})
    _, generations = studio.run(replace(SPEC, retries=2), replace(SPEC, seed=8, retries=2))
    assert studio.batches == [[7, 8], [second], [third]]
    assert [(generation.seed, generation.draws) for generation in generations] == [(second, 3), (8, 1)]


def test_of_two_equals_the_earlier_is_kept() -> None:
    first, second, *_ = seeds(7)
    _, (generation,) = Studio({first: 0.2, second: 0.2}).run(replace(SPEC, retries=1))
    assert (generation.seed, generation.draws) == (first, 2)


def test_specs_of_one_batch_may_ask_for_different_things() -> None:
    qualities = dict.fromkeys((7, *seeds(8)), 0.1)
    studio = Studio(qualities)
    _, generations = studio.run(
        replace(SPEC, score=False), replace(SPEC, seed=8, retries=3), replace(SPEC, seed=7, retries=0)
    )
    assert [generation.draws for generation in generations] == [1, 4, 1]
    assert generations[0].scores == ()
    assert studio.scored[:2] == [8, 7]


def test_a_scene_is_nobodys_weakest_subject() -> None:
    studio = Studio({7: 0.1})
    studio.score = lambda row, generation: (None,)  # type: ignore[method-assign]
    _, (generation,) = studio.run(replace(SPEC, retries=3))
    assert (generation.weakest, generation.draws) == (1.0, 1)


@pytest.mark.parametrize(("known", "draws"), [((), 1), ((SubjectScore(0.9, 0.1, 0.5),), 4)])
def test_a_subject_without_a_score_is_not_drawn_again(known: tuple[SubjectScore, ...], draws: int) -> None:
    studio = Studio({})
    studio.score = lambda row, generation: (UNKNOWN_SCORE, *known)  # type: ignore[method-assign]
    _, (generation,) = studio.run(replace(SPEC, retries=3))
    assert generation.draws == draws
    assert generation.weakest == (0.1 if known else 1.0)


def test_where_one_of_two_fails_only_its_place_is_drawn_again_in_the_best_picture() -> None:
    first, second, third, fourth = seeds(7)
    studio = Studio({first: (0.9, 0.2), second: (0.9, 0.1), third: (0.6, 0.9), fourth: (0.9, 0.8)})
    _, (generation,) = studio.run(PAIR)
    assert studio.places == [(1, first), (1, first), (0, third)]
    assert generation.redraws == (Redraw(1, False), Redraw(1, True), Redraw(0, True))
    assert (generation.draws, generation.weakest, int(generation.latents[0, 0, 0, 0])) == (4, 0.8, fourth)
    # No draw of its own makes this picture: the spec's seed and its retries do.
    assert generation.seed == 7


def test_where_all_fail_the_whole_picture_is_drawn_again() -> None:
    first, second, third, _ = seeds(7)
    studio = Studio({first: (0.2, 0.3), second: (0.8, 0.4), third: (0.8, 0.3)})
    _, (generation,) = studio.run(replace(PAIR, retries=2))
    assert studio.places == [(1, second)]
    assert generation.redraws == (Redraw(None, True), Redraw(1, False))
    assert (generation.seed, int(generation.latents[0, 0, 0, 0])) == (second, second)


@pytest.mark.parametrize(
    ("qualities", "redraws", "seed"),
    [
        # The whole picture, then a place in it: no single draw makes that.
        ([(0.1, 0.2), (0.9, 0.3), (0.9, 0.9)], (Redraw(None, True), Redraw(1, True)), 7),
        # A place, then all of it: the last draw makes that.
        ([(0.9, 0.1), (0.2, 0.3), (0.9, 0.9)], (Redraw(1, True), Redraw(None, True)), derived_seed(7, 2)),
        # A place that was no better changes nothing.
        ([(0.1, 0.2), (0.9, 0.3), (0.9, 0.2)], (Redraw(None, True), Redraw(1, False)), derived_seed(7, 1)),
    ],
)
def test_the_seed_is_that_of_the_kept_draw_or_the_specs_if_that_drew_a_place(
    qualities: list[tuple[float, float]], redraws: tuple[Redraw, ...], seed: int
) -> None:
    _, (generation,) = Studio(dict(zip(seeds(7), qualities, strict=False))).run(replace(PAIR, retries=2))
    assert (generation.redraws, generation.seed) == (redraws, seed)


def test_whole_and_partial_redraws_share_a_batch() -> None:
    studio = Studio({7: (0.9, 0.2), 8: (0.1, 0.2), derived_seed(7, 1): (0.9, 0.9), derived_seed(8, 1): (0.9, 0.9)})
    _, generations = studio.run(PAIR, replace(PAIR, seed=8))
    assert studio.batches == [[7, 8], [derived_seed(7, 1), derived_seed(8, 1)]]
    assert [generation.redraws for generation in generations] == [(Redraw(1, True),), (Redraw(None, True),)]
    assert [generation.seed for generation in generations] == [7, derived_seed(8, 1)]


def scored(spec: GenerationSpec, *chances: float | None) -> int | None:
    scores = tuple(UNKNOWN_SCORE if chance is None else SubjectScore(0.99, chance, 0.5) for chance in chances)
    kept = Generation(PICTURE, torch.zeros(1, 1, 4, 4), 7, (), scores)
    return subject_to_redraw(ResolvedSpec.of(spec, CARD), kept)


def in_columns(count: int) -> GenerationSpec:
    boxes = [Box(index / count, 0.0, (index + 1) / count, 1.0) for index in range(count)]
    return replace(PAIR, subjects=tuple(Subject("cat", PICTURE, box) for box in boxes))


@pytest.mark.parametrize(
    ("chances", "subject"),
    [
        ((0.1,), None),
        ((0.1, 0.9), 0),
        ((0.1, 0.2), None),
        ((0.9, 0.3, 0.9), 1),
        ((0.9, 0.3, 0.2), None),
        ((0.3, 0.2, 0.9, 0.9), 1),
        ((0.2, 0.2, 0.9, 0.9), 0),
        ((0.2, 0.3, 0.4, 0.9), None),
        # Those without a score count neither way.
        ((0.2, 0.9, None, None), 0),
        ((0.2, None, None, None), None),
        ((0.9, PASSING), None),
    ],
)
def test_the_weakest_is_drawn_again_alone_if_at_most_half_fail(
    chances: tuple[float | None, ...], subject: int | None
) -> None:
    assert scored(in_columns(len(chances)), *chances) == subject


def test_who_stands_wholly_behind_another_has_no_place_of_its_own() -> None:
    behind, front = Subject("cat", PICTURE, LEFT), Subject("pot", PICTURE, LEFT)
    hidden = replace(PAIR, subjects=(behind, replace(front, z_index=1)))
    assert scored(hidden, 0.1, 0.9) is None
    assert scored(hidden, 0.9, 0.1) == 1


def test_a_start_picture_begins_every_draw() -> None:
    assert scored(replace(PAIR, start=StartPicture(PICTURE, 1.0)), 0.1, 0.9) is None


@pytest.mark.parametrize(
    ("box", "chances", "draws"),
    [
        (LEFT, (0.9, 0.1), 4),
        (LEFT, (0.1, 0.2), 4),
        # What stands outside stays as it is, and so does its score.
        (LEFT, (0.1, 0.9), 1),
        (Box(0.0, 0.0, 0.75, 1.0), (0.1, 0.9), 4),
    ],
)
def test_where_only_a_place_is_redrawn_those_elsewhere_are_no_reason_to_draw_again(
    box: Box, chances: tuple[float, float], draws: int
) -> None:
    cat, pot = PAIR.subjects
    start = StartPicture(PICTURE, 1.0, redraw=(1,))
    _, (generation,) = Studio(dict.fromkeys(seeds(7), chances)).run(
        replace(PAIR, subjects=(replace(cat, box=box), pot), start=start)
    )
    assert (generation.draws, generation.weakest) == (draws, min(chances))
    assert all(redraw.subject is None for redraw in generation.redraws)


def test_steps_count_on_from_draw_to_draw() -> None:
    studio = Studio(dict.fromkeys((*seeds(7), 8), 0.1))
    progress, _ = studio.run(replace(SPEC, seed=8), replace(SPEC, retries=2))
    assert [event.phase for event in progress if event.step == 2 * STEPS] == [
        "denoise",
        "decode",
        "score",
        "encode",
        "denoise",
    ]
    assert [event.step for event in progress] == sorted(event.step for event in progress)
    assert {event.num_inference_steps for event in progress} == {3 * STEPS}
    assert progress[-1].step == 3 * STEPS


def test_warnings_stay_with_their_pictures() -> None:
    studio = Studio(dict.fromkeys((*seeds(7), 8), 0.1))
    progress, generations = studio.run(replace(SPEC, seed=8), replace(SPEC, retries=1))
    assert progress[0].warnings == ()
    assert all(event.warnings == ((CUT,), (CUT,)) for event in progress[1:])
    assert all(generation.warnings == (CUT,) for generation in generations)


def test_previews_show_the_first_picture_or_none() -> None:
    studio = Studio(dict.fromkeys((*seeds(7), 8), 0.1))
    progress, _ = studio.run(replace(SPEC, seed=8), replace(SPEC, retries=1))
    assert any(event.preview for event in progress if event.step < STEPS)
    assert not any(event.preview for event in progress if event.step > STEPS)


def test_ending_early_draws_no_more() -> None:
    studio = Studio(dict.fromkeys(seeds(7), 0.1))
    events = make_with_draws(studio.make, [ResolvedSpec.of(replace(SPEC, retries=3), CARD)], studio.score)
    for event in events:
        if isinstance(event, Progress) and event.step == STEPS + 1:
            break
    events.close()
    assert len(studio.batches) == 2


def test_a_model_without_a_scorer_refuses() -> None:
    with pytest.raises(NoScorerError, match="has no scorer") as caught:
        ResolvedSpec.of(SPEC, ModelCard())
    assert caught.value.pointer == "/score"


@given(
    qualities=st.lists(st.floats(0, 1), min_size=MAX_RETRIES + 1, max_size=MAX_RETRIES + 1),
    retries=st.integers(0, MAX_RETRIES),
)
def test_the_best_of_as_many_draws_as_needed_is_kept(qualities: list[float], retries: int) -> None:
    studio = Studio(dict(zip(seeds(7), qualities, strict=True)))
    _, (generation,) = studio.run(replace(SPEC, retries=retries))
    drawn = [qualities[0]]
    for quality in qualities[1 : retries + 1]:
        if max(drawn) >= PASSING:
            break
        drawn.append(quality)
    assert generation.draws == len(drawn)
    assert generation.seed == seeds(7)[drawn.index(max(drawn))]


@given(st.integers(0, 2**53 - 1), st.integers(1, 16))
def test_derived_seeds_are_seeds_and_always_the_same(seed: int, draw: int) -> None:
    derived = derived_seed(seed, draw)
    assert 0 <= derived < 2**53
    assert derived == derived_seed(seed, draw) != derived_seed(seed, draw + 1)


def test_the_seeds_of_the_first_draw_are_those_of_old() -> None:
    # Written out: a change of these would change every picture that was drawn again.
    assert [derived_seed(7, draw) for draw in range(3)] == [7, 4798569713379185, 2195696689917723]
