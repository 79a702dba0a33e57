"""Reference pictures to the pixels the image encoder sees: PIL and torch only, so that no backend can change them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from ms_core.config import ReferenceConfig
from ms_core.errors import CheckpointError, ModelNotFoundError

PREPROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class ReferencePreprocessor:
    """Squash to a square as in training, then the image encoder's own preprocessing.

    Attributes:
        reference: the square's side, and the colour under transparent pictures.
        resize_to: side, in pixels, the square is then resized to.
        crop_to: side of the centre crop that the encoder takes.
        mean, std: per channel, for values in [0, 1].
    """

    reference: ReferenceConfig
    resize_to: int
    crop_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def load(cls, image_encoder_directory: Path, reference: ReferenceConfig) -> ReferencePreprocessor:
        """Read the encoder's ``preprocessor_config.json``.

        Raises:
            ModelNotFoundError: the file is missing.
            CheckpointError: it lacks a number.
        """
        path = image_encoder_directory / PREPROCESSOR_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                reference=reference,
                resize_to=_side(data["size"]),
                crop_to=_side(data["crop_size"]),
                mean=tuple(data["image_mean"]),
                std=tuple(data["image_std"]),
            )
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"The image encoder lacks its {PREPROCESSOR_FILE}.") from error
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"The image encoder's {PREPROCESSOR_FILE} cannot be used: {error}.") from error

    def square(self, image: Image.Image) -> Image.Image:
        """The picture turned by its EXIF tag, laid on the background, and squashed to the reference square; RGB."""
        upright = ImageOps.exif_transpose(image)
        return _opaque(upright, self.reference.background).resize((self.reference.size, self.reference.size))

    def __call__(self, images: Sequence[Image.Image]) -> Float[Tensor, "b 3 crop_to crop_to"]:
        """Pixel values of reference pictures of any size and mode, for the image encoder; float32."""
        return torch.stack([self._pixel_values(self.square(image)) for image in images])

    def _pixel_values(self, square: Image.Image) -> Float[Tensor, "3 crop_to crop_to"]:
        resized = square.resize((self.resize_to, self.resize_to), Image.Resampling.BICUBIC)
        start = (self.resize_to - self.crop_to) // 2
        cropped = resized.crop((start, start, start + self.crop_to, start + self.crop_to))
        values = torch.tensor(np.array(cropped)).permute(2, 0, 1).float() / 255.0
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (values - mean) / std


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """``image`` as RGB; transparency shows the background."""
    if image.mode.startswith("I;16"):
        # PIL would clip 16-bit greys at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _side(size: Any) -> int:
    """Side of a square in transformers' spellings: a number, ``shortest_edge``, or equal ``height`` and ``width``."""
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size["height"] != size["width"]:
        raise ValueError("the encoder's pictures are not square")
    return int(size["height"])
