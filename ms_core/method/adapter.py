"""The adapter: resampler and one key/value projection per cross-attention layer, put into a UNet and taken out again."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ms_core.config import ModelCard, ResamplerConfig
from ms_core.errors import ModelError, UnknownAttentionDataError
from ms_core.method.attention import (
    Attend,
    SelfAttentionProcessor,
    SubjectAttentionProcessor,
    SubjectProjection,
    fused_attention,
)
from ms_core.method.attention_data import ATTENTION_DATA, AttentionData
from ms_core.method.resampler import GroundingResampler

_CROSS_ATTENTION = ".attn2"
_PROCESSOR = ".processor"


@dataclass(frozen=True, slots=True)
class LayerSize:
    """Sizes of one cross-attention layer: width of the text it reads, and of its keys and values."""

    cross_attention_dim: int
    inner_dim: int


@dataclass(frozen=True, slots=True)
class _Installation:
    unet: Any
    processors: dict[str, Any]
    guard: RemovableHandle


class MSAdapter(nn.Module):
    """All weights of MS-Diffusion beside SDXL's own; the keys of its state dict are module paths.

    Attributes:
        resampler: makes subject tokens.
        attention: a tree of ``SubjectProjection`` that mirrors the UNet's module paths.
        dummy_tokens: background tokens of the checkpoint; loaded and saved but never used, since they cannot
            reach the output (see ``masked_subject_attention``).
    """

    dummy_tokens: torch.Tensor

    def __init__(
        self,
        config: ResamplerConfig,
        layers: Mapping[str, LayerSize],
        num_dummy_tokens: int = 4,
        attend: Attend = fused_attention,
    ) -> None:
        """Build an adapter with random weights.

        Args:
            config: sizes of the resampler.
            layers: cross-attention layers by module path, in the order of ``unet.attn_processors``.
            num_dummy_tokens: see ``dummy_tokens``.
            attend: the softmax attention of all layers.
        """
        super().__init__()
        self.attend = attend
        self.layer_paths = tuple(layers)
        self.resampler = GroundingResampler(config)
        self.attention = nn.Module()
        for path, size in layers.items():
            _add_at_path(self.attention, path, SubjectProjection(size.cross_attention_dim, size.inner_dim))
        self.register_buffer("dummy_tokens", torch.zeros(1, num_dummy_tokens, config.output_dim))
        self._installation: _Installation | None = None

    @classmethod
    def for_unet(cls, unet: Any, card: ModelCard, attend: Attend = fused_attention) -> MSAdapter:
        """Build an adapter with random weights for a ``UNet2DConditionModel`` and a model card."""
        return cls(card.resampler, cross_attention_layers(unet), card.num_dummy_tokens, attend)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of what the resampler reads."""
        return self.resampler.proj_in.weight.dtype

    def projection(self, path: str) -> SubjectProjection:
        """Weights of the cross-attention layer at a module path of the UNet."""
        projection = self.attention.get_submodule(path)
        if not isinstance(projection, SubjectProjection):
            raise ModelError(f"The adapter has no attention layer {path}.")
        return projection

    @torch.no_grad()
    def copy_text_projections(self, unet: Any) -> None:
        """Start the subjects' keys and values from the UNet's text projections, as the paper's training does."""
        for path in self.layer_paths:
            projection, attn = self.projection(path), unet.get_submodule(path)
            projection.to_k.weight.copy_(attn.to_k.weight)
            projection.to_v.weight.copy_(attn.to_v.weight)

    @torch.no_grad()
    def project(self, unet: Any, prompt_embeds: Float[Tensor, "rows 77 cross_dim"], data: AttentionData) -> None:
        """Compute keys and values of text and subjects in all layers of a UNet that has this adapter installed.

        They are cached in ``data``: later UNet calls with the same ``prompt_embeds`` need neither the UNet's projections
        nor the adapter's.
        """
        for path in self.layer_paths:
            layer = unet.get_submodule(path)
            layer.processor.project(layer, prompt_embeds, data)

    def install(self, unet: Any) -> None:
        """Put this adapter's processors into ``unet``; from then on each of its calls must bring attention data.

        Raises:
            ModelError: the adapter is installed already, or does not fit.
        """
        if self._installation is not None:
            raise ModelError("This adapter is installed already; uninstall it first.")
        if tuple(cross_attention_layers(unet)) != self.layer_paths:
            raise ModelError("This adapter was built for a UNet with other attention layers.")
        originals: dict[str, Any] = unet.attn_processors
        unet.set_attn_processor({name: self._processor(name, original) for name, original in originals.items()})
        guard = unet.register_forward_pre_hook(_require_attention_data, with_kwargs=True)
        self._installation = _Installation(unet, originals, guard)

    def uninstall(self, unet: Any) -> None:
        """Undo ``install`` exactly.

        Raises:
            ModelError: the adapter is not installed in this UNet.
        """
        if self._installation is None or self._installation.unet is not unet:
            raise ModelError("This adapter is not installed in this UNet.")
        unet.set_attn_processor(dict(self._installation.processors))
        self._installation.guard.remove()
        self._installation = None

    @contextmanager
    def installed(self, unet: Any) -> Generator[None]:
        """Install for the length of a ``with`` block."""
        self.install(unet)
        try:
            yield
        finally:
            self.uninstall(unet)

    def _processor(self, name: str, original: Any) -> SubjectAttentionProcessor | SelfAttentionProcessor:
        path = name.removesuffix(_PROCESSOR)
        if path.endswith(_CROSS_ATTENTION):
            return SubjectAttentionProcessor(path, self.projection(path), self.attend)
        return SelfAttentionProcessor(original)


def cross_attention_layers(unet: Any) -> dict[str, LayerSize]:
    """Cross-attention layers of a UNet by module path, in the order of ``unet.attn_processors`` (mid block last)."""
    layers: dict[str, LayerSize] = {}
    for name in unet.attn_processors:
        path = name.removesuffix(_PROCESSOR)
        if path.endswith(_CROSS_ATTENTION):
            to_k = unet.get_submodule(path).to_k
            layers[path] = LayerSize(to_k.in_features, to_k.out_features)
    return layers


def _require_attention_data(unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse a UNet call without exactly the attention data: diffusers silently drops unknown keys."""
    given: Mapping[str, Any] = kwargs.get("cross_attention_kwargs") or {}
    if set(given) != {ATTENTION_DATA} or not isinstance(given[ATTENTION_DATA], AttentionData):
        raise UnknownAttentionDataError(
            f"A UNet with an adapter is called with cross_attention_kwargs={{{ATTENTION_DATA!r}: AttentionData(...)}} "
            f"and no other key, not with {sorted(given)}."
        )


def _add_at_path(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register ``module`` below ``root`` at a dotted path, creating its parents."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
