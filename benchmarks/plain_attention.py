"""Subject attention as the formula is written down: the slow, obvious path that the fast one is compared with.

Everything is computed in every layer at every step: masks, keys and values, and the whole matrix of probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ms_core.method.adapter import MSAdapter
from ms_core.method.attention import SubjectProjection
from ms_core.method.attention_data import SubjectBatch
from ms_core.method.boxes import attention_grids, boxes_to_masks


@dataclass(frozen=True, slots=True)
class PlainSubjects:
    """What one request brings; the unconditional rows come first and see no subject."""

    subjects: SubjectBatch
    latents_size: tuple[int, int]


class PlainProcessor:
    """``attn2`` of one layer by plain products."""

    def __init__(self, projection: SubjectProjection, request: PlainSubjects) -> None:
        self.projection, self.request = projection, request

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        query = _heads(attn.to_q(hidden_states), attn.heads)
        text = _attend(
            query,
            _heads(attn.to_k(encoder_hidden_states), attn.heads),
            _heads(attn.to_v(encoder_hidden_states), attn.heads),
        )
        rows = len(self.request.subjects.tokens)
        text[-rows:] += self._subject_part(attn, query[-rows:])
        return attn.to_out[1](attn.to_out[0](text.transpose(1, 2).flatten(2)))

    def _subject_part(self, attn: Any, query: Tensor) -> Tensor:
        subjects = self.request.subjects
        grid = attention_grids(*self.request.latents_size)[query.shape[2]]
        places = boxes_to_masks(subjects.boxes, *grid).flatten(2).transpose(1, 2)
        visible = places.repeat_interleave(subjects.tokens.shape[2], dim=2).unsqueeze(1)
        covered = places.any(dim=2)[:, None, :, None]
        bias = torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, -1e4)
        tokens = subjects.tokens.flatten(1, 2)
        key, value = (_heads(linear(tokens), attn.heads) for linear in (self.projection.to_k, self.projection.to_v))
        scales = subjects.scales.repeat_interleave(subjects.tokens.shape[2], dim=1)[:, None, :, None]
        return _attend(query, key, value * scales.to(value.dtype), bias) * covered


def plain_processors(unet: Any, adapter: MSAdapter, request: PlainSubjects) -> dict[str, Any]:
    """Processors for ``unet.set_attn_processor``: plain ones where subjects are read, the present ones elsewhere."""
    return {
        name: PlainProcessor(adapter.projection(name.removesuffix(".processor")), request)
        if ".attn2." in name
        else present
        for name, present in unet.attn_processors.items()
    }


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    return scores.softmax(dim=-1) @ value


def _heads(tensor: Tensor, heads: int) -> Tensor:
    return tensor.unflatten(-1, (heads, -1)).transpose(1, 2)
