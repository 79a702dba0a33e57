"""The second generator, written after the thresholds were frozen: other motion, other twins, other faults' places.

Subjects orbit, bounce between the borders or sway like pendulums in place of drifting; twins are one drawing in two colours or
mirrored and turned, in place of two artists'; what hides them is another subject that passes in front, and the camera pans.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ms_lab.footage.generator import FilmDrawer, FilmOdds
from ms_lab.footage.script import Actor, Film, Look, Motion, Pose, Shot
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import Variation

_TRIES, _CHECKED = 60, 9
_SIZES = ((240, 320), (320, 240), (272, 272))


@dataclass(frozen=True, slots=True)
class Orbit(Motion):
    """Round a middle, on an ellipse, while it breathes and rocks.

    Attributes:
        reach: half axes of the ellipse.
        laps_per_s: negative ones go the other way.
        rock: how far it is turned to either side, in degrees, twice a lap and a half.
        breath: how much its side changes to either side.
    """

    reach: tuple[float, float] = (0.0, 0.0)
    laps_per_s: float = 0.2
    rock: float = 25.0
    breath: float = 0.08

    def at(self, time_s: float) -> Pose:
        """The pose at a time of the shot."""
        angle = 2 * math.pi * self.laps_per_s * time_s
        rocked = self.rock * math.sin(2 * math.pi * time_s / self.period_s)
        return Pose(
            self.start.x + self.reach[0] * math.cos(angle),
            self.start.y + self.reach[1] * math.sin(angle),
            self.start.side * (1 + self.breath * math.sin(1.7 * angle)),
            self.start.degrees + self.turn * time_s + rocked,
        )


@dataclass(frozen=True, slots=True)
class Bounce(Motion):
    """To and fro between two borders, turning all the time.

    Attributes:
        low, high: where it turns back, for both axes.
    """

    low: float = 0.2
    high: float = 0.8

    def at(self, time_s: float) -> Pose:
        """The pose at a time of the shot."""
        return Pose(
            _folded(self.start.x + self.speed[0] * time_s, self.low, self.high),
            _folded(self.start.y + self.speed[1] * time_s, self.low, self.high),
            self.start.side * max(0.5, 1 + self.growth * time_s),
            self.start.degrees + self.turn * time_s,
        )


def _folded(value: float, low: float, high: float) -> float:
    span = high - low
    place = (value - low) % (2 * span)
    return low + (place if place <= span else 2 * span - place)


class SecondDrawer(FilmDrawer):
    """Draws films of the second kind."""

    def __init__(self, pack: SpritePack, odds: FilmOdds | None = None) -> None:
        super().__init__(
            pack, odds if odds is not None else FilmOdds(duration_s=(3.0, 5.0), twins=0.3, sides=(0.22, 0.46))
        )

    def films(self, count: int, seed: int) -> Iterator[Film]:
        """So many films, of other sizes than the first kind's."""
        for number, film in enumerate(super().films(count, seed + 7_000_003)):
            # A copy has the size of what it copies.
            kind = number if film.copy_of is None else film.copy_of
            height, width = _SIZES[kind % len(_SIZES)]
            yield replace(film, height=height, width=width, frames_per_s=10)

    def shot(self, rng: np.random.Generator) -> Shot:
        """One shot, perhaps with a fault or with one that passes in front of the others."""
        weights = np.asarray(self.odds.subjects)
        count = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
        duration_s = float(np.round(rng.uniform(*self.odds.duration_s) * 2) / 2)
        looks, motions = self._twin_looks(rng, count), self._ways(rng, count, duration_s)
        actors = tuple(
            Actor(look, self.pack.sprites[look.sprite].phrase, way) for look, way in zip(looks, motions, strict=True)
        )
        kind, seed = str(rng.choice(list(BACKGROUNDS))), int(rng.integers(2**31))
        shot = Shot(duration_s, kind, seed, actors, light=float(rng.uniform(0.05, 0.25)))
        if rng.random() < self.odds.fault and self.odds.faults:
            return self.with_fault(rng, shot, str(rng.choice(list(self.odds.faults))))
        if rng.random() < self.odds.bar:
            return replace(shot, actors=(*actors, self._passer(rng, duration_s)))
        return shot

    def with_fault(self, rng: np.random.Generator, shot: Shot, fault: str) -> Shot:
        """As the first kind has it, but cut at the top or the bottom."""
        if fault != "border":
            return super().with_fault(rng, shot, fault)
        actor = shot.actors[0]
        edge = float(rng.uniform(-0.01, 0.01)) + (0.0 if rng.random() < 0.5 else 1.0)
        start = replace(actor.motion.start, y=edge)
        return shot.with_actor(0, replace(actor, motion=Motion(start, turn=actor.motion.turn), fault=fault))

    def _twin_looks(self, rng: np.random.Generator, count: int) -> list[Look]:
        """Looks of which the first two may be one drawing in other colours, mirrored and stretched."""
        looks = self._looks(rng, count)
        if count > 1 and rng.random() < self.odds.twins:
            first = looks[0]
            turned = (first.colour_turn + float(rng.uniform(80, 280))) % 360.0
            looks[1] = Look(first.sprite, float(round(turned)), Variation(True, float(rng.uniform(0.8, 1.25)), 0.0))
        return looks

    def _passer(self, rng: np.random.Generator, duration_s: float) -> Actor:
        """A subject that crosses the picture in front of all others."""
        look = self._looks(rng, 1)[0]
        side = float(rng.uniform(0.2, 0.3))
        right = rng.random() < 0.5
        start = Pose(-0.2 if right else 1.2, float(rng.uniform(0.3, 0.7)), side, 0.0)
        speed = 1.4 / duration_s * (1 if right else -1)
        return Actor(look, self.pack.sprites[look.sprite].phrase, Motion(start, (speed, 0.0), turn=20.0))

    def _ways(self, rng: np.random.Generator, count: int, duration_s: float) -> list[Motion]:
        shrink = 1.0
        for attempt in itertools.count():
            ways = [self._way(rng, shrink) for _ in range(count)]
            if _keep_clear(ways, duration_s):
                return ways
            if attempt % _TRIES == _TRIES - 1:
                shrink *= 0.9
        raise AssertionError

    def _way(self, rng: np.random.Generator, shrink: float) -> Motion:
        side = float(rng.uniform(*self.odds.sides)) * shrink
        x, y = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.8))
        start = Pose(x, y, side, float(rng.uniform(-180, 180)))
        sense = 1 if rng.random() < 0.5 else -1
        if rng.random() < 0.5:
            reach = float(rng.uniform(0.03, 0.12)) * shrink, float(rng.uniform(0.03, 0.1)) * shrink
            laps = float(rng.uniform(0.1, 0.3)) * sense
            return Orbit(start, turn=12.0 * sense, reach=reach, laps_per_s=laps, period_s=float(rng.uniform(2, 5)))
        speed = float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.15, 0.15))
        edge = side * 0.62
        return Bounce(start, speed, turn=float(rng.uniform(15, 50)) * sense, low=edge, high=1 - edge)


def _keep_clear(ways: Sequence[Motion], duration_s: float) -> bool:
    for step in range(_CHECKED):
        poses = [way.at(duration_s * step / (_CHECKED - 1)) for way in ways]
        if any(not (p.side * 0.6 <= v <= 1 - p.side * 0.6) for p in poses for v in (p.x, p.y)):
            return False
        for one, other in itertools.combinations(poses, 2):
            reach = (one.side + other.side) * 0.47
            if abs(one.x - other.x) < reach and abs(one.y - other.y) < reach:
                return False
    return True
