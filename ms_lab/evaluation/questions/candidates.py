"""The drawings that a box is asked about: which of ten stands in it?"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.visibility import LOOK_SIDE, Look
from ms_lab.mini.painting import turn_hue
from ms_lab.mini.sprites import SpritePack

NUM_CANDIDATES, NUM_TURNED, NUM_SAME_NAME = 10, 3, 3
MIN_COLOUR_TURN = 60.0
# The turns of one drawing differ from each other by at least this, in degrees.
_MIN_TURN_STEP = 40.0
_TURN_TRIES = 16
# Hue turns in which drawings of a like mean colour are sought, in degrees.
_TURNS = tuple(range(0, 360, 45))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drawing that may stand in a box.

    Attributes:
        sprite: its index in the bench pack.
        colour_turn: hue turn in degrees, 0 or more and below 360.
    """

    sprite: int
    colour_turn: float


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one box.

    Attributes:
        candidates: ten different drawings, in random order.
        true: index of the box's own subject among them.
    """

    candidates: tuple[Candidate, ...]
    true: int


def candidate_picture(pack: SpritePack, candidate: Candidate) -> Image.Image:
    """The candidate's drawing: RGBA, square, upright, never mirrored."""
    return turn_hue(pack.pictures[candidate.sprite], candidate.colour_turn)


def draw_turn(rng: np.random.Generator) -> float:
    """A hue turn as the scenes' subjects have it: none for half of them."""
    return float(rng.uniform(30, 330)) if rng.random() < 0.5 else 0.0


class CandidateChooser:
    """Chooses what else might stand in a box; every candidate differs visibly from the true one.

    Drawings of other things come from the true one's artist and cell, so that neither style nor having been trained on
    gives it away.

    Args:
        pack: that candidates are indexes into.
    """

    def __init__(self, pack: BenchPack) -> None:
        self.pack = pack
        self._small = [picture.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX) for picture in pack.pictures]
        self._pools: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for index, sprite in enumerate(pack.sprites):
            self._pools[sprite.artist, pack.cell_of(index)].append(index)
        self._mean_colours: dict[int, Float[np.ndarray, "turns 3"]] = {}

    def hard(self, rng: np.random.Generator, true: Candidate) -> Question:
        """The true one, three turns of its colours, three of its name, and three things of the nearest mean colours.

        A drawing whose colours cannot be turned visibly has more of its name instead, and where there are not enough,
        more of like colours.
        """
        turned = self._turned(rng, true)
        same_name = self._same_name(rng, true)[: NUM_TURNED + NUM_SAME_NAME - len(turned)]
        others = NUM_CANDIDATES - 1 - len(turned) - len(same_name)
        return _ask(rng, true, [*turned, *same_name, *self._nearest(true, others)])

    def easy(self, rng: np.random.Generator, true: Candidate) -> Question:
        """The true one among nine random things, with turns of their own."""
        pool = self._other_things(true)
        drawn = (Candidate(pool[int(index)], draw_turn(rng)) for index in rng.permutation(len(pool)))
        return _ask(rng, true, self._differing(true, drawn, NUM_CANDIDATES - 1))

    def look(self, candidate: Candidate) -> Look:
        """How the candidate's drawing looks."""
        return Look.of(turn_hue(self._small[candidate.sprite], candidate.colour_turn))

    def _differing(self, true: Candidate, others: Iterable[Candidate], count: int) -> list[Candidate]:
        """The first ``count`` that differ visibly from the true one."""
        look = self.look(true)
        differing = (other for other in others if look.differs_visibly(self.look(other)))
        return list(itertools.islice(differing, count))

    def _turned(self, rng: np.random.Generator, true: Candidate) -> list[Candidate]:
        """At most three visible turns of the true one's colours, far from it and from each other."""
        look, turns = self.look(true), list[float]()
        for turn in rng.uniform(MIN_COLOUR_TURN, 360 - MIN_COLOUR_TURN, _TURN_TRIES).tolist():
            far = all(abs(turn - other) >= _MIN_TURN_STEP for other in turns)
            if len(turns) < NUM_TURNED and far and look.differs_visibly(self.look(_turn(true, turn))):
                turns.append(turn)
        return [_turn(true, turn) for turn in turns]

    def _same_name(self, rng: np.random.Generator, true: Candidate) -> list[Candidate]:
        """The same thing by every other artist in random order, its colours turned alike: form has to tell."""
        indexes = self.pack.by_concept[self.pack.sprites[true.sprite].concept]
        rivals = [Candidate(int(index), true.colour_turn) for index in rng.permutation(indexes) if index != true.sprite]
        return self._differing(true, rivals, len(rivals))

    def _nearest(self, true: Candidate, count: int) -> list[Candidate]:
        """The things whose mean colours, in the turn that suits them best, come nearest to the true one's."""
        pool = self._other_things(true)
        colours = np.stack([self._colours_of(index) for index in pool])
        distances = np.linalg.norm(colours - self.look(true).mean_colour, axis=-1)
        turns = distances.argmin(1)
        order = np.argsort(distances.min(1), kind="stable")
        nearest = (Candidate(pool[int(index)], float(_TURNS[int(turns[index])])) for index in order)
        return self._differing(true, nearest, count)

    def _colours_of(self, sprite: int) -> Float[np.ndarray, "turns 3"]:
        if sprite not in self._mean_colours:
            looks = (self.look(Candidate(sprite, float(turn))) for turn in _TURNS)
            self._mean_colours[sprite] = np.stack([look.mean_colour for look in looks])
        return self._mean_colours[sprite]

    def _other_things(self, true: Candidate) -> list[int]:
        """Drawings of other things by the true one's artist, in its cell."""
        own = self.pack.sprites[true.sprite]
        pool = self._pools[own.artist, self.pack.cell_of(true.sprite)]
        # Things of one phrase (books in two colours) would be the same drawing once their colours are turned.
        return [index for index in pool if self.pack.sprites[index].phrase != own.phrase]


def _turn(true: Candidate, degrees: float) -> Candidate:
    return Candidate(true.sprite, (true.colour_turn + degrees) % 360)


def _ask(rng: np.random.Generator, true: Candidate, others: list[Candidate]) -> Question:
    candidates = [true, *others]
    if len(candidates) != NUM_CANDIDATES:
        raise ValueError(
            f"A question needs {NUM_CANDIDATES} candidates, and the pack has {len(candidates)} for this one."
        )
    shuffled = tuple(candidates[int(index)] for index in rng.permutation(NUM_CANDIDATES))
    return Question(shuffled, shuffled.index(true))
