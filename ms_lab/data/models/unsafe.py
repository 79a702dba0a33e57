"""Whether a frame is unsafe, by a picture classifier that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForImageClassification

from ms_core.errors import InvalidInputError
from ms_lab.data.items import Frame
from ms_lab.data.models.loading import load_model, pick_device, read_json
from ms_lab.data.models.pixels import IMAGENET_MEAN, IMAGENET_STD, normalised, squashed


class UnsafeClassifier:
    """The probability of the labels that count as unsafe."""

    def __init__(self, model: str, labels: Sequence[str]) -> None:
        """``labels``: of the model's, those that are unsafe; case does not matter.

        Raises:
            InvalidInputError: the model has none of them.
        """
        self.device = pick_device()
        self.model = load_model(AutoModelForImageClassification, model, self.device)
        wanted = {label.lower() for label in labels}
        named: dict[int, str] = self.model.config.id2label
        self.unsafe = [number for number, label in named.items() if label.lower() in wanted]
        if not self.unsafe:
            raise InvalidInputError(
                f"The classifier {model} knows none of filters.unsafe_labels, but {', '.join(named.values())}."
            )
        facts = read_json(model, "preprocessor_config.json")
        self.mean, self.std = facts.get("image_mean", IMAGENET_MEAN), facts.get("image_std", IMAGENET_STD)
        self.side = int(getattr(self.model.config, "image_size", 224))

    @torch.inference_mode()
    def __call__(self, frame: Frame) -> float:
        """From 0 to 1."""
        pixels = normalised([squashed(frame.pixels, self.side, self.side)], self.mean, self.std)
        answer: Any = self.model(pixel_values=pixels.to(self.device, self.model.dtype))
        return float(answer.logits.float().softmax(-1)[0, self.unsafe].sum())
