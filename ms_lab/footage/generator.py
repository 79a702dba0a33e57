"""The first generator: what happens in films, at random but for a seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ms_lab.footage.script import FAULTS, Actor, Bar, Film, Look, Motion, Pose, Shot
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import draw_variation

_TRIES, _CHECKED = 60, 5
_WORDS = "sale today only new fresh offer call now best price free win big summer last days open live news".split()  # noqa: SIM905


_JOINING = frozenset(("on", "with", "of", "in", "and", "for", "decreasing", "increasing"))


@dataclass(frozen=True, slots=True)
class FilmOdds:
    """How often films have what.

    Attributes:
        shots: least and most in a film.
        duration_s: least and most of a shot.
        subjects: weights of one, two, three, ... subjects.
        sides: least and most of a subject, as a share of the frame.
        turns: least and most that a subject turns, in degrees a second, either way.
        twins: the first two subjects bear one name.
        bar: a post passes in front.
        fault: a shot has a planted fault.
        faults: which.
        copies: a film is copied into another file.
    """

    shots: tuple[int, int] = (2, 3)
    duration_s: tuple[float, float] = (2.5, 4.0)
    subjects: tuple[float, ...] = (0.1, 0.45, 0.3, 0.15)
    sides: tuple[float, float] = (0.24, 0.42)
    turns: tuple[float, float] = (14, 40)
    twins: float = 0.2
    bar: float = 0.2
    fault: float = 0.3
    faults: tuple[str, ...] = FAULTS
    copies: float = 0.03
    size: int = 256


class FilmDrawer:
    """Draws films from a pack."""

    def __init__(self, pack: SpritePack, odds: FilmOdds | None = None) -> None:
        self.pack, self.odds = pack, odds if odds is not None else FilmOdds()
        self.concepts = [concept for concept in sorted(pack.by_concept) if _is_plain(pack, concept)]
        self.drawn_twice = [concept for concept in self.concepts if len(pack.by_concept[concept]) > 1]

    def films(self, count: int, seed: int) -> Iterator[Film]:
        """So many films; a copy follows what it copies."""
        number = 0
        while number < count:
            rng = np.random.default_rng((seed, number))
            film = self.film(rng)
            yield film
            number += 1
            if number < count and rng.random() < self.odds.copies:
                yield replace(film, copy_of=number - 1, brightness=int(rng.integers(2, 6)))
                number += 1

    def film(self, rng: np.random.Generator) -> Film:
        """One film."""
        shots = tuple(self.shot(rng) for _ in range(int(rng.integers(self.odds.shots[0], self.odds.shots[1] + 1))))
        return Film(shots, self.odds.size, self.odds.size)

    def shot(self, rng: np.random.Generator) -> Shot:
        """One shot, perhaps with a fault."""
        weights = np.asarray(self.odds.subjects)
        count = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
        # In quarters of a second, so that shots are whole frames.
        duration_s = float(np.round(rng.uniform(*self.odds.duration_s) * 4) / 4)
        looks = self._looks(rng, count)
        motions = self._motions(rng, count, duration_s)
        actors = tuple(
            Actor(look, self.pack.sprites[look.sprite].phrase, motion)
            for look, motion in zip(looks, motions, strict=True)
        )
        bar = _draw_bar(rng, duration_s) if rng.random() < self.odds.bar else None
        shot = Shot(
            duration_s,
            str(rng.choice(list(BACKGROUNDS))),
            int(rng.integers(2**31)),
            actors,
            bar,
            light=float(rng.uniform(0, 0.15)),
        )
        if rng.random() < self.odds.fault and self.odds.faults:
            return self.with_fault(rng, replace(shot, bar=None), str(rng.choice(list(self.odds.faults))))
        return shot

    def with_fault(self, rng: np.random.Generator, shot: Shot, fault: str) -> Shot:
        """The shot with a fault planted in its first actor, or in all of it."""
        actor = replace(shot.actors[0], fault=fault)
        start, motion = actor.motion.start, actor.motion
        if fault == "text":
            lines = tuple(" ".join(rng.choice(_WORDS, 4)) for _ in range(int(rng.integers(2, 5))))
            return replace(shot, text=lines, fault=fault)
        if fault == "size":
            actor = replace(actor, motion=replace(motion, start=replace(start, side=float(rng.uniform(0.05, 0.075)))))
        elif fault == "border":
            edge = float(rng.uniform(-0.01, 0.01)) + (0.0 if rng.random() < 0.5 else 1.0)
            still = replace(motion, start=replace(start, x=edge), speed=(0.0, 0.0), swing=0.0)
            actor = replace(actor, motion=still)
        elif fault == "blur":
            actor = replace(actor, blur=float(rng.uniform(4.0, 7.0)))
        elif fault == "too_alike":
            actor = replace(actor, motion=motion.frozen())
        elif fault == "not_in_caption":
            # A twin's name would be in the caption.
            look = self._looks(rng, 1)[0]
            actor = replace(actor, look=look, phrase=_unsaid(self.pack, look, shot), named=False)
        elif fault == "match_weak":
            actor = replace(actor, swap=self._other_look(rng, actor.look))
        elif fault == "overlap":
            return _with_cover(shot, actor, self._looks(rng, 1)[0], self.pack)
        return shot.with_actor(0, actor)

    def _looks(self, rng: np.random.Generator, count: int) -> list[Look]:
        chosen = rng.choice(len(self.concepts), size=count, replace=False)
        sprites = [int(rng.choice(self.pack.by_concept[self.concepts[index]])) for index in chosen]
        if count > 1 and rng.random() < self.odds.twins:
            concept = self.drawn_twice[int(rng.integers(len(self.drawn_twice)))]
            sprites[:2] = rng.choice(self.pack.by_concept[concept], size=2, replace=False).tolist()
        return [self._look(rng, sprite) for sprite in sprites]

    def _look(self, rng: np.random.Generator, sprite: int) -> Look:
        turned = float(rng.integers(30, 330)) if rng.random() < 0.5 else 0.0
        return Look(sprite, turned, draw_variation(rng) if rng.random() < 0.3 else None)

    def _other_look(self, rng: np.random.Generator, look: Look) -> Look:
        """Another drawing of the same name, or the same one in another colour."""
        same = [index for index in self.pack.by_concept[self.pack.sprites[look.sprite].concept] if index != look.sprite]
        sprite = int(rng.choice(same)) if same else look.sprite
        return Look(sprite, (look.colour_turn + 150.0) % 360.0)

    def _motions(self, rng: np.random.Generator, count: int, duration_s: float) -> list[Motion]:
        """Ways on which subjects stay in the frame and hardly touch."""
        shrink = 1.0
        for attempt in itertools.count():
            motions = [self._motion(rng, duration_s, shrink) for _ in range(count)]
            if _stay_apart(motions, duration_s):
                return motions
            if attempt % _TRIES == _TRIES - 1:
                shrink *= 0.9
        raise AssertionError

    def _motion(self, rng: np.random.Generator, duration_s: float, shrink: float) -> Motion:
        side = float(rng.uniform(*self.odds.sides)) * shrink
        x, y = rng.uniform(side * 0.7, 1 - side * 0.7, 2).tolist()
        return Motion(
            start=Pose(x, y, side, float(rng.uniform(-30, 30))),
            speed=(float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.08, 0.08))),
            turn=float(rng.uniform(*self.odds.turns)) * (1 if rng.random() < 0.5 else -1),
            growth=float(rng.uniform(-0.08, 0.08)),
            swing=float(rng.uniform(0, 0.03)),
            period_s=float(rng.uniform(2, 4)),
        )


def _unsaid(pack: SpritePack, look: Look, shot: Shot) -> str:
    """The name of a drawing in words that no other actor's name has."""
    phrase = pack.sprites[look.sprite].phrase
    said = {word for actor in shot.actors[1:] for word in actor.phrase.split()}
    return f"odd {phrase}" if said & set(phrase.split()) else phrase


