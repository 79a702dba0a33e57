"""Grounding DINO as detector: all phrases of a frame in one text, boxes with a score for each of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GroundingDinoForObjectDetection

from ms_lab.data.geometry import clamped_box
from ms_lab.data.items import Detection, Frame
from ms_lab.data.models.loading import indexes_above, load_model, load_tokenizer, pick_device
from ms_lab.data.models.pixels import IMAGENET_MEAN, IMAGENET_STD, normalised, squashed


class GroundingDinoDetector:
    """Finds phrases with Grounding DINO."""

    def __init__(self, model: str, threshold: float = 0.25, short_side: int = 800) -> None:
        """``threshold``: least score of a box; ``short_side``: in pixels, of what the model sees."""
        self.device = pick_device()
        self.model = load_model(GroundingDinoForObjectDetection, model, self.device)
        self.tokenizer = load_tokenizer(model)
        self.threshold, self.short_side = threshold, short_side

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """What is found of each frame's phrases."""
        return [self._detect(frame, own) for frame, own in zip(frames, phrases, strict=True)]

    def _detect(self, frame: Frame, phrases: Sequence[str]) -> list[Detection]:
        text, spans = _text_of(phrases)
        encoded = self.tokenizer(text, return_tensors="pt", return_offsets_mapping=True, truncation=True)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        scale = min(self.short_side / min(frame.height, frame.width), 1333 / max(frame.height, frame.width))
        height, width = (max(32, round(side * scale)) for side in (frame.height, frame.width))
        pixels = normalised([squashed(frame.pixels, height, width)], IMAGENET_MEAN, IMAGENET_STD)
        found: Any = self.model(pixel_values=pixels.to(self.device, self.model.dtype), **encoded.to(self.device))
        scores = found.logits[0].float().sigmoid().cpu()
        tokens = [[n for n, (a, b) in enumerate(offsets) if a >= start and b <= end and b > a] for start, end in spans]
        return self._boxes(phrases, tokens, scores, found.pred_boxes[0].float().cpu())

    def _boxes(
        self,
        phrases: Sequence[str],
        tokens: Sequence[Sequence[int]],
        scores: Float[Tensor, "queries tokens"],
        boxes: Float[Tensor, "queries 4"],
    ) -> list[Detection]:
        """Every box goes to the phrase whose tokens it answers to most, so that no label mixes two phrases."""
        nothing = torch.zeros(len(scores))
        by_phrase = torch.stack([scores[:, own].max(1).values if len(own) else nothing for own in tokens], 1)
        best: Any
        best, phrase = by_phrase.max(1)
        rows: Any = boxes
        found: list[Detection] = []
        for query in indexes_above(best, self.threshold):
            x, y, width, height = rows[query].tolist()
            box = clamped_box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            if box is not None:
                found.append(Detection(phrases[int(phrase[query])], box, float(best[query])))
        return found


def _text_of(phrases: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """``cat. teapot.`` and where each phrase stands in it."""
    text, spans = "", list[tuple[int, int]]()
    for phrase in phrases:
        plain = phrase.lower().replace(".", " ")
        spans.append((len(text), len(text) + len(plain)))
        text += f"{plain}. "
    return text.strip(), spans
