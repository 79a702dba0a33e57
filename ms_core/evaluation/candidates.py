"""The drawings that a box is asked about: which of ten stands in it?"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ms_core.mini.painting import turn_hue
from ms_core.mini.sprites import SpritePack


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
