"""Subject masks: how much each subject acts in each cell of a grid, 0 to 1, and the mask that attention reads.

Boxes or painted masks, then soft edges, then who stands in front. Without painted masks, feathers and different
``z_index`` the boxes alone count, as released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ms_core.method.boxes import boxes_to_masks
from ms_core.spec import GenerationWarning, Subject, grey_mask

WHITE = 255
# Warn if the soft edge leaves the strongest cell less than this part of its weight.
WEAK = 0.9


@dataclass(frozen=True, slots=True)
class Placement:
    """What the subjects of one batch ask for beyond boxes; rows of fewer subjects are padded.

    Attributes:
        painted: masks by row and position in the row, on the CPU; 255 is full weight.
        feathers: widths of soft edges, as parts of the grid's shorter side, each with the subjects that have it.
        in_front: ``[row, k, j]`` is True where subject k hides subject j; ``None`` if none hides another.
    """

    painted: Mapping[tuple[int, int], UInt8[Tensor, "_ _"]]
    feathers: Mapping[float, Bool[Tensor, "rows subjects"]]
    in_front: Bool[Tensor, "rows subjects subjects"] | None

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Subject]], device: torch.device) -> Placement:
        """Collect it from the subjects, at least one in each row."""
        painted = {
            (row, position): torch.tensor(np.array(grey_mask(subject.mask)))
            for row, subjects in enumerate(rows)
            for position, subject in enumerate(subjects)
            if subject.mask is not None
        }
        most = max(len(row) for row in rows)
        feathers = [_pad([subject.feather for subject in row], most, 0.0) for row in rows]
        in_front = _in_front(rows, most)
        soft = {feather for row in feathers for feather in row if feather > 0.0}
        return cls(
            painted=painted,
            feathers={
                feather: torch.tensor([[other == feather for other in row] for row in feathers], device=device)
                for feather in sorted(soft)
            },
            in_front=in_front.to(device) if in_front.any() else None,
        )

    def paint(self, cells: Bool[Tensor, "rows subjects height width"]) -> Float[Tensor, "rows subjects height width"]:
        """Turn the boxes' cells into weights, with painted masks in place of their subjects' boxes."""
        weights = cells.float()
        for (row, position), mask in self.painted.items():
            weights[row, position] = mask_to_weights(mask, *weights.shape[-2:]).to(weights.device)
        return weights

    def soften(
        self, weights: Float[Tensor, "rows subjects height width"]
    ) -> Float[Tensor, "rows subjects height width"]:
        """Soften the edges of subjects that have a feather."""
        for feather, chosen in self.feathers.items():
            radius = feather_radius(feather, *weights.shape[-2:])
            if radius > 0:
                weights = torch.where(chosen[..., None, None], soften_edges(weights, radius), weights)
        return weights

    def hide(self, weights: Float[Tensor, "rows subjects height width"]) -> Float[Tensor, "rows subjects height width"]:
        """Multiply each weight by ``1 - weight`` of every subject in front."""
        if self.in_front is None:
            return weights
        left = weights
        for position, others in enumerate(self.in_front.unbind(1)):
            hidden = others[..., None, None] * weights[:, position : position + 1]
            left = left * (1 - hidden)
        return left


BOXES_ALONE = Placement(painted={}, feathers={}, in_front=None)


class SubjectWeights(NamedTuple):
    """Weights of subjects in the cells of a grid, 0 to 1, after each step.

    Attributes:
        painted: of boxes and painted masks.
        softened: with soft edges.
        visible: as much as the subjects in front leave.
    """

    painted: Float[Tensor, "rows subjects height width"]
    softened: Float[Tensor, "rows subjects height width"]
    visible: Float[Tensor, "rows subjects height width"]

    @property
    def coverage(self) -> Float[Tensor, "rows height width"]:
        """How much of each cell the subjects cover together; hidden ones change nothing, for those in front cover
        it."""
        return union(self.softened)

    @property
    def shares(self) -> Float[Tensor, "rows subjects height width"]:
        """The part of each cell that is each subject's: its visible weight, and where these exceed 1 together, in
        proportion.
        """
        return self.visible / self.visible.sum(1, keepdim=True).clamp(min=1.0)


class SubjectMask(NamedTuple):
    """What one attention layer reads of the subjects: which tokens, and how much of each cell they cover.

    Attributes:
        attn_mask: added to the scores: the logarithm of the subject's weight, minus infinity for none, so overlapping
            subjects share a cell in proportion. Cells outside every subject attend to all tokens (an empty softmax is
            undefined) and are zeroed by ``coverage``.
        coverage: how much of a cell the subjects cover together; 1 where one of them covers it wholly.
    """

    attn_mask: Float[Tensor, "rows 1 cells tokens"]
    coverage: Float[Tensor, "rows 1 cells 1"]

    @classmethod
    def from_weights(
        cls,
        weights: SubjectWeights,
        tokens_per_subject: int,
        dtype: torch.dtype,
        pictured: Bool[Tensor, "rows subjects"] | None = None,
    ) -> SubjectMask:
        """Mask in ``dtype``, that of the queries, from weights in float32.

        Args:
            pictured: False for subjects without a picture: they hide others and take their part of a cell, and no one
                attends to them; ``None`` if all have pictures.
        """
        visible, coverage = weights.visible, weights.coverage
        if pictured is not None:
            visible = visible.masked_fill(~pictured[..., None, None], 0.0)
            everyone = weights.visible.sum(1)
            coverage = coverage * (visible.sum(1) / everyone.masked_fill(everyone == 0, 1.0))
        coverage = coverage.unsqueeze(1)
        scores = visible.log().masked_fill(coverage == 0, 0.0).to(dtype)
        attn_mask = scores.flatten(2).mT.repeat_interleave(tokens_per_subject, dim=-1)
        return cls(attn_mask.unsqueeze(1), coverage.to(dtype).flatten(2).unsqueeze(-1))


def subject_weights(
    boxes: Float[Tensor, "rows subjects 4"],
    placement: Placement,
    grid: tuple[int, int],
    present: Bool[Tensor, "rows subjects"] | None = None,
) -> SubjectWeights:
    """Weigh subjects on a grid: paint boxes and masks, soften the edges, hide what is behind others.

    Args:
        boxes: normalised xyxy.
        placement: what the subjects ask for beyond their boxes.
        grid: its height and width, in cells.
        present: False for subjects that neither act nor hide others; ``None`` if all are there.
    """
    return layer_weights(placement.paint(boxes_to_masks(boxes, *grid)), placement, present)


def layer_weights(
    painted: Float[Tensor, "rows subjects height width"],
    placement: Placement,
    present: Bool[Tensor, "rows subjects"] | None = None,
) -> SubjectWeights:
    """Soften and hide weights that are painted already, or found by auto layout."""
    if present is not None:
        painted = painted.masked_fill(~present[..., None, None], 0.0)
    softened = placement.soften(painted)
    return SubjectWeights(painted, softened, placement.hide(softened))


def picture_weights(
    subjects: Sequence[Subject], grid: tuple[int, int], acting: Sequence[bool] | None = None
) -> SubjectWeights:
    """Weigh the subjects of one picture, each with a box, on the CPU; ``acting``: as if the others had none."""
    boxes = torch.tensor([[subject.place.as_tuple() for subject in subjects if subject.place is not None]])
    present = None if acting is None else torch.tensor([acting])
    return subject_weights(boxes, Placement.from_rows([subjects], boxes.device), grid, present)


def mask_to_weights(mask: UInt8[Tensor, "mask_height mask_width"], height: int, width: int) -> Float[Tensor, "h w"]:
    """Stretch a painted mask of any size over a ``height`` x ``width`` grid.

    A cell takes the largest value of all pixels that it overlaps. So a white rectangle covers the cells that the box
    on the same pixels covers (``boxes_to_masks`` works in float32; this is exact).
    """
    return F.adaptive_max_pool2d(mask.unsqueeze(0).float(), (height, width)).squeeze(0) / WHITE


def feather_radius(feather: float, height: int, width: int) -> int:
    """Width in cells of a soft edge on a ``height`` x ``width`` grid; halves are rounded up."""
    return int(feather * min(height, width) + 0.5)


def soften_edges(weights: Float[Tensor, "*subjects height width"], radius: int) -> Float[Tensor, "*subjects h w"]:
    """Average over a window of ``2 * radius + 1`` cells each way, never above the weight that was there.

    The border is repeated beyond the grid, so nothing is softened at the picture's edge.
    """
    window = 2 * radius + 1
    padded = F.pad(weights.flatten(0, -3), (radius, radius, radius, radius), mode="replicate")
    means = F.avg_pool2d(F.avg_pool2d(padded, (1, window), stride=1), (window, 1), stride=1)
    return torch.minimum(means.view_as(weights), weights)


def union(weights: Float[Tensor, "rows subjects height width"]) -> Float[Tensor, "rows height width"]:
    """How much of each cell the subjects cover together: ``1 - prod(1 - weight)``.

    Summed one by one, so that one subject alone gives exactly its own weight.
    """
    covered = torch.zeros_like(weights[:, 0])
    for weight in weights.unbind(1):
        covered = covered + weight * (1 - covered)
    return covered


def place_warnings(
    subjects: Sequence[Subject], height: int, width: int, num_steps: int
) -> tuple[GenerationWarning, ...]:
    """Warn of subjects that others hide wholly at all times, and of those whose soft edge leaves no middle.

    Args:
        subjects: of one picture, each with a box.
        height, width: of the picture's latents, in cells.
        num_steps: of the picture; who acts together depends on them.
    """
    phases = dict.fromkeys(tuple(subject.acts_at(step, num_steps) for subject in subjects) for step in range(num_steps))
    weights = [picture_weights(subjects, (height, width), acting) for acting in phases]
    warnings: list[GenerationWarning] = []
    for index in range(len(subjects)):
        peak, middle, rest = (
            max(float(phase[0, index].max()) for phase in phases) for phases in zip(*weights, strict=True)
        )
        if rest == 0.0 < middle:
            detail = "Subjects in front cover this one completely, so it has no effect."
            warnings.append(GenerationWarning("subject_hidden", detail, f"/subjects/{index}/z_index"))
        elif middle < WEAK * peak:
            part = round(100 * middle / peak)
            detail = (
                f"The soft edge covers the whole subject: even its middle acts at {part} %. Make the feather smaller."
            )
            warnings.append(GenerationWarning("feather_too_wide", detail, f"/subjects/{index}/feather"))
    return tuple(warnings)


def _in_front(rows: Sequence[Sequence[Subject]], most: int) -> Bool[Tensor, "rows subjects subjects"]:
    """``[row, k, j]``: whether k's ``z_index`` is above j's; padding is neither in front nor behind."""
    in_front = torch.zeros(len(rows), most, most, dtype=torch.bool)
    for row, subjects in enumerate(rows):
        levels = torch.tensor([subject.z_index for subject in subjects])
        in_front[row, : len(levels), : len(levels)] = levels.unsqueeze(1) > levels
    return in_front


def _pad(values: list[float], length: int, padding: float) -> list[float]:
    return values + [padding] * (length - len(values))
