"""The picture of ``msd demo``: references, boxes and result side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

PANEL = 384
MARGIN = 24
GAP = 12
HEADER = 48
FOOTER = 56
TITLES = ("references", "boxes", "result")
PROMPT_CHARACTERS = 100

PAPER, INK, FRAME = "white", "#22262b", "#c9ced6"
COLOURS = ("#d1495b", "#2e6f95", "#3c896d", "#8d5a97", "#c77d1e", "#5c6b73")


@dataclass(frozen=True, slots=True)
class DrawnSubject:
    """A subject as the demo shows it: its phrase, its reference, and its normalised xyxy box."""

    phrase: str
    picture: Image.Image
    box: tuple[float, ...]


def draw_demo(prompt: str, subjects: Sequence[DrawnSubject], result: Image.Image) -> Image.Image:
    """References, boxes and the result, each in a panel of ``PANEL`` pixels, over the prompt.

    Args:
        subjects: at least one.
        result: of any size; shown at its own shape.
    """
    size = (2 * MARGIN + 3 * PANEL + 2 * GAP, HEADER + PANEL + FOOTER)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    panels = (_references(subjects), _boxes(subjects, result.size), _fitted(result.convert("RGB"), PANEL))
    for number, (title, panel) in enumerate(zip(TITLES, panels, strict=True)):
        left = MARGIN + number * (PANEL + GAP)
        draw.text((left + PANEL / 2, HEADER / 2), title, INK, _font(20), anchor="mm")
        page.paste(panel, (left + (PANEL - panel.width) // 2, HEADER + (PANEL - panel.height) // 2))
    words = textwrap.shorten(prompt, PROMPT_CHARACTERS, placeholder=" ...")
    draw.text((size[0] / 2, size[1] - FOOTER / 2), f'"{words}"', INK, _font(20), anchor="mm")
    return page


def _references(subjects: Sequence[DrawnSubject]) -> Image.Image:
    """The reference pictures in a grid, each in its subject's colour and over its phrase."""
    rows = math.ceil(math.sqrt(len(subjects)))
    columns = math.ceil(len(subjects) / rows)
    cell = (PANEL // columns, PANEL // rows)
    font = _font(16)
    text_height = 26
    side = min(cell) - text_height - 2 * GAP
    panel = Image.new("RGB", (PANEL, PANEL), PAPER)
    draw = ImageDraw.Draw(panel)
    for number, subject in enumerate(subjects):
        left = number % columns * cell[0] + (cell[0] - side) // 2
        top = number // columns * cell[1] + GAP
        picture = _fitted(subject.picture.convert("RGBA"), side)
        panel.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2), picture)
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=_colour(number), width=3)
        draw.text((left + side / 2, top + side + text_height / 2), subject.phrase, INK, font, anchor="mm")
    return panel


def _boxes(subjects: Sequence[DrawnSubject], size: tuple[int, int]) -> Image.Image:
    """The boxes with their phrases, on an empty picture of the result's shape."""
    panel = _fitted(Image.new("RGB", size, PAPER), PANEL)
    width, height = panel.size
    draw = ImageDraw.Draw(panel)
    draw.rectangle((0, 0, width - 1, height - 1), outline=FRAME)
    for number, subject in enumerate(subjects):
        x_min, y_min, x_max, y_max = subject.box
        edges = (x_min * (width - 1), y_min * (height - 1), x_max * (width - 1), y_max * (height - 1))
        draw.rectangle(edges, outline=_colour(number), width=3)
        draw.text((edges[0] + 8, edges[1] + 6), subject.phrase, _colour(number), _font(16))
    return panel


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture, larger or smaller, so that its longer side is ``side`` pixels."""
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
