"""Whether one could see it: two drawings' difference, a treatment, a subject before its background and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from ms_lab.mini.painting import PLAIN, POSES, TREATMENTS, light, paint_sprite

# Least mean differences, in colour levels from 0 to 255.
VISIBLE_DIFFERENCE, VISIBLE_SUBJECT = 25.0, 20.0
VISIBLE_POSE, VISIBLE_LIGHT = 30.0, 12.0
# What others may leave of a silhouette at least.
LEAST_UNCOVERED = 0.6
# Of a canvas of 128: one latent cell. So many pixels two silhouettes share at least where one sees which is in front.
LEAST_CONTACT, _CANVAS = 64, 128
# Sides of the copies that are compared, in pixels. Treated ones are coarse: a drawing whose lines merely move by their
# own width when it is upside down does not show it.
LOOK_SIDE, _TREATED_SIDE = 24, 12
_GREY = 128.0


@dataclass(frozen=True, slots=True)
class Look:
    """A drawing as it is compared with others: small, on grey.

    Attributes:
        colours: RGB from 0 to 255.
        opacity: from 0 to 1.
    """

    colours: Float[np.ndarray, "side side 3"]
    opacity: Float[np.ndarray, "side side"]

    @classmethod
    def of(cls, drawing: Image.Image) -> Look:
        """The look of a square RGBA drawing."""
        small = drawing.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX)
        pixels = np.asarray(small, np.float32)
        opacity = pixels[..., 3:] / 255
        return cls(pixels[..., :3] * opacity + _GREY * (1 - opacity), opacity[..., 0])

    @property
    def mean_colour(self) -> Float[np.ndarray, " 3"]:
        """Mean RGB where it is opaque, from 0 to 255."""
        excess = (self.colours - _GREY).sum((0, 1))
        return excess / max(float(self.opacity.sum()), 1.0) + _GREY

    def differs_visibly(self, other: Look) -> bool:
        """Whether the mean difference where either is opaque can be seen."""
        return _mean_difference(self, other) >= VISIBLE_DIFFERENCE


def shows_treatment(drawing: Image.Image, treatment: str) -> bool:
    """Whether a drawing in this treatment differs visibly from itself in every other one and in none.

    A grey drawing does not show that a picture is in black and white, nor a ball that it is upside down.
    """
    least = VISIBLE_POSE if treatment in POSES else VISIBLE_LIGHT
    shown = _treated(drawing, treatment)
    others = (_treated(drawing, other) for other in (PLAIN, *TREATMENTS) if other != treatment)
    return all(_mean_difference(shown, other) >= least for other in others)


def shows_subjects(
    picture: Image.Image, backdrop: Image.Image, silhouettes: Sequence[Bool[np.ndarray, "height width"]]
) -> bool:
    """Whether enough of every subject is uncovered, and differs visibly from the background behind it.

    Args:
        picture: the composite, RGB.
        backdrop: the same without subjects.
        silhouettes: whole ones; later ones are in front.
    """
    change = np.abs(np.asarray(picture, np.float64) - np.asarray(backdrop, np.float64)).mean(-1)
    in_front = np.zeros(change.shape, bool)
    for silhouette in reversed(silhouettes):
        uncovered = silhouette & ~in_front
        if uncovered.sum() < LEAST_UNCOVERED * silhouette.sum() or change[uncovered].mean() < VISIBLE_SUBJECT:
            return False
        in_front |= silhouette
    return True


def shows_order(
    picture: Image.Image, reordered: Image.Image, silhouettes: Sequence[Bool[np.ndarray, "height width"]]
) -> bool:
    """Whether one sees which of two subjects is in front: their silhouettes share enough, and the order changes it.

    Args:
        picture, reordered: the composite, and the same with the other subject in front, RGB.
        silhouettes: whole ones, of both.
    """
    first, second = silhouettes
    common = first & second
    if common.sum() < LEAST_CONTACT * (max(common.shape) / _CANVAS) ** 2:
        return False
    change = np.abs(np.asarray(picture, np.float64) - np.asarray(reordered, np.float64)).mean(-1)
    return bool(change[common].mean() >= VISIBLE_SUBJECT)


def _treated(drawing: Image.Image, treatment: str) -> Look:
    """A drawing on grey in the treatment's pose and light."""
    canvas = Image.new("RGB", (4 * _TREATED_SIDE, 4 * _TREATED_SIDE), (round(_GREY),) * 3)
    # No larger, so that a tilted one stays within.
    silhouette = paint_sprite(canvas, drawing, (0.5, 0.5), 0.7, treatment)
    colours, opacity = (
        np.asarray(picture.resize((_TREATED_SIDE, _TREATED_SIDE), Image.Resampling.BOX), np.float32)
        for picture in (light(canvas, treatment), Image.fromarray(silhouette.astype(np.uint8) * 255))
    )
    return Look(colours, opacity / 255)


def _mean_difference(first: Look, second: Look) -> float:
    """Mean difference where either is opaque, in colour levels."""
    opacity = np.maximum(first.opacity, second.opacity)
    change = np.abs(first.colours - second.colours).mean(-1)
    return float((change * opacity).sum() / max(float(opacity.sum()), 1.0))
