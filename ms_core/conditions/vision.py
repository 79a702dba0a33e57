"""What the image encoder makes of the subjects' reference pictures; pictures that were read lately are not read
again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import torch
from cachetools import LRUCache
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.conditions.cutout import upright_rgba
from ms_core.conditions.references import ReferencePreprocessor, SeenPicture
from ms_core.device.residency import Residency
from ms_core.spec import GenerationSpec, GenerationWarning, Subject

FEATURES_BYTES = 64 * 2**20
CUTOUTS_BYTES = 32 * 2**20

Value = TypeVar("Value")

_CUTOUT_FAILED = (
    "No subject stands out in this picture, so the whole picture is used. Give one with a plain or transparent "
    "background."
)


class ReferenceReader:
    """Reads reference pictures with one image encoder.

    It remembers the features of the last pictures, on the CPU, under the SHA-256 of their pixel values, and what it cut
    out of the last pictures. Each picture is encoded alone, so neither its neighbours nor the memory change a bit of it.

    Attributes:
        image_encoder: a ``CLIPVisionModelWithProjection``.
        preprocessor: its own.
    """

    def __init__(
        self,
        image_encoder: Any,
        preprocessor: ReferencePreprocessor,
        residency: Residency,
        features_bytes: int = FEATURES_BYTES,
    ) -> None:
        """Begin with nothing remembered.

        Args:
            image_encoder: a ``CLIPVisionModelWithProjection``.
            preprocessor: its own.
            residency: brings it to its device.
            features_bytes: how much to remember of what was encoded; 0 for nothing.
        """
        self.image_encoder = image_encoder
        self.preprocessor = preprocessor
        self._residency = residency
        self._features = LRUCache[bytes, Tensor](features_bytes, lambda features: features.nbytes)
        self._cutouts = LRUCache[bytes, SeenPicture](CUTOUTS_BYTES, lambda seen: len(seen.image.tobytes()))

    def see(self, subject: Subject) -> tuple[SeenPicture, ...]:
        """The subject's pictures as the encoder sees them, in order."""
        if not subject.cutout:
            return tuple(map(self.preprocessor.see, subject.images))
        return tuple(map(self._cut_out, subject.images))

    def features(self, pictures: Sequence[SeenPicture]) -> Float[Tensor, "pictures tokens feature_dim"]:
        """Penultimate hidden states of the image encoder, class token included, without its last norm.

        Returns:
            those of each picture, in order; on the encoder's device, in its dtype. Nothing is remembered while gradients
            flow.
        """
        pixel_values = [self.preprocessor.pixel_values(picture) for picture in pictures]
        if torch.is_grad_enabled():
            return torch.cat(self.encode(pixel_values))
        keys = [content_key(values.numpy().tobytes(), str(self.image_encoder.dtype)) for values in pixel_values]
        found = {key: features for key in keys if (features := self._features.get(key)) is not None}
        missing = {key: values for key, values in zip(keys, pixel_values, strict=True) if key not in found}
        for key, features in zip(missing, self.encode(list(missing.values())), strict=True):
            found[key] = features.cpu()
            _remember(self._features, key, found[key])
        return torch.cat([found[key] for key in keys]).to(self._residency.device)

    def encode(self, pixel_values: Sequence[Float[Tensor, "3 side side"]]) -> list[Float[Tensor, "1 tokens dim"]]:
        """What the image encoder makes of pixel values, of each picture alone; nothing is remembered."""
        if not pixel_values:
            return []
        encoder, device = self.image_encoder, self._residency.device
        with self._residency.use("image_encoder"):
            rows = [values.unsqueeze(0).to(device, encoder.dtype) for values in pixel_values]
            return [encoder(row, output_hidden_states=True).hidden_states[-2] for row in rows]

    @property
    def keeps_proportions(self) -> bool:
        """Whether subjects are to stand in their boxes with the proportions of their references."""
        return self.preprocessor.reference.keep_proportions

    def cutout_warnings(self, spec: GenerationSpec) -> tuple[GenerationWarning, ...]:
        """One for each picture of a spec whose subject should have been cut out and could not be."""
        return tuple(
            GenerationWarning("cutout_failed", _CUTOUT_FAILED, f"/subjects/{index}/{field}")
            for index, subject in enumerate(spec.subjects)
            if subject.cutout
            for seen, field in zip(self.see(subject), subject.image_fields, strict=True)
            if not seen.found
        )

    def _cut_out(self, image: Image.Image) -> SeenPicture:
        picture = upright_rgba(image)
        key = content_key(picture.tobytes(), repr(picture.size))
        seen = self._cutouts.get(key)
        if seen is None:
            seen = self.preprocessor.see(picture, cutout=True)
            _remember(self._cutouts, key, seen)
        return seen


def content_key(*parts: bytes | str) -> bytes:
    """The SHA-256 of some parts of a content, in order; other parts or another split give another key."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()


def _remember(cache: LRUCache[bytes, Value], key: bytes, value: Value) -> None:
    # The cache refuses a value that is larger than all of it.
    with suppress(ValueError):
        cache[key] = value