def _is_plain(pack: SpritePack, concept: str) -> bool:
    """Whether a thing's name is a noun phrase, as captions have them, and no description such as "camera with flash"."""
    words = pack.sprites[pack.by_concept[concept][0]].phrase.lower().split()
    return not _JOINING.intersection(words)


def _stay_apart(motions: Sequence[Motion], duration_s: float) -> bool:
    for step in range(_CHECKED):
        poses = [motion.at(duration_s * step / (_CHECKED - 1)) for motion in motions]
        # A square that is turned reaches further than half its side; drawings rarely fill their corners.
        if any(
            not (p.side * 0.58 <= p.x <= 1 - p.side * 0.58 and p.side * 0.58 <= p.y <= 1 - p.side * 0.58) for p in poses
        ):
            return False
        for one, other in itertools.combinations(poses, 2):
            reach = (one.side + other.side) * 0.46
            if abs(one.x - other.x) < reach and abs(one.y - other.y) < reach:
                return False
    return True


def _draw_bar(rng: np.random.Generator, duration_s: float) -> Bar:
    right = rng.random() < 0.5
    speed = float(rng.uniform(0.9, 1.3)) / duration_s
    colour = rng.integers(20, 120, 3).tolist()
    return Bar(-0.15 if right else 1.0, speed if right else -speed, float(rng.uniform(0.1, 0.2)), tuple(colour))


def _with_cover(shot: Shot, behind: Actor, look: Look, pack: SpritePack) -> Shot:
    """The first actor with a small one in front of it, that has the fault: its box lies in the other's."""
    start = behind.motion.start
    middle = replace(behind.motion, start=replace(start, side=start.side * 0.38), turn=-behind.motion.turn)
    cover = Actor(look, pack.sprites[look.sprite].phrase, middle, fault="overlap")
    return replace(shot, actors=(replace(behind, fault=""), *shot.actors[1:], cover))
