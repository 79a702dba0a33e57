"""Multi-subject masked cross-attention (paper section 3.4) and the diffusers processors that call it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ms_core.errors import UnknownAttentionDataError
from ms_core.method.attention_data import ATTENTION_DATA, AttentionData, KeyValue, RegionWords
from ms_core.method.masks import SubjectMask

# attend(query, key, value, attn_mask): softmax attention; the mask is added to the scores.
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def fused_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Attend with PyTorch's fused kernel; the fastest forward pass everywhere."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Attend by plain products, whose backward pass is far faster on CPUs in bfloat16."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1) @ value


class RegionText(NamedTuple):
    """What one layer reads of the words that subjects bring for their own cells.

    Attributes:
        text: keys and values of the words, one entry a region.
        shares: the part of each cell in which they stand for the prompt; those of one row sum to at most 1.
        rows: conditional row of each region.
    """

    text: KeyValue
    shares: Float[Tensor, "regions 1 cells 1"]
    rows: tuple[int, ...]


def read_in_regions(
    prompt_part: Float[Tensor, "rows heads cells head_dim"],
    query: Float[Tensor, "rows heads cells head_dim"],
    regions: RegionText,
    attend: Attend = fused_attention,
) -> Float[Tensor, "rows heads cells head_dim"]:
    """Put attention to the words of regions in place of that to the prompt, each in its own cells::

        out = (1 - sum_k r_k) prompt_part  +  sum_k r_k softmax(Q K_k^T / sqrt(d)) V_k

    ``r_k[q]`` is the share of region k in cell q. Where it is 1 only its words are read; where all are 0, only the prompt.

    Args:
        prompt_part: attention to the prompt, of the conditional rows.
        query: of the same rows.
        regions: words, shares and rows of the regions.
        attend: the softmax attention itself.
    """
    rows, shares = regions.rows, regions.shares
    words_part = shares * attend(torch.stack([query[row] for row in rows]), *regions.text, None)
    kept = shares.new_ones(len(query), *shares.shape[1:])
    # One after the other: sums whose order a device chooses give another picture each time.
    for row, share in zip(rows, shares, strict=True):
        kept[row] -= share
    mixed = prompt_part * kept
    for row, part in zip(rows, words_part, strict=True):
        mixed[row] += part
    return mixed


def masked_subject_attention(  # noqa: PLR0913 - what the formula is made of
    query: Float[Tensor, "batch heads cells head_dim"],
    text: KeyValue,
    subjects: KeyValue,
    mask: SubjectMask,
    attend: Attend = fused_attention,
    regions: RegionText | None = None,
) -> Float[Tensor, "batch heads cells head_dim"]:
    """Attend to the text in all rows, and add attention to the subjects in the conditional rows::

        out = softmax(Q K_text^T / sqrt(d)) V_text  +  c * softmax(Q K_subj^T / sqrt(d) + M) s V_subj

    ``M[q, j]`` is 0 where subject j's box covers cell q and minus infinity elsewhere; one softmax runs over the tokens
    of all subjects, so overlapping subjects share it. ``c[q]`` is 1 where any box covers q: a cell outside every box
    gets exactly the text attention. The official code lets such cells attend to dummy tokens and discards the result,
    which gives the same.

    Painted masks and soft edges weigh a cell between 0 and 1: ``M[q, j]`` is then the logarithm of the weight, and
    ``c[q]`` how much the subjects cover together, so one subject of weight w gives exactly w times its full part.

    Args:
        query: of all rows of the batch, unconditional rows first.
        text: keys and values of the prompt, all rows.
        subjects: keys and values of the subjects' tokens, conditional rows only; the scales ``s`` are in the values.
        mask: ``M`` and ``c`` of the conditional rows.
        attend: the softmax attention itself.
        regions: words that stand for the prompt in some cells of the conditional rows, see ``read_in_regions``.
    """
    num_unconditional = query.shape[0] - subjects.key.shape[0]
    unconditional, conditional = attend(query, text.key, text.value, None).tensor_split([num_unconditional])
    query = query[num_unconditional:]
    subject_part = attend(query, subjects.key, subjects.value, mask.attn_mask) * mask.coverage
    if regions is not None:
        conditional = read_in_regions(conditional, query, regions, attend)
    return torch.cat([unconditional, conditional + subject_part])


class SubjectProjection(nn.Module):
    """Weights of one cross-attention layer: keys and values of the subjects' tokens."""

    def __init__(self, cross_attention_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(cross_attention_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(cross_attention_dim, inner_dim, bias=False)


class SubjectAttentionProcessor:
    """Cross-attention with subjects, for SDXL's ``attn2`` layers; holds weights, never data of a call.

    Not a module, so a UNet with an adapter installed keeps exactly its own parameters and state dict.
    """

    def __init__(self, layer: str, projection: SubjectProjection, attend: Attend = fused_attention) -> None:
        """Serve one layer.

        Args:
            layer: module path of the attention layer in the UNet.
            projection: its weights.
            attend: the softmax attention; ``fused_attention`` or ``explicit_attention``.
        """
        self.layer = layer
        self.projection = projection
        self.attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "batch cells dim"],
        encoder_hidden_states: Float[Tensor, "batch text_tokens cross_dim"] | None = None,
        attention_mask: Tensor | None = None,
        attention_data: AttentionData | None = None,
    ) -> Float[Tensor, "batch cells dim"]:
        """Attend; called by diffusers' ``Attention.forward``.

        Raises:
            UnknownAttentionDataError: the call brings no attention data, or a text mask, which SDXL does not use.
        """
        if attention_data is None or encoder_hidden_states is None or attention_mask is not None:
            raise UnknownAttentionDataError(
                f"{self.layer} needs text without a mask and cross_attention_kwargs={{{ATTENTION_DATA!r}: AttentionData(...)}}."
            )
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        text = self._text(attn, encoder_hidden_states, attention_data)
        num_conditional = attention_data.num_conditional
        if num_conditional == 0:
            attended = self.attend(query, text.key, text.value, None)
        else:
            subjects = self._subjects(attn, attention_data)
            mask = self.mask(attention_data, query[-num_conditional:], text.key[-num_conditional:])
            regions = self._regions(attn, query[-num_conditional:], attention_data)
            attended = masked_subject_attention(query, text, subjects, mask, self.attend, regions)
        out = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return attn.to_out[1](out)

    def mask(
        self,
        data: AttentionData,
        query: Float[Tensor, "rows heads cells head_dim"],
        text_key: Float[Tensor, "rows heads text head_dim"],
    ) -> SubjectMask:
        """Which subjects each cell of the conditional rows sees in this layer; errors as ``AttentionData.mask``."""
        return data.mask(self.layer, query, text_key)

    def project(
        self, attn: Any, encoder_hidden_states: Float[Tensor, "batch text_tokens cross_dim"], data: AttentionData
    ) -> None:
        """Compute this layer's keys and values into the data's cache, so that later calls need no weights.

        Args:
            attn: the attention layer.
            encoder_hidden_states: the same tensor that the UNet's calls bring.
            data: attention data of these calls.
        """
        self._text(attn, encoder_hidden_states, data)
        if data.num_conditional > 0:
            self._subjects(attn, data)
        if data.words is not None:
            self._words(attn, data.words, data)

    def _text(self, attn: Any, encoder_hidden_states: Tensor, data: AttentionData) -> KeyValue:
        compute = partial(self.project_text, attn, encoder_hidden_states, data)
        return data.cached(f"{self.layer}.text", encoder_hidden_states, compute)

    def _subjects(self, attn: Any, data: AttentionData) -> KeyValue:
        compute = partial(self.project_subjects, attn.heads, data)
        return data.cached(f"{self.layer}.subjects", data.subjects.tokens, compute)

    def _regions(
        self, attn: Any, query: Float[Tensor, "rows heads cells head_dim"], data: AttentionData
    ) -> RegionText | None:
        words = data.words
        if words is None:
            return None
        return RegionText(self._words(attn, words, data), data.word_shares(words, self.layer, query), words.rows)

    def _words(self, attn: Any, words: RegionWords, data: AttentionData) -> KeyValue:
        compute = partial(project_embeds, attn, words.embeds)
        return data.cached(f"{self.layer}.words", words.embeds, compute)

    def project_text(
        self, attn: Any, encoder_hidden_states: Float[Tensor, "batch text_tokens cross_dim"], data: AttentionData
    ) -> KeyValue:
        """Keys and values of the prompts of all rows."""
        return project_embeds(attn, encoder_hidden_states)

    def project_subjects(self, heads: int, data: AttentionData) -> KeyValue:
        """Keys and values of the subjects of the conditional rows; the scales are in the values."""
        subjects = data.subjects
        tokens = subjects.tokens.flatten(1, 2)
        scales = subjects.scales.repeat_interleave(subjects.tokens.shape[2], dim=1).unsqueeze(-1)
        key, value = self.projection.to_k(tokens), self.projection.to_v(tokens)
        return KeyValue(split_heads(key, heads), split_heads(value * scales.to(value.dtype), heads))


class SelfAttentionProcessor:
    """Wraps a layer's original processor and drops the attention data, which diffusers hands to every layer."""

    def __init__(self, original: Callable[..., Tensor]) -> None:
        self.original = original

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_data: AttentionData | None = None,
    ) -> Tensor:
        """Attend with the original processor."""
        return self.original(
            attn, hidden_states, encoder_hidden_states=encoder_hidden_states, attention_mask=attention_mask
        )


def project_embeds(attn: Any, embeds: Float[Tensor, "rows text_tokens cross_dim"]) -> KeyValue:
    """Keys and values of text in an attention layer."""
    return KeyValue(split_heads(attn.to_k(embeds), attn.heads), split_heads(attn.to_v(embeds), attn.heads))


def split_heads(
    tensor: Float[Tensor, "batch tokens inner_dim"], heads: int
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """A view of keys, values or queries by head."""
    batch, tokens, _ = tensor.shape
    return tensor.view(batch, tokens, heads, -1).transpose(1, 2)
