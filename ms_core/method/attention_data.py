"""What one request hands to the attention layers: subjects, masks, cached keys and values, auto-layout maps.

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
from ms_core.method.boxes import attention_grids, boxes_to_masks
from ms_core.method.places import Placement, union
from ms_core.spec import AutoLayout

ATTENTION_DATA = "attention_data"
TEXT_TOKENS = 77

PhraseSpan = tuple[int, int]


class KeyValue(NamedTuple):
    """Keys and values of one attention layer, split by head."""

    key: Float[Tensor, "rows heads tokens head_dim"]
    value: Float[Tensor, "rows heads tokens head_dim"]


class SubjectMasks(NamedTuple):
    """Which subject tokens each place may read.

    Attributes:
        visible: True where a place may read a token; a place outside every subject sees all, for a softmax over
            nothing is undefined, and is then silenced by ``covered``.
        covered: whether a place lies in any subject at all.
    """

    visible: Bool[Tensor, "rows 1 places tokens"]
    covered: Bool[Tensor, "rows 1 places 1"]

    @classmethod
    def from_places(cls, places: Bool[Tensor, "rows places subjects"], num_queries: int) -> SubjectMasks:
        """Masks from each subject's places; every one of its ``num_queries`` tokens shares them."""
        covered = places.any(dim=-1, keepdim=True)
        visible = (places | ~covered).repeat_interleave(num_queries, dim=-1)
        return cls(visible.unsqueeze(1), covered.unsqueeze(1))


class SubjectBias(NamedTuple):
    """How strongly each place reads the subjects' tokens, where weights between 0 and 1 occur.

    Attributes:
        attention_bias: logarithm of the subject's weight, minus infinity for none, so that overlapping subjects share
            a place in proportion; 0 in a place outside every subject, which is then silenced by ``coverage``.
        coverage: how much of a place the subjects cover together; 1 where one of them covers it wholly.
    """

    attention_bias: Float[Tensor, "rows 1 places tokens"]
    coverage: Float[Tensor, "rows 1 places 1"]

    @classmethod
    def from_weights(
        cls,
        weights: Float[Tensor, "rows places subjects"],
        coverage: Float[Tensor, "rows places 1"],
        num_queries: int,
        dtype: torch.dtype,
    ) -> SubjectBias:
        """Bias in ``dtype``, that of the queries, from each subject's weights in float32."""
        bias = weights.log().masked_fill(coverage == 0, 0.0).repeat_interleave(num_queries, dim=-1)
        return cls(bias.to(dtype).unsqueeze(1), coverage.to(dtype).unsqueeze(1))


SubjectPlaces = SubjectMasks | SubjectBias


