"""Held-out artwork in two halves: on one of them things are chosen, on the other one nothing ever is.

Telemetry, recipes, guidance, presets and the judge look at ``VALIDATION`` only. ``TEST`` is measured and chooses nothing.
"""

from __future__ import annotations

import hashlib

from ms_core.errors import InvalidInputError
from ms_lab.mini.sprites import SpritePack

HALVES = VALIDATION, TEST = ("validation", "test")


def half_of(phrase: str) -> str:
    """The half of the thing of this name: by a bit of the name's SHA-256, so all artists' drawings of it are together."""
    return HALVES[hashlib.sha256(phrase.encode()).digest()[0] % 2]


def take_half(pack: SpritePack, half: str) -> SpritePack:
    """The sprites of a pack whose things are in this half.

    Raises:
        InvalidInputError: there is no such half.
    """
    if half not in HALVES:
        raise InvalidInputError(f"There is no half {half!r} of the held-out artwork; there are {' and '.join(HALVES)}.")
    return pack.subset([index for index, sprite in enumerate(pack.sprites) if half_of(sprite.phrase) == half])
