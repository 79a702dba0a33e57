"""How much of a picture looks like lines of text: rows of small, thin, separate shapes of one height."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ms_lab.data.items import Mask, Pixels

_SIDE = 384
# In pixels of the picture at that side.
_LEAST_HEIGHT, _MOST_HEIGHT = 7, 64
_LEAST_LETTERS = 5
# How much lighter or darker letters are than what is around them, of 255: fainter patterns join them at low contrasts.
_CONTRASTS = (48, 96, 144)


class _Letter(NamedTuple):
    x: int
    y: int
    width: int
    height: int


def text_share(pixels: Pixels) -> float:
    """Share of the picture's area that lines of text cover, 0 to 1."""
    scale = _SIDE / max(pixels.shape[:2])
    size = max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale))
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
    # Letters are lighter or darker than what is around them.
    share = 0.0
    for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(grey, kind, cv2.getStructuringElement(cv2.MORPH_RECT, (13, 13)))
        parting = float(cv2.threshold(strokes, 0, 255, cv2.THRESH_OTSU)[0])
        share += max(_lines_area(strokes > max(contrast, parting)) for contrast in _CONTRASTS)
    return min(1.0, share / (size[0] * size[1]))


def _lines_area(binary: Mask) -> float:
    """Pixels that lines of text cover, if these are strokes."""
    return sum(_area(line) for line in _lines(_letters(binary.astype(np.uint8))))


def _letters(binary: np.ndarray) -> list[_Letter]:
    count, _, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    found: list[_Letter] = []
    for x, y, width, height, filled in stats[1:count].tolist():
        solid = filled / (width * height)
        if _LEAST_HEIGHT <= height <= _MOST_HEIGHT and 0.12 <= width / height <= 1.6 and 0.15 <= solid <= 0.85:
            found.append(_Letter(x, y, width, height))
    return sorted(found)


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    """Letters side by side, of about one height, that vary in width as no pattern's parts do."""
    left = list(letters)
    lines: list[list[_Letter]] = []
    while left:
        line = [left.pop(0)]
        for letter in list(left):
            last = line[-1]
            gap = letter.x - (last.x + last.width)
            level = abs((letter.y + letter.height) - (last.y + last.height)) <= 0.35 * last.height
            alike = 0.5 <= letter.height / last.height <= 2.0
            if -2 <= gap <= 1.2 * last.height and level and alike:
                line.append(letter)
                left.remove(letter)
        if len(line) >= _LEAST_LETTERS and _varied(line):
            lines.append(line)
    return lines


def _varied(line: list[_Letter]) -> bool:
    widths = np.asarray([letter.width for letter in line], np.float64)
    return float(widths.std() / widths.mean()) > 0.12


def _area(line: list[_Letter]) -> float:
    width = max(letter.x + letter.width for letter in line) - min(letter.x for letter in line)
    height = max(letter.y + letter.height for letter in line) - min(letter.y for letter in line)
    return float(width * height)
