"""Data of one request for the attention layers: subjects, masks, cached keys and values, auto-layout maps.

One ``AttentionData`` belongs to one request (or one training step) and travels as
``cross_attention_kwargs={ATTENTION_DATA: data}``; attention processors keep nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ms_core.errors import UnknownAttentionDataError
from ms_core.method.boxes import attention_grids
from ms_core.method.masks import (
    BOXES_ALONE,
    Placement,
    SubjectMask,
    SubjectWeights,
    layer_weights,
    subject_weights,
)
from ms_core.spec import AutoLayout

ATTENTION_DATA = "attention_data"
TEXT_TOKENS = 77

PhraseSpan = tuple[int, int]


class KeyValue(NamedTuple):
    """Keys and values of one attention layer, split by head."""

    key: Float[Tensor, "rows heads tokens head_dim"]
    value: Float[Tensor, "rows heads tokens head_dim"]


@dataclass(frozen=True, slots=True)
class SubjectBatch:
    """Subjects of the conditional rows, padded to the largest number in the batch.

    Attributes:
        tokens: subject tokens of the resampler.
        boxes: normalised xyxy; four zeros without a layout.
        scales: strength of each subject.
        present: False for padding, and for subjects whose picture is dropped in training.
        placement: what they ask for beyond their boxes.
        pictured: False for those that have words and no picture, whose tokens no one reads; ``None`` if all have one.
    """

    tokens: Float[Tensor, "rows subjects queries dim"]
    boxes: Float[Tensor, "rows subjects 4"]
    scales: Float[Tensor, "rows subjects"]
    present: Bool[Tensor, "rows subjects"]
    placement: Placement = BOXES_ALONE
    pictured: Bool[Tensor, "rows subjects"] | None = None

    @classmethod
    def from_rows(
        cls,
        tokens: Sequence[Float[Tensor, "_ queries dim"]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
        scales: Sequence[Float[Tensor, " _"]],
        placement: Placement = BOXES_ALONE,
        pictured: Sequence[Bool[Tensor, " _"]] | None = None,
    ) -> SubjectBatch:
        """Pad rows of different numbers of subjects; at least one row."""
        present = [torch.ones(len(row), dtype=torch.bool, device=row.device) for row in tokens]
        padded = (pad_sequence(list(rows), batch_first=True) for rows in (tokens, boxes, scales, present))
        own = None if pictured is None else pad_sequence(list(pictured), batch_first=True)
        return cls(*padded, placement=placement, pictured=own)


@dataclass(frozen=True, slots=True)
class RegionWords:
    """Words that subjects bring for their own cells, one entry for each subject that has any.

    Attributes:
        embeds: of the words, encoded as a prompt is, each alone.
        rows: conditional row of each.
        positions: of its subject in that row.
    """

    embeds: Float[Tensor, "regions text_tokens cross_dim"]
    rows: tuple[int, ...]
    positions: tuple[int, ...]


class AutoLayoutMaps:
    """Find each subject's cells in the text attention of each layer, averaged over all calls so far (paper appendix; the
    official ``mask_threshold`` and ``start_step``).
    """

    def __init__(
        self,
        layouts: Sequence[AutoLayout | None],
        phrase_spans: Sequence[Sequence[PhraseSpan | None]],
        device: torch.device,
    ) -> None:
        """Prepare the maps of one request.

        Args:
            layouts: one per conditional row; ``None`` keeps that row's boxes.
            phrase_spans: half-open token spans, one per row and subject; ``None`` finds no cell.
            device: of the attention layers.
        """
        num_subjects = max(len(spans) for spans in phrase_spans)
        weights = torch.zeros(len(layouts), TEXT_TOKENS, num_subjects)
        for row, spans in enumerate(phrase_spans):
            for subject, span in enumerate(spans):
                if layouts[row] is not None and span is not None:
                    weights[row, span[0] : span[1], subject] = 1.0 / (span[1] - span[0])
        never = torch.iinfo(torch.int64).max
        self._span_weights = weights.to(device)
        self._thresholds = torch.tensor(
            [1.0 if layout is None else layout.threshold for layout in layouts], device=device
        ).view(-1, 1, 1, 1)
        self._start_steps = torch.tensor(
            [never if layout is None else layout.start_step for layout in layouts], device=device
        ).view(-1, 1, 1, 1)
        self._sums: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}

    def update(
        self,
        layer: str,
        query: Float[Tensor, "rows heads cells head_dim"],
        text_key: Float[Tensor, "rows heads text_tokens head_dim"],
        given: Float[Tensor, "rows subjects height width"],
    ) -> Float[Tensor, "rows subjects height width"]:
        """Add this call's maps of one layer; return the subjects' weights as of this call, ``given`` until they are found."""
        scores = query.float() @ text_key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        maps = scores.softmax(dim=-1).mean(dim=1) @ self._span_weights
        total = self._sums[layer] + maps if layer in self._sums else maps
        self._sums[layer] = total
        self._calls[layer] = self._calls.get(layer, 0) + 1
        mean = (total / self._calls[layer]).mT.unflatten(-1, given.shape[-2:])
        low, high = mean.amin(dim=(-2, -1), keepdim=True), mean.amax(dim=(-2, -1), keepdim=True)
        found = (mean - low) / (high - low + 1e-5) > self._thresholds
        return torch.where(self._start_steps <= self._calls[layer], found, given)


@dataclass(eq=False, slots=True)
class AttentionData:
    """Per-call data of all attention layers; the conditional rows are the last rows of the UNet's batch.

    Attributes:
        subjects: of the conditional rows, one row each; none at all runs plain SDXL.
        latents_size: (height, width) of the latents, in cells.
        auto_layout: running maps of the rows with auto layout.
        words: of the subjects that bring their own; ``None`` if none does.
    """

    subjects: SubjectBatch
    latents_size: tuple[int, int]
    auto_layout: AutoLayoutMaps | None = None
    words: RegionWords | None = None
    _acting: tuple[tuple[bool, ...], ...] | None = field(default=None, init=False, repr=False)
    _present: Bool[Tensor, "rows subjects"] = field(init=False, repr=False)
    _weights: dict[int, SubjectWeights] = field(default_factory=dict[int, SubjectWeights], init=False, repr=False)
    _masks: dict[int, SubjectMask] = field(default_factory=dict[int, SubjectMask], init=False, repr=False)
    _found: dict[str, SubjectWeights] = field(default_factory=dict[str, SubjectWeights], init=False, repr=False)
    _key_values: dict[str, tuple[Tensor, KeyValue]] = field(
        default_factory=dict[str, tuple[Tensor, KeyValue]], init=False, repr=False
    )

    def __post_init__(self) -> None:
        self._present = self.subjects.present

    @property
    def num_conditional(self) -> int:
        """Rows that see subjects."""
        return self.subjects.tokens.shape[0]

    def let_act(self, acting: Sequence[Sequence[bool]]) -> None:
        """Say which subjects act from now on, row by row; the cells of others are uncovered, as if they had no box."""
        rows = tuple(map(tuple, acting))
        if rows == self._acting:
            return
        self._acting = rows
        present = self.subjects.present
        padded = pad_sequence([torch.tensor(row, dtype=torch.bool) for row in rows], batch_first=True)
        self._present = present & padded.to(present.device)
        self._weights.clear()
        self._masks.clear()

    def mask(
        self,
        layer: str,
        query: Float[Tensor, "rows heads cells head_dim"],
        text_key: Float[Tensor, "rows heads text_tokens head_dim"],
    ) -> SubjectMask:
        """Mask of one layer's conditional rows: from boxes and painted masks, or from what auto layout found.

        Raises:
            UnknownAttentionDataError: the latents have no grid of so many cells.
        """
        num_cells = query.shape[2]
        if self.auto_layout is not None:
            painted = self.auto_layout.update(layer, query, text_key, self._given(num_cells).painted)
            self._found[layer] = layer_weights(painted, self.subjects.placement, self._present)
            return self._to_mask(self._found[layer], query.dtype)
        if num_cells not in self._masks:
            self._masks[num_cells] = self._to_mask(self._given(num_cells), query.dtype)
        return self._masks[num_cells]

    def word_shares(
        self, words: RegionWords, layer: str, query: Float[Tensor, "rows heads cells head_dim"]
    ) -> Float[Tensor, "regions 1 cells 1"]:
        """The part of each cell in which each region's words stand for the prompt, 0 to 1, as of the layer's last ``mask``."""
        weights = self._given(query.shape[2]) if self.auto_layout is None else self._found[layer]
        shares = weights.shares.flatten(2).to(query.dtype)
        own = [shares[row, position] for row, position in zip(words.rows, words.positions, strict=True)]
        return torch.stack(own)[:, None, :, None]

    def cached(self, name: str, source: Tensor, compute: Callable[[], KeyValue]) -> KeyValue:
        """``compute()``, or its earlier result for the same ``source``; nothing is cached while gradients flow."""
        if torch.is_grad_enabled():
            return compute()
        if name not in self._key_values or self._key_values[name][0] is not source:
            self._key_values[name] = (source, compute())
        return self._key_values[name][1]

    def _given(self, num_cells: int) -> SubjectWeights:
        """Weights by boxes and painted masks, without auto layout."""
        if num_cells not in self._weights:
            batch = self.subjects
            self._weights[num_cells] = subject_weights(
                batch.boxes, batch.placement, self._grid(num_cells), self._present
            )
        return self._weights[num_cells]

    def _to_mask(self, weights: SubjectWeights, dtype: torch.dtype) -> SubjectMask:
        return SubjectMask.from_weights(weights, self.subjects.tokens.shape[2], dtype, self.subjects.pictured)

    def _grid(self, num_cells: int) -> tuple[int, int]:
        grid = attention_grids(*self.latents_size).get(num_cells)
        if grid is None:
            height, width = self.latents_size
            raise UnknownAttentionDataError(
                f"The attention data is for latents of {height} x {width}, but a layer has {num_cells} cells."
            )
        return grid
