"""How a scene looks: the backdrop, each sprite in its pose at its place, and the light over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ms_core.spec import Box
from ms_lab.mini.backgrounds import BACKGROUNDS, Canvas

PLAIN = ""
TILT_DEGREES = 30.0
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)
# A sprite's pixel belongs to the silhouette above this opacity, of 255.
_OPAQUE = 64
_MIN_SPRITE_SIDE = 4  # pixels


def _night(canvas: Canvas) -> Canvas:
    return canvas * np.asarray([0.28, 0.32, 0.55], np.float32)


def _sunset(canvas: Canvas) -> Canvas:
    return canvas * np.asarray([0.75, 0.5, 0.4], np.float32) + np.asarray([64, 26, 0], np.float32)


def _sepia(canvas: Canvas) -> Canvas:
    return (canvas @ _LUMA)[..., None] * np.asarray([1.0, 0.85, 0.62], np.float32)


def _black_and_white(canvas: Canvas) -> Canvas:
    return np.repeat((canvas @ _LUMA)[..., None], 3, axis=-1)


LIGHTS: dict[str, Callable[[Canvas], Canvas]] = {
    "at night": _night,
    "at sunset": _sunset,
    "in sepia": _sepia,
    "in black and white": _black_and_white,
}
POSES = ("upside down", "tilted")
TREATMENTS = (*LIGHTS, *POSES)


def paint_backdrop(kind: str, rng: np.random.Generator, side: int) -> Image.Image:
    """A background without sprites: square, RGB.

    Args:
        kind: a key of ``BACKGROUNDS``.
        rng: freshly seeded with a scene's ``seed``, it gives that scene's own.
        side: in pixels; of an oblong scene the longer one, see ``cut_centre``.
    """
    return _to_image(BACKGROUNDS[kind](rng, side))


def cut_centre(picture: Image.Image, height: int, width: int) -> Image.Image:
    """A copy of the middle of a picture, in pixels."""
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def paint_sprite(
    canvas: Image.Image,
    drawing: Image.Image,
    centre: tuple[float, float],
    size: float,
    treatment: str = PLAIN,
    mirrored: bool = False,
) -> Bool[np.ndarray, "height width"]:
    """Paint one sprite onto an RGB canvas in place, in the treatment's pose; its light is for the whole canvas.

    Args:
        canvas: RGB.
        drawing: RGBA, square, upright.
        centre: row and column, as shares of the canvas's height and width.
        size: of the drawing's side before a tilt, as a share of the canvas's shorter side.
        treatment: one of ``TREATMENTS``, or ``PLAIN``.
        mirrored: turns a tilt around, too.

    Returns:
        True where the sprite is.
    """
    side = max(_MIN_SPRITE_SIDE, round(min(canvas.size) * size))
    resized = drawing.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if mirrored:
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    posed = pose(resized, treatment, -1.0 if mirrored else 1.0)
    row, column = centre
    corner = (round(column * canvas.width - posed.width / 2), round(row * canvas.height - posed.height / 2))
    alpha = Image.new("L", canvas.size)
    alpha.paste(posed.getchannel("A"), corner)
    canvas.paste(posed, corner, posed)
    return np.asarray(alpha) > _OPAQUE


def pose(drawing: Image.Image, treatment: str, sense: float = 1.0) -> Image.Image:
    """An RGBA drawing upside down or tilted, where the treatment says so; a tilt makes the picture larger.

    Args:
        drawing: RGBA.
        treatment: one of ``TREATMENTS``, or ``PLAIN``.
        sense: of a tilt: 1 turns it anticlockwise, -1 clockwise.
    """
    if treatment == "upside down":
        return drawing.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if treatment == "tilted":
        return drawing.rotate(sense * TILT_DEGREES, Image.Resampling.BILINEAR, expand=True)
    return drawing


def light(picture: Image.Image, treatment: str) -> Image.Image:
    """An RGB picture in the treatment's light; the same picture if the treatment has none."""
    if treatment not in LIGHTS:
        return picture
    return _to_image(LIGHTS[treatment](np.asarray(picture, np.float32)))


def turn_hue(picture: Image.Image, degrees: float) -> Image.Image:
    """The picture with every colour's hue turned; brightness and transparency stay."""
    if degrees == 0.0:
        return picture
    alpha = picture.getchannel("A")
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    # A full circle is 256 steps, so that bytes wrap around where hues do.
    steps = np.uint8(round(degrees / 360.0 * 256.0) % 256)
    hue = Image.fromarray(np.asarray(hue) + steps)
    turned = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    turned.putalpha(alpha)
    return turned


def opaque_box(drawing: Image.Image) -> Box:
    """Where an RGBA drawing is opaque, normalised xyxy; the whole of it if it is nowhere."""
    return box_around(np.asarray(drawing.getchannel("A")) > _OPAQUE)


def box_around(silhouette: Bool[np.ndarray, "height width"], margins: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> Box:
    """The silhouette's box within the picture, normalised xyxy; the whole picture if there is no silhouette.

    Args:
        silhouette: True where the sprite is.
        margins: how far the left, top, right and bottom side are moved outward, as shares of the box's width or height.
    """
    height, width = silhouette.shape
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    if not len(rows):
        return Box(0.0, 0.0, 1.0, 1.0)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return Box(
        max(0.0, float(left - margins[0] * (right - left)) / width),
        max(0.0, float(top - margins[1] * (bottom - top)) / height),
        min(1.0, float(right + margins[2] * (right - left)) / width),
        min(1.0, float(bottom + margins[3] * (bottom - top)) / height),
    )


def loosen(box: Box, factor: float, upright: bool) -> Box:
    """The box made so many times as high (``upright``) or as wide around its middle, as far as the picture has room."""

    def stretched(start: float, end: float) -> tuple[float, float]:
        middle, half = (start + end) / 2, (end - start) / 2
        half = max(half, min(half * factor, middle, 1 - middle))
        return max(0.0, middle - half), min(1.0, middle + half)

    if upright:
        y_min, y_max = stretched(box.y_min, box.y_max)
        return Box(box.x_min, y_min, box.x_max, y_max)
    x_min, x_max = stretched(box.x_min, box.x_max)
    return Box(x_min, box.y_min, x_max, box.y_max)


def _to_image(canvas: Canvas) -> Image.Image:
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
