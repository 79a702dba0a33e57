"""The method with one part left out: other attention processors and resamplers for a small model, which serving knows nothing of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ms_core.config import ResamplerConfig
from ms_core.method.attention import SubjectAttentionProcessor, split_heads
from ms_core.method.attention_data import AttentionData, KeyValue
from ms_core.method.masks import SubjectMask, SubjectWeights
from ms_core.method.resampler import GroundingResampler
from ms_lab.mini.recipe import MiniModel
from ms_lab.training.scene_attention import SceneAttentionProcessor

FULL, NO_GROUNDING, NO_MASKS, NO_ZEROING, IP_ADAPTER = (
    "full",
    "no-grounding",
    "no-masks",
    "no-zeroing",
    "ip-adapter",
)
# To be raised whenever a variant or the recipe changes: runs before and after cannot be compared.
METHOD_VERSION = 1
# As many as the IP-Adapter that projects a pooled embedding makes of a picture.
IP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to condition the small model.

    Attributes:
        title: in tables.
        about: one sentence that says what is left out.
        change: rebuilds a model with random weights and the adapter installed; what it leaves keeps its weights.
    """

    title: str
    about: str
    change: Callable[[MiniModel], None]


class LearnedQueries(GroundingResampler):
    """The resampler without grounding: its queries are the learned ones alone."""

    def forward(
        self,
        image_features: Float[Tensor, "b tokens feature_dim"],
        phrase_embeds: Float[Tensor, "b phrase_dim"],
        boxes: Float[Tensor, "b 4"],
        grounded: Bool[Tensor, " b"] | bool = True,
    ) -> Float[Tensor, "b num_queries output_dim"]:
        """Subject tokens, whatever phrase and box are."""
        return super().forward(image_features, phrase_embeds, boxes, grounded=False)


class PooledProjection(nn.Module):
    """The plain IP-Adapter's projection: a picture's pooled embedding becomes a few tokens; phrase and box are not read.

    The embedding is the mean of the penultimate features: the bundled encoder's last layer and its projection were never
    trained.
    """

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.proj_in = nn.Linear(config.feature_dim, IP_TOKENS * config.output_dim)
        self.norm_out = nn.LayerNorm(config.output_dim)

    def forward(
        self,
        image_features: Float[Tensor, "b tokens feature_dim"],
        phrase_embeds: Float[Tensor, "b phrase_dim"],
        boxes: Float[Tensor, "b 4"],
        grounded: Bool[Tensor, " b"] | bool = True,
    ) -> Float[Tensor, "b ip_tokens output_dim"]:
        """Subject tokens, with the resampler's signature."""
        return self.norm_out(self.proj_in(image_features.mean(1)).unflatten(-1, (IP_TOKENS, -1)))


class EverywhereProcessor(SceneAttentionProcessor):
    """Attention without masks: every subject acts in every cell."""

    def mask(
        self,
        data: AttentionData,
        query: Tensor,
        text_key: Tensor,
    ) -> SubjectMask:
        """All cells see all subjects that are there; boxes are not read."""
        present = data.subjects.present[..., None, None].float()
        weights = present.expand(-1, -1, query.shape[2], 1)
        return SubjectMask.from_weights(
            SubjectWeights(weights, weights, weights), data.subjects.tokens.shape[2], query.dtype
        )


class DummyTokensProcessor(SceneAttentionProcessor):
    """Attention without zeroing: cells outside all boxes see learned dummy tokens, in one softmax with the subjects'."""

    def __init__(self, original: SubjectAttentionProcessor, dummy_tokens: Float[nn.Parameter, "1 dummies dim"]) -> None:
        """Take the place of ``original``.

        Args:
            original: gives the layer and its weights.
            dummy_tokens: of all layers.
        """
        super().__init__(original.layer, original.projection, original.attend)
        self.dummy_tokens = dummy_tokens

    def mask(
        self,
        data: AttentionData,
        query: Tensor,
        text_key: Tensor,
    ) -> SubjectMask:
        """The dummies' columns first; nothing is zeroed afterwards."""
        attn_mask, coverage = super().mask(data, query, text_key)
        outside = coverage == 0
        dummies = torch.zeros_like(coverage).masked_fill(~outside, -torch.inf)
        dummies = dummies.expand(-1, -1, -1, self.dummy_tokens.shape[1])
        subjects = attn_mask.masked_fill(outside, -torch.inf)
        return SubjectMask(torch.cat([dummies, subjects], -1), torch.ones_like(coverage))

    def project_subjects(self, heads: int, data: AttentionData) -> KeyValue:
        """Keys and values of the dummy tokens, then those of the subjects."""
        key, value = super().project_subjects(heads, data)
        tokens = self.dummy_tokens.expand(len(key), -1, -1)
        dummy_key, dummy_value = (
            split_heads(project(tokens), heads) for project in (self.projection.to_k, self.projection.to_v)
        )
        return KeyValue(torch.cat([dummy_key, key], 2), torch.cat([dummy_value, value], 2))


def _leave(model: MiniModel) -> None:
    """Nothing is left out."""


def _drop_grounding(model: MiniModel) -> None:
    resampler = LearnedQueries(model.card.resampler)
    resampler.load_state_dict(model.adapter.resampler.state_dict())
    model.adapter.add_module("resampler", resampler)


def _drop_masks(model: MiniModel) -> None:
    _replace_processors(model, lambda each: EverywhereProcessor(each.layer, each.projection, each.attend))


def _drop_zeroing(model: MiniModel) -> None:
    adapter = model.adapter
    tokens = nn.Parameter(torch.randn_like(adapter.dummy_tokens))
    # The method only keeps them, as a buffer; here they are trained.
    del adapter.dummy_tokens
    adapter.register_parameter("dummy_tokens", tokens)
    _replace_processors(model, lambda each: DummyTokensProcessor(each, tokens))


def _project_pooled(model: MiniModel) -> None:
    model.adapter.add_module("resampler", PooledProjection(model.card.resampler))
    _drop_masks(model)


def _replace_processors(
    model: MiniModel, replace: Callable[[SubjectAttentionProcessor], SubjectAttentionProcessor]
) -> None:
    processors = model.unet.attn_processors.items()
    model.unet.set_attn_processor(
        {name: replace(each) if isinstance(each, SubjectAttentionProcessor) else each for name, each in processors}
    )


VARIANTS = {
    FULL: Variant("full method", "nothing is left out", _leave),
    NO_GROUNDING: Variant("no grounding", "learned queries; phrase and box never enter the resampler", _drop_grounding),
    NO_MASKS: Variant("no masks", "every subject acts in every cell", _drop_masks),
    NO_ZEROING: Variant("no zeroing", "cells outside all boxes see learned dummy tokens", _drop_zeroing),
    IP_ADAPTER: Variant("IP-Adapter", "one projection of the pooled embedding; no boxes, no masks", _project_pooled),
}
