"""Sample sheets: pictures side by side, as they come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

GAP = 2


def to_picture(sample: Float[Tensor, "3 height width"]) -> Image.Image:
    """A picture from values in [-1, 1]."""
    values = (sample.float().clamp(-1, 1) + 1) * 127.5
    return Image.fromarray(values.round().permute(1, 2, 0).cpu().numpy().astype(np.uint8))


def grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Rows of pictures on grey; each column is as wide as its widest picture."""
    columns = max(len(row) for row in rows)
    widths = [max((row[i].width for row in rows if i < len(row)), default=0) for i in range(columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (sum(widths) + GAP * (columns + 1), sum(heights) + GAP * (len(rows) + 1)), (128, 128, 128))
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for picture, width in zip(row, widths, strict=False):
            sheet.paste(picture, (left, top))
            left += width + GAP
        top += height + GAP
    return sheet
