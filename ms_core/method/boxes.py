"""Boxes to masks: the only box arithmetic of the model.

Boxes are normalised xyxy in [0, 1], origin at the top left. A mask's cell belongs to a box by the official rule (floor
of the start, ceil of the end, half-open), computed in float32 at the true grid of each attention layer.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def boxes_to_masks(boxes: Float[Tensor, "*subjects 4"], height: int, width: int) -> Bool[Tensor, "*subjects h w"]:
    """Cells of a ``height`` x ``width`` grid that each box covers; four zeros cover none.

    Args:
        boxes: normalised xyxy.
        height, width: of the attention layer's grid, in cells.
    """
    x_min, y_min, x_max, y_max = boxes.float().unsqueeze(-1).unbind(-2)
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    in_columns = (columns >= (x_min * width).floor()) & (columns < (x_max * width).ceil())
    in_rows = (rows >= (y_min * height).floor()) & (rows < (y_max * height).ceil())
    return in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)


def fit_boxes(
    boxes: Float[Tensor, "*subjects 4"], aspects: Float[Tensor, "*subjects"], picture_aspect: float
) -> Float[Tensor, "*subjects 4"]:
    """Shrink boxes around their centres to given proportions; a box that is the whole picture stays.

    Args:
        boxes: normalised xyxy; four zeros stay four zeros.
        aspects: width over height of each box's subject, in pixels.
        picture_aspect: width over height of the picture.
    """
    corners = boxes.float()
    extent, middle = corners[..., 2:] - corners[..., :2], (corners[..., 2:] + corners[..., :2]) / 2
    height = torch.clamp(extent[..., 1:], min=1e-6)
    excess = extent[..., :1] / height * picture_aspect / torch.unsqueeze(aspects, -1)
    half = extent / 2 * torch.cat([1 / torch.clamp(excess, min=1), torch.clamp(excess, max=1)], dim=-1)
    whole = (boxes == torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)).all(-1, keepdim=True)
    return torch.where(whole, boxes, torch.cat([middle - half, middle + half], dim=-1))


def attention_grids(height: int, width: int) -> dict[int, tuple[int, int]]:
    """Grids (height, width) of a UNet's levels, by their number of cells, from the latents' size in cells.

    Each level halves upward, as a stride-2 convolution with padding 1 does: 25 x 33, 13 x 17, 7 x 9, down to 1 x 1.
    """
    grids = {height * width: (height, width)}
    while (height, width) != (1, 1):
        height, width = (height + 1) // 2, (width + 1) // 2
        grids[height * width] = (height, width)
    return grids
