"""BLIP-2 as captioner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import Blip2ForConditionalGeneration

from ms_lab.data.items import Frame
from ms_lab.data.models.loading import load_model, load_tokenizer, pick_device
from ms_lab.data.models.pixels import CLIP_MEAN, CLIP_STD, normalised, squashed


class Blip2Captioner:
    """Captions frames with BLIP-2."""

    def __init__(self, model: str, max_new_tokens: int = 30) -> None:
        self.device = pick_device()
        self.model = load_model(Blip2ForConditionalGeneration, model, self.device)
        self.tokenizer = load_tokenizer(model)
        self.max_new_tokens = max_new_tokens
        self.side = int(self.model.config.vision_config.image_size)

    @torch.inference_mode()
    def caption(self, frames: Sequence[Frame]) -> list[str]:
        """One sentence for each frame, without sampling."""
        pictures = [squashed(frame.pixels, self.side, self.side) for frame in frames]
        pixels = normalised(pictures, CLIP_MEAN, CLIP_STD).to(self.device, self.model.dtype)
        tokens = self.model.generate(pixel_values=pixels, max_new_tokens=self.max_new_tokens, do_sample=False)
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
