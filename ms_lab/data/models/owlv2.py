"""OWLv2 as detector: open-vocabulary boxes, one query for each phrase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Owlv2ForObjectDetection

from ms_lab.data.geometry import clamped_box
from ms_lab.data.items import Detection, Frame
from ms_lab.data.models.loading import indexes_above, load_model, load_tokenizer, pick_device
from ms_lab.data.models.pixels import CLIP_MEAN, CLIP_STD, normalised, padded, squashed

_PROMPT, _QUERY_TOKENS, _GREY = "a photo of a {}", 16, 128


class Owlv2Detector:
    """Finds phrases with OWLv2."""

    def __init__(self, model: str, threshold: float = 0.2) -> None:
        """``threshold``: least score of a box."""
        self.device = pick_device()
        self.model = load_model(Owlv2ForObjectDetection, model, self.device)
        self.tokenizer = load_tokenizer(model)
        self.threshold = threshold
        self.side = int(self.model.config.vision_config.image_size)

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """What is found of each frame's phrases."""
        pictures = [squashed(padded(frame.pixels, _GREY), self.side, self.side) for frame in frames]
        pixel_values = normalised(pictures, CLIP_MEAN, CLIP_STD).to(self.device, self.model.dtype)
        tokens, present = self._queries(phrases)
        found: Any = self.model(
            input_ids=tokens.to(self.device), attention_mask=present.to(self.device), pixel_values=pixel_values
        )
        scores, boxes = found.logits.float().sigmoid().cpu(), found.pred_boxes.float().cpu()
        return [
            self._found(frame, own, scores[row], boxes[row])
            for row, (frame, own) in enumerate(zip(frames, phrases, strict=True))
        ]

    def _queries(self, phrases: Sequence[Sequence[str]]) -> tuple[Int[Tensor, "n tokens"], Int[Tensor, "n tokens"]]:
        """Tokens of all frames' queries; every frame has as many, and those too many are zeros, which the model masks."""
        most = max(len(own) for own in phrases)
        tokens = torch.zeros(len(phrases), most, _QUERY_TOKENS, dtype=torch.long)
        present = torch.zeros_like(tokens)
        for row, own in enumerate(phrases):
            encoded = self.tokenizer(
                [_PROMPT.format(phrase) for phrase in own],
                padding="max_length",
                truncation=True,
                max_length=_QUERY_TOKENS,
                return_tensors="pt",
            )
            tokens[row, : len(own)] = encoded.input_ids
            present[row, : len(own)] = encoded.attention_mask
        return tokens.flatten(0, 1), present.flatten(0, 1)

    def _found(
        self,
        frame: Frame,
        phrases: Sequence[str],
        scores: Float[Tensor, "patches queries"],
        boxes: Float[Tensor, "patches 4"],
    ) -> list[Detection]:
        best: Any
        best, query = scores[:, : len(phrases)].max(1)
        rows: Any = boxes
        # Boxes are of the padded square.
        side = max(frame.height, frame.width)
        found: list[Detection] = []
        for patch in indexes_above(best, self.threshold):
            x, y, width, height = (value * side for value in rows[patch].tolist())
            box = clamped_box(
                (x - width / 2) / frame.width,
                (y - height / 2) / frame.height,
                (x + width / 2) / frame.width,
                (y + height / 2) / frame.height,
            )
            if box is not None:
                found.append(Detection(phrases[int(query[patch])], box, float(best[patch])))
        return found
