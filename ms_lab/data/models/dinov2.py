"""DINOv2 as matcher: cosine similarity of crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F
from transformers import Dinov2Model

from ms_lab.data.models.loading import load_model, pick_device
from ms_lab.data.models.pixels import IMAGENET_MEAN, IMAGENET_STD, normalised, squashed
from ms_lab.data.parts import Seen

_GREY = 124


class Dinov2Matcher:
    """Compares crops by their class token."""

    def __init__(self, model: str, side: int = 224, batch: int = 64) -> None:
        """``side``: of the crops, a multiple of the model's patch; ``batch``: crops at once."""
        self.device = pick_device()
        self.model = load_model(Dinov2Model, model, self.device)
        self.side, self.batch = side, batch

    def compare(self, groups: Sequence[Sequence[Seen]]) -> list[Float[np.ndarray, "n n"]]:
        """Cosine similarities within each group."""
        embeds = self._embed([seen for group in groups for seen in group])
        found: list[Float[np.ndarray, "n n"]] = []
        start = 0
        for group in groups:
            own = embeds[start : start + len(group)]
            found.append(own @ own.T)
            start += len(group)
        return found

    @torch.inference_mode()
    def _embed(self, seen: Sequence[Seen]) -> Float[np.ndarray, "n dim"]:
        rows: list[np.ndarray] = []
        for start in range(0, len(seen), self.batch):
            crops = [self._crop(item) for item in seen[start : start + self.batch]]
            pixels = normalised(crops, IMAGENET_MEAN, IMAGENET_STD).to(self.device, self.model.dtype)
            answer: Any = self.model(pixel_values=pixels)
            rows.append(F.normalize(answer.last_hidden_state[:, 0].float(), dim=-1).cpu().numpy())
        return np.concatenate(rows)

    def _crop(self, seen: Seen) -> np.ndarray:
        """The crop with grey around the mask, so that the background does not vote."""
        masked = np.where(seen.crop_mask[..., None], seen.crop, np.uint8(_GREY))
        return squashed(masked, self.side, self.side)
