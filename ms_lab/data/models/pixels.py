"""Frames as models read them: our own resize and normalisation, for the libraries' need torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ms_lab.data.items import Pixels

Numbers = Sequence[float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def squashed(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resized to these sides, whatever its proportions."""
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def fitted(pixels: Pixels, side: int, fill: int = 0) -> tuple[Pixels, float]:
    """Resized so that the longer side is ``side``, filled up to a square at the right and below; and the scale."""
    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    square = np.full((side, side, 3), fill, np.uint8)
    square[:height, :width] = squashed(pixels, height, width)
    return square, scale


def padded(pixels: Pixels, fill: int) -> Pixels:
    """Filled up to a square at the right and below, not resized."""
    side = max(pixels.shape[:2])
    square = np.full((side, side, 3), fill, np.uint8)
    square[: pixels.shape[0], : pixels.shape[1]] = pixels
    return square


def normalised(pictures: Sequence[Pixels], mean: Numbers, std: Numbers) -> Float[Tensor, "n 3 height width"]:
    """Pictures of one size as a float batch."""
    stacked = torch.as_tensor(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0
    return (stacked - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
