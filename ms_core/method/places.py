"""Where subjects act beyond their boxes: painted masks, soft edges, and who stands in front.

In each cell of an attention layer's grid a subject has a weight from 0 to 1. All of this is off unless a subject asks
for it; without it the boxes alone count, as released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ms_core.method.boxes import boxes_to_masks
from ms_core.spec import GenerationWarning, Subject, grey_mask

WHITE = 255
# A middle weaker than this part of the place's own strongest cell is worth a warning.
WEAK = 0.9


@dataclass(frozen=True, slots=True)
class Placement:
    """What the subjects of one batch ask for beyond boxes; rows of fewer subjects are padded.

    Attributes:
        painted: masks by row and position in the row, on the CPU; 255 is full weight.
        has_greys: whether any of them holds a value between black and white.
        feathers: the soft edges asked for, as parts of the grid's shorter side, each with the subjects that have it.
        in_front: ``[row, k, j]`` is True where subject k hides subject j; ``None`` if none hides another.
    """

    painted: Mapping[tuple[int, int], UInt8[Tensor, "_ _"]]
    has_greys: bool
    feathers: Mapping[float, Bool[Tensor, "rows subjects"]]
    in_front: Bool[Tensor, "rows subjects subjects"] | None

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Subject]], device: torch.device) -> Placement | None:
        """What the rows' subjects ask for, at least one in each; ``None`` if that is nothing but their boxes."""
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
        if not painted and not soft and not in_front.any():
            return None
        return cls(
            painted=painted,
            has_greys=any(bool(((mask > 0) & (mask < WHITE)).any()) for mask in painted.values()),
            feathers={
                feather: torch.tensor([[other == feather for other in row] for row in feathers], device=device)
                for feather in sorted(soft)
            },
            in_front=in_front.to(device) if in_front.any() else None,
        )

    def is_hard(self, height: int, width: int) -> bool:
        """Whether all weights on a grid are 0 or 1; told without a look at the device."""
        return not self.has_greys and not any(feather_radius(feather, height, width) for feather in self.feathers)

    def paint(self, boxes: Bool[Tensor, "rows subjects height width"]) -> Float[Tensor, "rows subjects height width"]:
        """Weights of the boxes' cells, with painted masks in place of their subjects' boxes."""
        weights = boxes.float()
        for (row, position), mask in self.painted.items():
            weights[row, position] = mask_to_weights(mask, *boxes.shape[-2:]).to(weights.device)
        return weights

    def feather(
        self, weights: Float[Tensor, "rows subjects height width"]
    ) -> Float[Tensor, "rows subjects height width"]:
        """The weights with soft edges where they are asked for."""
        for feather, chosen in self.feathers.items():
            radius = feather_radius(feather, *weights.shape[-2:])
            if radius > 0:
                weights = torch.where(chosen[..., None, None], soften_edges(weights, radius), weights)
        return weights

    def hide(self, weights: Float[Tensor, "rows subjects height width"]) -> Float[Tensor, "rows subjects height width"]:
        """What those in front leave of each subject: its weight times ``1 - weight`` of every subject before it."""
        if self.in_front is None:
            return weights
        left = weights
        for position, others in enumerate(self.in_front.unbind(1)):
            hidden = others[..., None, None] * weights[:, position : position + 1]
            left = left * (1 - hidden)
        return left


def mask_to_weights(mask: UInt8[Tensor, "mask_height mask_width"], height: int, width: int) -> Float[Tensor, "h w"]:
    """Weights of a ``height`` x ``width`` grid, over which a painted mask of any size is stretched.

    A cell takes the largest value of all pixels that it overlaps. So a white rectangle covers the cells that the box
    on the same pixels covers (``boxes_to_masks`` works in float32; this is exact).
    """
    return F.adaptive_max_pool2d(mask.unsqueeze(0).float(), (height, width)).squeeze(0) / WHITE


def feather_radius(feather: float, height: int, width: int) -> int:
    """Width in cells of a soft edge on a ``height`` x ``width`` grid; halves are rounded up."""
    return int(feather * min(height, width) + 0.5)


def soften_edges(weights: Float[Tensor, "*subjects height width"], radius: int) -> Float[Tensor, "*subjects h w"]:
    """Mean over a window of ``2 * radius + 1`` cells each way, never more than the weight that was there.

    Beyond the grid the border goes on, so a place at the picture's edge is not softened there.
    """
    window = 2 * radius + 1
    padded = F.pad(weights.flatten(0, -3), (radius, radius, radius, radius), mode="replicate")
    means = F.avg_pool2d(F.avg_pool2d(padded, (1, window), stride=1), (window, 1), stride=1)
    return torch.minimum(means.view_as(weights), weights)


def union(weights: Float[Tensor, "rows subjects height width"]) -> Float[Tensor, "rows height width"]:
    """How much of each cell all subjects together cover, laid over one another: ``1 - prod(1 - weight)``.

    Summed up so that one subject alone gives exactly its own weight.
    """
    covered = torch.zeros_like(weights[:, 0])
    for weight in weights.unbind(1):
        covered = covered + weight * (1 - covered)
    return covered


def place_warnings(subjects: Sequence[Subject], height: int, width: int) -> tuple[GenerationWarning, ...]:
    """Subjects that others hide wholly, and those whose soft edge leaves no middle.

    Args:
        subjects: of one picture, each with a box.
        height, width: of the picture's latents, in cells.
    """
    placement = Placement.from_rows([subjects], torch.device("cpu"))
    if placement is None:
        return ()
    boxes = torch.tensor([subject.box.as_tuple() for subject in subjects if subject.box is not None])
    hard = placement.paint(boxes_to_masks(boxes, height, width).unsqueeze(0))
    soft = placement.feather(hard)
    left = placement.hide(soft)
    warnings: list[GenerationWarning] = []
    for index in range(len(subjects)):
        peak, middle, rest = (float(weights[0, index].max()) for weights in (hard, soft, left))
        if rest == 0.0 < middle:
            detail = "Subjects in front hide the whole place of this one; its picture has no effect."
            warnings.append(GenerationWarning("subject_hidden", detail, f"/subjects/{index}/z_index"))
        elif middle < WEAK * peak:
            part = round(100 * middle / peak)
            detail = f"The soft edge fills the whole place: even its middle acts at {part} %. Make the feather smaller."
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
