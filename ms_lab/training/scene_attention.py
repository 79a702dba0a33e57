"""Attention of training rows that share scenes: keys and values of subjects and captions are projected once for all of them.

The same numbers as serving's processors give, for less: several rows of a step show the same scene at different noise
levels, and padding is not projected at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ms_core.method.attention import SubjectAttentionProcessor, split_heads
from ms_core.method.attention_data import AttentionData, KeyValue


@dataclass(frozen=True, slots=True)
class Shared:
    """What the rows of a batch take from a few sources.

    Attributes:
        values: each source once.
        of: source of each row, or of each subject of each row; ``len(values)`` is none.
    """

    values: Float[Tensor, "sources tokens dim"]
    of: Int[Tensor, " rows"] | Int[Tensor, "rows subjects"]

    def spread(self, projected: Float[Tensor, "sources tokens inner"]) -> Float[Tensor, "rows tokens_of_row inner"]:
        """What was projected from the sources, laid out row by row; zeros where there is none."""
        padded = torch.cat([projected, projected.new_zeros(1, *projected.shape[1:])])
        return padded.index_select(0, self.of.flatten()).view(len(self.of), -1, projected.shape[-1])


@dataclass(eq=False, slots=True)
class SceneAttentionData(AttentionData):
    """Attention data whose rows share subjects and captions.

    Attributes:
        shared_subjects: tokens of all subjects that are present.
        shared_captions: the prompt embeddings of every caption; ``None`` projects those of each row.
    """

    shared_subjects: Shared = field(kw_only=True)
    shared_captions: Shared | None = field(kw_only=True, default=None)


class SceneAttentionProcessor(SubjectAttentionProcessor):
    """The adapter's processor in training."""

    def project_text(self, attn: Any, encoder_hidden_states: Tensor, data: AttentionData) -> KeyValue:
        """Keys and values of the captions, each projected once."""
        shared = data.shared_captions if isinstance(data, SceneAttentionData) else None
        if shared is None:
            return super().project_text(attn, encoder_hidden_states, data)
        return KeyValue(
            split_heads(shared.spread(attn.to_k(shared.values)), attn.heads),
            split_heads(shared.spread(attn.to_v(shared.values)), attn.heads),
        )

    def project_subjects(self, heads: int, data: AttentionData) -> KeyValue:
        """Keys and values of the subjects, each projected once; in training their scales are all 1."""
        if not isinstance(data, SceneAttentionData):
            return super().project_subjects(heads, data)
        shared = data.shared_subjects
        return KeyValue(
            split_heads(shared.spread(self.projection.to_k(shared.values)), heads),
            split_heads(shared.spread(self.projection.to_v(shared.values)), heads),
        )


def share_subjects(
    tokens: Float[Tensor, "sources queries dim"],
    present: Bool[Tensor, "scenes subjects"],
    scene_of_row: Int[Tensor, " rows"],
) -> Shared:
    """The tokens of all subjects that are present, scene by scene, and which of them each row has where."""
    numbers = torch.where(present, present.flatten().cumsum(0).view_as(present) - 1, len(tokens))
    return Shared(tokens, numbers[scene_of_row])


def share_scenes(unet: Any) -> None:
    """Let the processors of a UNet with an adapter installed project what rows share once."""
    processors = {
        name: SceneAttentionProcessor(old.layer, old.projection, old.attend)
        if isinstance(old, SubjectAttentionProcessor)
        else old
        for name, old in unet.attn_processors.items()
    }
    unet.set_attn_processor(processors)
