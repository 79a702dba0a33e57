"""Reference pictures to the pixels the image encoder sees: PIL and torch only, so that no backend can change them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageChops
from torch import Tensor

from ms_core.conditions.cutout import Method, cut_out
from ms_core.config import ReferenceConfig
from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.loading import PREPROCESSOR_FILE
from ms_core.spec.plain_pictures import plain

# A channel that is this many levels off the background belongs to the subject.
_VISIBLE = 24


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """A reference picture as the image encoder takes it, before its normalisation.

    Attributes:
        image: RGB, ``crop_to`` pixels a side.
        aspect: width over height before it was squashed.
        method: how its subject was cut out; ``None`` if that was not asked for.
        found: False if no subject could be cut out, so that all of the picture is there.
    """

    image: Image.Image
    aspect: float = 1.0
    method: Method | None = None
    found: bool = True


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
        return self._squash(self._lay(image))

    def see(self, image: Image.Image, cutout: bool = False) -> SeenPicture:
        """A reference picture of any size and mode as the image encoder will see it, its subject cut out if asked for."""
        subject = cut_out(image) if cutout else None
        laid = self._lay(image if subject is None else subject.image)
        seen = SeenPicture(self._encoder_crop(self._squash(laid)), laid.width / laid.height)
        return seen if subject is None else replace(seen, method=subject.method, found=subject.found)

    def __call__(self, images: Sequence[Image.Image]) -> Float[Tensor, "b 3 crop_to crop_to"]:
        """Pixel values of reference pictures of any size and mode, for the image encoder; float32."""
        return torch.stack([self.pixel_values(self.see(image)) for image in images])

    def pixel_values(self, picture: SeenPicture) -> Float[Tensor, "3 crop_to crop_to"]:
        """What the image encoder computes with; float32."""
        values = torch.tensor(np.array(picture.image)).permute(2, 0, 1).contiguous().float() / 255.0
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (values - mean) / std

    def _lay(self, image: Image.Image) -> Image.Image:
        laid = opaque(image, self.reference.background)
        return crop_to_subject(laid, self.reference.background) if self.reference.crop else laid

    def _squash(self, laid: Image.Image) -> Image.Image:
        return laid.resize((self.reference.size, self.reference.size))

    def _encoder_crop(self, square: Image.Image) -> Image.Image:
        resized = square.resize((self.resize_to, self.resize_to), Image.Resampling.BICUBIC)
        start = (self.resize_to - self.crop_to) // 2
        return resized.crop((start, start, start + self.crop_to, start + self.crop_to))


def preview(pictures: Sequence[SeenPicture]) -> Image.Image:
    """The pixels of one or several pictures of the same encoder, one beside the other from left to right; RGB."""
    side = pictures[0].image.height
    sheet = Image.new("RGB", (side * len(pictures), side))
    for column, picture in enumerate(pictures):
        sheet.paste(picture.image, (side * column, 0))
    return sheet


def crop_to_subject(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """An RGB picture cut to what clearly differs from the background; the same picture if nothing does."""
    difference = ImageChops.difference(image, Image.new("RGB", image.size, background))
    largest = reduce(ImageChops.lighter, difference.split())
    extent = largest.point([0] * _VISIBLE + [255] * (256 - _VISIBLE)).getbbox()
    return image if extent is None else image.crop(extent)


def opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A picture of any kind, turned by its EXIF tag, in sRGB; RGB. Transparency shows the background, in 0 to 255."""
    image = plain(image)
    if image.mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _side(size: Any) -> int:
    """Side of a square in transformers' spellings: a number, ``shortest_edge``, or equal ``height`` and ``width``."""
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size["height"] != size["width"]:
        raise ValueError("the encoder's pictures are not square")
    return int(size["height"])
