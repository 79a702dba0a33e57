"""Endless batches of single references, each with the picture that its subject tokens must describe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from ms_core.conditions.references import crop_to_subject
from ms_core.spec import Box
from ms_lab.mini.batches import TRAINING_REFERENCE, Share, as_seen, to_bytes_tensor
from ms_lab.mini.painting import box_around, turn_hue
from ms_lab.mini.random_scenes import SceneOdds
from ms_lab.mini.recipe import REFERENCE_BACKGROUND
from ms_lab.mini.scenes import SceneComposer, SceneConfig
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.variation import draw_variation, vary

# Pixels of the canvas on which a subject is placed, of one point of it, and of one cell of the latents.
CANVAS, POINT, CELL = 128, 4, 8
POINTS = CANVAS // POINT
# Premultiplied red, green, blue, and opacity.
CHANNELS = 4
_SIZES = (0.2, 0.95)
_OPAQUE = 64


@dataclass(frozen=True, slots=True)
class ReferenceBatch:
    """Single subjects as tensors.

    Attributes:
        references: as the image encoder sees them, 0 to 255.
        boxes: normalised xyxy.
        placed: each subject in its box, elsewhere zero: premultiplied colours and opacity from 0 to 1.
        phrases: in the order of the rows.
    """

    references: UInt8[Tensor, "n 3 size size"]
    boxes: Float[Tensor, "n 4"]
    placed: Float[Tensor, "n 4 points points"]
    phrases: tuple[str, ...]

    def to(self, device: torch.device) -> ReferenceBatch:
        """The same batch on a device."""
        return replace(
            self,
            references=self.references.to(device),
            boxes=self.boxes.to(device),
            placed=self.placed.to(device),
        )


class ReferenceStream(IterableDataset[ReferenceBatch]):
    """Batches of random drawings in random places."""

    def __init__(self, pack: SpritePack, odds: SceneOdds, share: Share) -> None:
        super().__init__()
        self._composer = SceneComposer(pack, SceneConfig(reference_size=TRAINING_REFERENCE))
        self._odds = odds
        self._share = share

    def __iter__(self) -> Iterator[ReferenceBatch]:
        return map(self.batch, self._share.numbers())

    def batch(self, number: int) -> ReferenceBatch:
        """Batch of this number."""
        rng = np.random.default_rng((self._share.seed, number))
        rows = [self._row(rng) for _ in range(self._share.batch_size)]
        references, boxes, placed, phrases = zip(*rows, strict=True)
        return ReferenceBatch(torch.stack(references), torch.tensor(boxes), torch.stack(placed), phrases)

    def _row(
        self, rng: np.random.Generator
    ) -> tuple[UInt8[Tensor, "3 size size"], tuple[float, ...], Float[Tensor, "4 points points"], str]:
        pack = self._composer.pack
        index = int(rng.integers(len(pack)))
        turned, varied = rng.random() < self._odds.colour_turn, rng.random() < self._odds.variation
        drawing = turn_hue(pack.pictures[index], float(rng.uniform(30, 330)) if turned else 0.0)
        drawing = vary(drawing, draw_variation(rng) if varied else None)
        canvas = place(drawing, rng)
        margins = rng.uniform(0, self._odds.box_margin, 4).tolist()
        box: Box = box_around(np.asarray(canvas.getchannel("A")) > _OPAQUE, margins)
        reference = self._composer.reference(drawing, rng.uniform(0.7, 0.95))
        seen = as_seen(crop_to_subject(reference, REFERENCE_BACKGROUND))
        return to_bytes_tensor(seen), box.as_tuple(), to_points(canvas), pack.sprites[index].phrase


def place(drawing: Image.Image, rng: np.random.Generator) -> Image.Image:
    """An RGBA canvas with the drawing in a random place and size."""
    side = round(CANVAS * rng.uniform(*_SIZES))
    column, row = (int(rng.integers(0, CANVAS - side + 1)) for _ in range(2))
    canvas = Image.new("RGBA", (CANVAS, CANVAS))
    canvas.paste(drawing.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0), (column, row))
    return canvas


def to_points(canvas: Image.Image) -> Float[Tensor, "4 points points"]:
    """Mean premultiplied colour and opacity of each point of an RGBA canvas."""
    premultiplied = canvas.convert("RGBa").reduce(POINT)
    return torch.as_tensor(np.array(premultiplied)).permute(2, 0, 1) / 255.0
