"""The parts of a model that a memory mode may keep away from the device."""

from __future__ import annotations

from typing import Any

from torch import nn

from ms_core.device.modes import Part
from ms_core.device.residency import PartModules, modules_below
from ms_core.method.adapter import MSAdapter


def model_parts(components: Any, image_encoder: nn.Module, adapter: MSAdapter) -> dict[Part, PartModules]:
    """The parts of a model except its ControlNets.

    Args:
        components: a ``StableDiffusionXLPipeline``.
        image_encoder: a ``CLIPVisionModelWithProjection``.
        adapter: installed or not.
    """

    def text_projections() -> list[nn.Module]:
        layers = [components.unet.get_submodule(path) for path in adapter.layer_paths]
        return [projection for layer in layers for projection in (layer.to_k, layer.to_v)]

    return {
        "text_encoders": lambda: modules_below(components.text_encoder, components.text_encoder_2),
        "image_encoder": lambda: modules_below(image_encoder),
        "resampler": lambda: modules_below(adapter.resampler),
        "projections": lambda: modules_below(*text_projections(), adapter.attention),
        "unet": lambda: modules_below(components.unet, without=text_projections()),
        "vae": lambda: modules_below(components.vae),
    }
