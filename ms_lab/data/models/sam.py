"""SAM 1 as segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import SamModel

from ms_lab.data.items import Frame, Mask
from ms_lab.data.models.loading import load_model, pick_device
from ms_lab.data.models.pixels import IMAGENET_MEAN, IMAGENET_STD, fitted, normalised


class SamSegmenter:
    """Finds silhouettes within boxes with SAM 1."""

    def __init__(self, model: str) -> None:
        self.device = pick_device()
        self.model = load_model(SamModel, model, self.device)
        self.side = int(self.model.config.vision_config.image_size)

    @torch.inference_mode()
    def segment(self, frames: Sequence[Frame]) -> list[list[Mask]]:
        """A mask for each detection of the frames."""
        return [self._segment(frame) for frame in frames]

    def _segment(self, frame: Frame) -> list[Mask]:
        square, scale = fitted(frame.pixels, self.side)
        height, width = round(frame.height * scale), round(frame.width * scale)
        pixels = normalised([square], IMAGENET_MEAN, IMAGENET_STD)
        # The padding is zero after normalisation.
        pixels[:, :, height:], pixels[:, :, :, width:] = 0.0, 0.0
        boxes = [
            [b.x_min * width, b.y_min * height, b.x_max * width, b.y_max * height]
            for b in (found.box for found in frame.detections)
        ]
        answer: Any = self.model(
            pixel_values=pixels.to(self.device, self.model.dtype),
            input_boxes=torch.tensor([boxes], dtype=self.model.dtype, device=self.device),
            multimask_output=False,
        )
        logits = answer.pred_masks[0, :, :1].float()
        large = F.interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)[
            :, :, :height, :width
        ]
        masks = F.interpolate(large, (frame.height, frame.width), mode="bilinear", align_corners=False)[:, 0] > 0
        return list(masks.cpu().numpy())
