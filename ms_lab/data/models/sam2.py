"""SAM 2 as segmenter, with our own resize and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import Sam2Model

from ms_lab.data.items import Frame, Mask
from ms_lab.data.models.loading import load_model, pick_device
from ms_lab.data.models.pixels import IMAGENET_MEAN, IMAGENET_STD, normalised, squashed


class Sam2Segmenter:
    """Finds silhouettes within boxes with SAM 2."""

    def __init__(self, model: str) -> None:
        self.device = pick_device()
        self.model = load_model(Sam2Model, model, self.device)
        # In whose pixels the prompts are given.
        self.side = int(self.model.config.prompt_encoder_config.image_size)

    @torch.inference_mode()
    def segment(self, frames: Sequence[Frame]) -> list[list[Mask]]:
        """A mask for each detection of the frames."""
        return [self._segment(frame) for frame in frames]

    def _segment(self, frame: Frame) -> list[Mask]:
        pixels = normalised([squashed(frame.pixels, self.side, self.side)], IMAGENET_MEAN, IMAGENET_STD)
        boxes = [[value * self.side for value in found.box.as_tuple()] for found in frame.detections]
        answer: Any = self.model(
            pixel_values=pixels.to(self.device, self.model.dtype),
            input_boxes=torch.tensor([boxes], dtype=self.model.dtype, device=self.device),
            multimask_output=False,
        )
        logits = answer.pred_masks[0, :, :1].float()
        masks = F.interpolate(logits, (frame.height, frame.width), mode="bilinear", align_corners=False)[:, 0] > 0
        return list(masks.cpu().numpy())
