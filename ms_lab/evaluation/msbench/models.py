"""The networks that judge pictures: CLIP, DINOv2 and OWLv2, each by hub id or folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, CLIPModel

from ms_core.errors import ModelNotFoundError
from ms_lab.data.items import Pixels
from ms_lab.data.models.loading import load_model, load_tokenizer, pick_device, read_json
from ms_lab.data.models.owlv2 import Owlv2Detector
from ms_lab.data.models.pixels import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, normalised, squashed
from ms_lab.data.models.places import find_model
from ms_lab.data.parts import Detector
from ms_lab.evaluation.run.folder import digest_model

_BATCH, _DINO_SIDE = 64, 224

Rows = Float[np.ndarray, "n dim"]


class Embedder(Protocol):
    """Embeds pictures."""

    def pictures(self, pictures: Sequence[Pixels]) -> Rows:
        """A unit vector for each RGB picture, whatever its size."""
        ...


class TextEmbedder(Embedder, Protocol):
    """Embeds pictures and texts into one space."""

    def texts(self, texts: Sequence[str]) -> Rows:
        """A unit vector for each text."""
        ...


@dataclass(frozen=True, slots=True)
class Judges:
    """What looks at pictures.

    Attributes:
        clip: for CLIP-T and CLIP-I.
        dino: for DINO, M-DINO and collapse.
        detector: for the layout.
    """

    clip: TextEmbedder
    dino: Embedder
    detector: Detector


@dataclass(frozen=True, slots=True)
class JudgeNames:
    """Hub ids or folders of the judges' weights, and the least score of a detection."""

    clip: str = "openai/clip-vit-large-patch14"
    dino: str = "facebook/dinov2-base"
    detector: str = "google/owlv2-base-patch16-ensemble"
    threshold: float = 0.2

    def describe(self) -> dict[str, Any]:
        """Each model and its revision: the hub's commit, or a digest of the folder.

        Raises:
            ModelNotFoundError: one is not on this machine.
        """
        models = {role: _revision(getattr(self, role), role) for role in ("clip", "dino", "detector")}
        return {**models, "detector_threshold": self.threshold}

    def load(self) -> Judges:
        """The models; on the GPU in float16 if there is one.

        Raises:
            ModelNotFoundError, CheckpointError: one is missing or cannot be used.
        """
        return Judges(ClipEmbedder(self.clip), DinoEmbedder(self.dino), Owlv2Detector(self.detector, self.threshold))


def _revision(name: str, role: str) -> dict[str, str]:
    try:
        folder = find_model(name)
    except ModelNotFoundError as error:
        first = error.detail.split(";")[0]
        raise ModelNotFoundError(f"{first}; or name its folder with --{role}.") from error
    if Path(name).is_dir():
        return {"model": folder.resolve().name, "sha256": digest_model(folder)}
    return {"model": name, "revision": folder.name}


class ClipEmbedder:
    """Embeds with CLIP."""

    def __init__(self, model: str) -> None:
        self.device = pick_device()
        self.model = load_model(CLIPModel, model, self.device)
        self.tokenizer = load_tokenizer(model)
        self.side = int(self.model.config.vision_config.image_size)
        self.most_tokens = int(self.model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Pixels]) -> Rows:
        """See ``Embedder``."""

        def embed(batch: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n dim"]:
            seen: Any = self.model.vision_model(pixel_values=batch.to(self.device, self.model.dtype))
            return self.model.visual_projection(seen.pooler_output)

        return _embed(pictures, self.side, (CLIP_MEAN, CLIP_STD), embed)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Rows:
        """See ``TextEmbedder``; what is too long is cut off."""
        tokens: Any = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.most_tokens, return_tensors="pt"
        )
        read: Any = self.model.text_model(
            input_ids=tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device)
        )
        return _unit(self.model.text_projection(read.pooler_output))


class DinoEmbedder:
    """Embeds with the class token of DINOv2."""

    def __init__(self, model: str) -> None:
        self.device = pick_device()
        self.model = load_model(AutoModel, model, self.device)
        facts = read_json(model, "preprocessor_config.json")
        self.levels = facts.get("image_mean", IMAGENET_MEAN), facts.get("image_std", IMAGENET_STD)

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Pixels]) -> Rows:
        """See ``Embedder``."""

        def embed(batch: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n dim"]:
            seen: Any = self.model(pixel_values=batch.to(self.device, self.model.dtype))
            return seen.last_hidden_state[:, 0]

        return _embed(pictures, _DINO_SIDE, self.levels, embed)


def _embed(
    pictures: Sequence[Pixels],
    side: int,
    levels: tuple[Sequence[float], Sequence[float]],
    embed: Callable[[Any], Any],
) -> Rows:
    """Unit vectors of pictures, squashed to a square."""
    return np.concatenate(
        [
            _unit(embed(normalised([squashed(each, side, side) for each in batch], *levels)))
            for batch in _batches(pictures)
        ]
    )


def _batches(pictures: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    for start in range(0, len(pictures), _BATCH):
        yield pictures[start : start + _BATCH]


def _unit(rows: Float[Tensor, "n dim"]) -> Rows:
    return F.normalize(rows.float(), dim=-1).cpu().numpy()
