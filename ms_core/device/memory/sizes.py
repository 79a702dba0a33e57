"""The sizes of a model, from its config files and the headers of its weights alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import torch

from ms_core.config import WEIGHTS_FILE, ModelCard
from ms_core.device.modes import Part
from ms_core.model_dir.inspection.components import IMAGE_ENCODER, TEXT_ENCODERS, UNET, VAE, Component, read_component
from ms_core.model_dir.inspection.files import read_tensors
from ms_core.model_dir.inspection.findings import Notes
from ms_core.model_dir.inspection.headers import TensorHeader

_TEXT_PROJECTIONS = (".attn2.to_k.weight", ".attn2.to_v.weight")
_RESAMPLER = "resampler."
_SUBJECT_PROJECTIONS = "attention."


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of one number: of all models but the VAE, and of the VAE."""

    models: int = 2
    vae: int = 2

    @classmethod
    def of(cls, dtype: torch.dtype, sizes: ModelSizes) -> Precision:
        """That of a model loaded in ``dtype``, as ``ms_core.model_dir.loading`` does it."""
        is_upcast = dtype == torch.float16 and sizes.vae_needs_float32
        return cls(dtype.itemsize, torch.float32.itemsize if is_upcast else dtype.itemsize)


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What an estimate must know of a model; the defaults are those of SDXL with the released adapter.

    Attributes:
        text_encoders, image_encoder, resampler, projections, unet, vae: numbers in the weights of each part, as
            ``ms_core.device.modes.Part`` divides them.
        unet_channels: of the UNet's first level.
        vae_channels: of the VAE's second level.
        text_width: of what cross-attention reads.
        image_width, image_tokens, image_layers: of the image encoder's hidden states.
        subject_tokens: made for each subject.
        vae_needs_float32: whether the VAE overflows in float16.
    """

    text_encoders: int = 817_720_320
    image_encoder: int = 1_844_907_264
    resampler: int = 118_943_616
    projections: int = 681_574_400
    unet: int = 2_226_676_484
    vae: int = 83_653_863
    unet_channels: int = 320
    vae_channels: int = 256
    text_width: int = 2048
    image_width: int = 1664
    image_tokens: int = 257
    image_layers: int = 48
    subject_tokens: int = 16
    vae_needs_float32: bool = False

    @classmethod
    def read(cls, directory: Path, card: ModelCard) -> ModelSizes:
        """The sizes of a model directory; missing or broken files count nothing; the loader reports them better."""
        notes = Notes("")
        names = (*TEXT_ENCODERS, IMAGE_ENCODER, UNET, VAE)
        found = {name: read_component(directory, name, notes) for name in names}
        unet, vae, image_encoder = found[UNET], found[VAE], found[IMAGE_ENCODER]
        has_adapter = (directory / WEIGHTS_FILE).is_file()
        adapter = (read_tensors(directory, WEIGHTS_FILE, notes) if has_adapter else None) or {}
        text_projections = _count(_tensors(unet), endings=_TEXT_PROJECTIONS)
        return cls(
            text_encoders=sum(_count(_tensors(found[name])) for name in TEXT_ENCODERS),
            image_encoder=_count(_tensors(image_encoder)),
            resampler=_count(adapter, beginning=_RESAMPLER),
            projections=text_projections + _count(adapter, beginning=_SUBJECT_PROJECTIONS),
            unet=_count(_tensors(unet)) - text_projections,
            vae=_count(_tensors(vae)),
            unet_channels=_number(unet, "block_out_channels", 0),
            vae_channels=_number(vae, "block_out_channels", 1),
            text_width=card.resampler.output_dim,
            image_width=_number(image_encoder, "hidden_size"),
            image_tokens=_image_tokens(image_encoder),
            image_layers=_number(image_encoder, "num_hidden_layers"),
            subject_tokens=card.resampler.num_queries,
            vae_needs_float32=vae is not None and bool(vae.config.get("force_upcast", True)),
        )

    def weights(self, parts: Iterable[Part], precision: Precision) -> int:
        """Bytes of the weights of some parts; ControlNets are not counted, for each is loaded when it is asked for."""
        numbers: dict[Part, int] = {
            "text_encoders": self.text_encoders,
            "image_encoder": self.image_encoder,
            "resampler": self.resampler,
            "projections": self.projections,
            "unet": self.unet,
            "controlnets": 0,
            "vae": self.vae,
        }
        return sum(numbers[part] * (precision.vae if part == "vae" else precision.models) for part in parts)


def _tensors(component: Component | None) -> Mapping[str, TensorHeader]:
    return {} if component is None else component.tensors


def _count(tensors: Mapping[str, TensorHeader], beginning: str = "", endings: tuple[str, ...] = ("",)) -> int:
    """Numbers in the tensors whose names begin and end so."""
    chosen = (name for name in tensors if name.startswith(beginning) and name.endswith(endings))
    return sum(prod(tensors[name].shape) for name in chosen)


def _number(component: Component | None, key: str, index: int = 0) -> int:
    """A number of a component's config, or one in a list of numbers; 0 where there is none."""
    value: Any = None if component is None else component.number(key)
    if isinstance(value, list):
        numbers = cast("list[Any]", value)
        value = numbers[min(index, len(numbers) - 1)] if numbers else None
    return value if isinstance(value, int) else 0


def _image_tokens(image_encoder: Component | None) -> int:
    """The class token, and one for each patch."""
    patch = _number(image_encoder, "patch_size")
    return 1 + (_number(image_encoder, "image_size") // patch) ** 2 if patch else 0
