"""What happens in a film: shots, the drawings that act in them, and how they move."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ms_lab.mini.variation import Variation

# Faults that a shot can have, each named after the filter that is to find it.
FAULTS = ("not_in_caption", "size", "border", "blur", "overlap", "text", "match_weak", "too_alike")


@dataclass(frozen=True, slots=True)
class Look:
    """A drawing as it is in one film: what makes an identity.

    Attributes:
        sprite: index in the pack.
        colour_turn: hue turn in degrees.
        variation: of the drawing.
    """

    sprite: int
    colour_turn: float
    variation: Variation | None = None

    @property
    def identity(self) -> str:
        """Different for every drawing that does not look the same."""
        return f"{self.sprite}/{self.colour_turn:.0f}/{self.variation}"


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a drawing is at one time.

    Attributes:
        x, y: of its middle, as shares of the frame's width and height.
        side: of the square drawing, as a share of the frame's shorter side.
        degrees: it is turned anticlockwise by.
    """

    x: float
    y: float
    side: float
    degrees: float


@dataclass(frozen=True, slots=True)
class Motion:
    """A steady motion with a swing: every number but ``swing`` and ``period_s`` is at time 0 or for each second.

    Attributes:
        start: the pose at time 0.
        speed: shares of width and height.
        turn: degrees.
        growth: share of the side.
        swing: of the path across the speed, as a share of the frame.
        period_s: of the swing.
    """

    start: Pose
    speed: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    growth: float = 0.0
    swing: float = 0.0
    period_s: float = 3.0

    def at(self, time_s: float) -> Pose:
        """The pose at a time of the shot."""
        wave = self.swing * math.sin(2 * math.pi * time_s / self.period_s)
        return Pose(
            self.start.x + self.speed[0] * time_s + (wave if abs(self.speed[1]) > abs(self.speed[0]) else 0.0),
            self.start.y + self.speed[1] * time_s + (wave if abs(self.speed[1]) <= abs(self.speed[0]) else 0.0),
            self.start.side * max(0.3, 1 + self.growth * time_s),
            self.start.degrees + self.turn * time_s,
        )

    def frozen(self) -> Motion:
        """The same pose for ever."""
        return Motion(self.start)


@dataclass(frozen=True, slots=True)
class Actor:
    """One drawing in a shot.

    Attributes:
        look: what it looks like.
        phrase: what it is called.
        motion: its way.
        blur: of the drawing, sigma in pixels.
        named: whether the caption names it.
        swap: what it looks like from the middle of the shot on, if it is exchanged.
        fault: the fault that is planted in it.
    """

    look: Look
    phrase: str
    motion: Motion
    blur: float = 0.0
    named: bool = True
    swap: Look | None = None
    fault: str = ""

    def look_at(self, time_s: float, duration_s: float) -> Look:
        """Its look at a time of the shot."""
        return self.swap if self.swap is not None and time_s >= duration_s / 2 else self.look


@dataclass(frozen=True, slots=True)
class Bar:
    """A post in the foreground that passes through the picture and hides what is behind it.

    Attributes:
        x: of its left edge at time 0, as a share of the width.
        speed: for each second.
        width: as a share of the width.
        colour: RGB.
    """

    x: float
    speed: float
    width: float
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Shot:
    """What one take shows.

    Attributes:
        duration_s: its length.
        background: a key of ``BACKGROUNDS``.
        seed: of the background.
        actors: later ones are in front.
        bar: in front of all, if any.
        light: brightness swings by this share.
        text: lines written over the picture.
        fault: the fault that is planted in the whole shot.
    """

    duration_s: float
    background: str
    seed: int
    actors: tuple[Actor, ...]
    bar: Bar | None = None
    light: float = 0.0
    text: tuple[str, ...] = ()
    fault: str = ""

    def with_actor(self, index: int, actor: Actor) -> Shot:
        """The shot with another actor in a place."""
        actors = list(self.actors)
        actors[index] = actor
        return replace(self, actors=tuple(actors))


@dataclass(frozen=True, slots=True)
class Film:
    """Shots, one after another.

    Attributes:
        shots: with cuts between them.
        height, width: in pixels.
        frames_per_s: of the film.
        copy_of: number of the film that this one copies, if it does; ``brightness`` is then added to every pixel.
    """

    shots: tuple[Shot, ...]
    height: int = 256
    width: int = 256
    frames_per_s: int = 8
    copy_of: int | None = None
    brightness: int = 0
    tags: tuple[str, ...] = field(default=())