@dataclass(frozen=True, slots=True)
class SubjectBatch:
    """Subjects of the conditional rows, padded to the largest number in the batch.

    Attributes:
        tokens: subject tokens of the resampler.
        boxes: normalised xyxy; four zeros without a layout.
        scales: strength of each subject.
        present: False for padding, and for subjects whose picture is dropped in training.
        placement: what they ask for beyond their boxes, if anything.
    """

    tokens: Float[Tensor, "rows subjects queries dim"]
    boxes: Float[Tensor, "rows subjects 4"]
    scales: Float[Tensor, "rows subjects"]
    present: Bool[Tensor, "rows subjects"]
    placement: Placement | None = None

    @classmethod
    def from_rows(
        cls,
        tokens: Sequence[Float[Tensor, "_ queries dim"]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
        scales: Sequence[Float[Tensor, " _"]],
        placement: Placement | None = None,
    ) -> SubjectBatch:
        """Pad rows of different numbers of subjects; at least one row."""
        present = [torch.ones(len(row), dtype=torch.bool, device=row.device) for row in tokens]
        padded = (pad_sequence(list(rows), batch_first=True) for rows in (tokens, boxes, scales, present))
        return cls(*padded, placement=placement)


class AutoLayoutMaps:
    """Places found from the text attention of each layer, averaged over all calls so far (paper appendix; the
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
            phrase_spans: half-open token spans, one per row and subject; ``None`` finds no place.
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
        ).view(-1, 1, 1)
        self._start_steps = torch.tensor(
            [never if layout is None else layout.start_step for layout in layouts], device=device
        ).view(-1, 1, 1)
        self._sums: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}

    def update(
        self,
        layer: str,
        query: Float[Tensor, "rows heads places head_dim"],
        text_key: Float[Tensor, "rows heads text_tokens head_dim"],
        given: Bool[Tensor, "rows places subjects"] | Float[Tensor, "rows places subjects"],
    ) -> Bool[Tensor, "rows places subjects"] | Float[Tensor, "rows places subjects"]:
        """Add this call's maps of one layer; each subject's places as of this call, ``given`` until they are found."""
        scores = query.float() @ text_key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        maps = scores.softmax(dim=-1).mean(dim=1) @ self._span_weights
        total = self._sums[layer] + maps if layer in self._sums else maps
        self._sums[layer] = total
        self._calls[layer] = self._calls.get(layer, 0) + 1
        mean = total / self._calls[layer]
        low, high = mean.amin(dim=1, keepdim=True), mean.amax(dim=1, keepdim=True)
        found = (mean - low) / (high - low + 1e-5) > self._thresholds
        return torch.where(self._start_steps <= self._calls[layer], found, given)


@dataclass(eq=False, slots=True)
class AttentionData:
    """Per-call data of all attention layers; the conditional rows are the last rows of the UNet's batch.

    Attributes:
        subjects: of the conditional rows, one row each; none at all runs plain SDXL.
        latents_size: (height, width) of the latents, in cells.
        auto_layout: running maps of the rows with auto layout.
    """

    subjects: SubjectBatch
    latents_size: tuple[int, int]
    auto_layout: AutoLayoutMaps | None = None
    _given: dict[int, Tensor] = field(default_factory=dict[int, Tensor], init=False, repr=False)
    _places: dict[int, SubjectPlaces] = field(default_factory=dict[int, SubjectPlaces], init=False, repr=False)
    _kept: dict[str, tuple[Tensor, KeyValue]] = field(
        default_factory=dict[str, tuple[Tensor, KeyValue]], init=False, repr=False
    )

    @property
    def num_conditional(self) -> int:
        """Rows that see subjects."""
        return self.subjects.tokens.shape[0]

    def places(
        self,
        layer: str,
        query: Float[Tensor, "rows heads places head_dim"],
        text_key: Float[Tensor, "rows heads text_tokens head_dim"],
    ) -> SubjectPlaces:
        """Where one layer's conditional rows read subjects: in boxes and painted masks, or where maps found them."""
        num_places = query.shape[2]
        if self.auto_layout is not None:
            found = self.auto_layout.update(layer, query, text_key, self._given_places(num_places))
            return self._arrange(self._only_present(found), query.dtype)
        if num_places not in self._places:
            self._places[num_places] = self._arrange(self._given_places(num_places), query.dtype)
        return self._places[num_places]

    def keep(self, name: str, source: Tensor, compute: Callable[[], KeyValue]) -> KeyValue:
        """``compute()``, or what it gave before for the same ``source``; nothing is kept while gradients flow."""
        if torch.is_grad_enabled():
            return compute()
        if name not in self._kept or self._kept[name][0] is not source:
            self._kept[name] = (source, compute())
        return self._kept[name][1]

    def _arrange(
        self, places: Bool[Tensor, "rows places subjects"] | Float[Tensor, "rows places subjects"], dtype: torch.dtype
    ) -> SubjectPlaces:
        """Soften the edges, hide who stands behind, and put it as attention reads it."""
        placement, num_queries = self.subjects.placement, self.subjects.tokens.shape[2]
        if placement is None:
            return SubjectMasks.from_places(places, num_queries)
        grid = self._grid(places.shape[1])
        weights = placement.feather(places.float().transpose(1, 2).reshape(*self.subjects.present.shape, *grid))
        left = placement.hide(weights).flatten(2).transpose(1, 2)
        if placement.is_hard(*grid):
            return SubjectMasks.from_places(left > 0, num_queries)
        return SubjectBias.from_weights(left, union(weights).flatten(1).unsqueeze(-1), num_queries, dtype)

    def _given_places(
        self, num_places: int
    ) -> Bool[Tensor, "rows places subjects"] | Float[Tensor, "rows places subjects"]:
        """Places by boxes and painted masks alone; weights only if there are such masks."""
        if num_places not in self._given:
            places = boxes_to_masks(self.subjects.boxes, *self._grid(num_places))
            if self.subjects.placement is not None:
                places = self.subjects.placement.paint(places)
            self._given[num_places] = self._only_present(places.flatten(2).transpose(1, 2))
        return self._given[num_places]

    def _only_present(self, places: Tensor) -> Tensor:
        return places.masked_fill(~self.subjects.present.unsqueeze(1), 0)

    def _grid(self, num_places: int) -> tuple[int, int]:
        grid = attention_grids(*self.latents_size).get(num_places)
        if grid is None:
            height, width = self.latents_size
            raise UnknownAttentionDataError(
                f"The attention data is for latents of {height} x {width}, but a layer has {num_places} places."
            )
        return grid
