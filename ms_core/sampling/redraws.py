"""Scores of finished pictures, and redraws of those that failed, each with its own seed; the best one is kept.

A redraw draws the place of the weakest subject only, if others turned out well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from ms_core.sampling.draws import Draw, Place
from ms_core.sampling.events import Event, Finished, Generation, Progress
from ms_core.sampling.oom_fallback import MakeBatch
from ms_core.sampling.starts import redraw_weights
from ms_core.spec import GenerationWarning, derived_seed
from ms_core.spec.resolve import ResolvedSpec
from ms_core.spec.score import Redraw, SubjectScore

# Below it, a subject is missing, or another one, in more than one picture of four.
PASSING = 0.75

# The scores of a finished picture's subjects, in order.
ScorePicture = Callable[[ResolvedSpec, Generation], tuple[SubjectScore | None, ...]]


def make_with_draws(make: MakeBatch, batch: Sequence[ResolvedSpec], score: ScorePicture) -> Generator[Event]:
    """The events of a batch whose pictures are scored, and drawn again while they fail and retries are left.

    A picture fails if any of its subjects has a probability below ``PASSING``. Only those that fail are drawn again, where that
    may help (see ``may_be_better``), as one batch with derived seeds, whole or in part as ``subject_to_redraw`` says; a part is
    drawn into the best picture so far. Of all draws of a picture the one with the highest lowest probability is kept, the
    earlier of two equals. Specs that ask for no scores are drawn once and not scored. Steps count on from draw to draw.
    """
    if not any(row.spec.score for row in batch):
        yield from make([Draw(row) for row in batch])
        return
    draws = _Draws(batch, score)
    while draws.pending:
        generations: tuple[Generation, ...] = ()
        for event in make(draws.next()):
            if isinstance(event, Finished):
                generations = event.generations
            else:
                yield draws.widened(event)
        yield draws.begin_scoring()
        draws.take(generations)
    yield Finished(draws.kept())


def subject_to_redraw(row: ResolvedSpec, kept: Generation) -> int | None:
    """Position of the subject at whose place alone a failing picture is drawn again; ``None``: the whole picture is.

    It is the weakest subject, the first of equals. The whole picture is drawn again if more than half of the subjects that have
    a score fail, if the weakest stands wholly behind others, and with a start picture, from which every draw begins.
    """
    chances = _chances(kept)
    failing = _failing(kept)
    if not failing or 2 * len(failing) > len(chances) or row.spec.start is not None:
        return None
    weakest = min(failing, key=lambda index: chances[index])
    visible = redraw_weights(row.spec.subjects, (weakest,), *kept.latents.shape[-2:])
    return weakest if bool(visible.any()) else None


def may_be_better(row: ResolvedSpec, kept: Generation) -> bool:
    """Whether a subject fails, and stands where another draw may change the picture: with ``start.redraw`` not all of it does."""
    failing = _failing(kept)
    redraw = () if row.spec.start is None else row.spec.start.redraw
    if not failing or not redraw:
        return bool(failing)
    size = kept.latents.shape[-2:]
    changing, places = (redraw_weights(row.spec.subjects, chosen, *size) for chosen in (redraw, failing))
    return bool((changing * places).any())


class _Draws:
    """What was drawn so far of one batch.

    Attributes:
        pending: positions in the batch of the pictures that are to be drawn next.
    """

    def __init__(self, batch: Sequence[ResolvedSpec], score: ScorePicture) -> None:
        self.pending = tuple(range(len(batch)))
        self._batch = batch
        self._score = score
        self._draw = 0
        self._last_draw = max(row.spec.retries for row in batch)
        self._kept: dict[int, Generation] = {}
        self._current: list[Draw] = []
        self._warnings: list[tuple[GenerationWarning, ...]] = [()] * len(batch)
        self._steps_before = 0
        self._latest = Progress("encode", 0, 0)

    def next(self) -> list[Draw]:
        """The next draw of every picture that is pending."""
        self._current = [self._next(index) for index in self.pending]
        return self._current

    def widened(self, event: Progress) -> Progress:
        """Progress of one draw as that of the whole batch over all draws that may be."""
        for index, warnings in zip(self.pending, event.warnings, strict=False):
            self._warnings[index] = warnings
        draws_left = self._last_draw - self._draw + 1
        self._latest = Progress(
            event.phase,
            self._steps_before + event.step,
            self._steps_before + event.num_inference_steps * draws_left,
            tuple(self._warnings) if event.warnings or self._draw else (),
            event.preview if self.pending[0] == 0 else None,
        )
        return self._latest

    def begin_scoring(self) -> Progress:
        """The draw is over; its pictures are looked at next."""
        self._steps_before = self._latest.step
        return replace(self._latest, phase="score", preview=None)

    def take(self, generations: Sequence[Generation]) -> None:
        """Score the pictures of a draw, keep the better ones, and find out which are to be drawn again."""
        for index, draw, generation in zip(self.pending, self._current, generations, strict=True):
            row = self._batch[index]
            if row.spec.score:
                generation = replace(generation, scores=self._score(row, generation))
            self._kept[index] = _better(self._kept.get(index), generation, row, draw.place)
        self._draw += 1
        self.pending = tuple(index for index in self.pending if self._may_be_better(index))

    def kept(self) -> tuple[Generation, ...]:
        """The best draw of each picture, in order."""
        return tuple(self._kept[index] for index in range(len(self._batch)))

    def _next(self, index: int) -> Draw:
        row = self._batch[index]
        reseeded = replace(row, spec=replace(row.spec, seed=derived_seed(row.spec.seed, self._draw)))
        kept = self._kept.get(index)
        subject = None if kept is None else subject_to_redraw(row, kept)
        return Draw(reseeded, None if kept is None or subject is None else Place(subject, kept.latents))

    def _may_be_better(self, index: int) -> bool:
        row = self._batch[index]
        return self._draw <= row.spec.retries and may_be_better(row, self._kept[index])


def _chances(kept: Generation) -> dict[int, float]:
    """The lower probability of each subject that has one, by its position."""
    weaker = {index: score.weaker for index, score in enumerate(kept.scores) if score is not None}
    return {index: chance for index, chance in weaker.items() if chance is not None}


def _failing(kept: Generation) -> list[int]:
    return [index for index, chance in _chances(kept).items() if chance < PASSING]


def _better(kept: Generation | None, new: Generation, row: ResolvedSpec, place: Place | None) -> Generation:
    """The better of what is kept of a picture and a new draw of it, with all its redraws."""
    if kept is None:
        return new
    is_better = new.weakest > kept.weakest
    redraws = (*kept.redraws, Redraw(None if place is None else place.subject, is_better))
    if not is_better:
        return replace(kept, redraws=redraws)
    return replace(new, redraws=redraws, seed=new.seed if place is None else row.spec.seed)
