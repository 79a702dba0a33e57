"""Judges that see nothing but colours, and pictures whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor

from ms_core.spec import Box
from ms_lab.data.geometry import mask_box
from ms_lab.data.items import Detection, Frame, Pixels
from ms_lab.evaluation.msbench.models import Judges
from ms_lab.evaluation.msbench.samples import Sample
from tests.support.small_msbench import PICTURES

COLOURS = {name: ImageColor.getrgb(colour) for names in PICTURES.values() for name, colour in names.items()}
OF_PHRASE = {name.replace("lamp_1", "desk lamp"): colour for name, colour in COLOURS.items()}


class MeanColour:
    """Embeds a picture as its mean colour beside white, and a text as that of the things that it names."""

    def pictures(self, pictures: Sequence[Pixels]) -> np.ndarray:
        return _unit([255.0 - pixels.mean((0, 1)) for pixels in pictures])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        named = [[colour for phrase, colour in OF_PHRASE.items() if phrase in text] for text in texts]
        return _unit([255.0 - np.mean(colours, axis=0) for colours in named])


class SquaredColour(MeanColour):
    """Embeds in another way, so that one judge cannot pass for the other."""

    def pictures(self, pictures: Sequence[Pixels]) -> np.ndarray:
        return _unit(list(super().pictures(pictures) ** 2))


class ColourDetector:
    """Finds exactly where a thing's colour is."""

    def detect(self, frames: Sequence[Frame], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        return [self._detect(frame, own) for frame, own in zip(frames, phrases, strict=True)]

    def _detect(self, frame: Frame, phrases: Sequence[str]) -> list[Detection]:
        boxes = ((phrase, mask_box((frame.pixels == OF_PHRASE[phrase]).all(-1))) for phrase in phrases)
        return [Detection(phrase, box, 0.9) for phrase, box in boxes if box is not None]


def colour_judges() -> Judges:
    return Judges(MeanColour(), SquaredColour(), ColourDetector())


def painted(sample: Sample, shown: Sequence[int] | None = None, side: int = 100) -> Image.Image:
    """Each box filled with its subject's colour, those that come first on top; ``shown``: whose colour, ``-1`` for white."""
    picture = Image.new("RGB", (side, side), "white")
    order = range(len(sample.subjects)) if shown is None else shown
    for subject, place in reversed(list(zip(sample.subjects, order, strict=True))):
        colour = (255, 255, 255) if place < 0 else COLOURS[sample.subjects[place].picture]
        picture.paste(colour, _pixels(subject.box, side))
    return picture


def _pixels(box: Box, side: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(side * value) for value in box.as_tuple())
    return left, top, right, bottom


def _unit(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([row / max(float(np.linalg.norm(row)), 1e-9) for row in rows])
