"""The scorer's network: does what stands in a box look like the reference?"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from jaxtyping import Float
from torch import Tensor, nn

from ms_core.config import ScorerConfig
from ms_core.scoring.views import PICTURE_PLANES, REFERENCE_PLANES

_GROUPS = 8
OUTPUTS = ("present", "identity", "box_iou")


class _Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return values + self.body(values)


class _Search(nn.Module):
    """For each cell of the picture, what the reference shows that is most like it, wherever it stands there."""

    def __init__(self, width: int, heads: int, cells: int) -> None:
        super().__init__()
        self.heads = heads
        self.places = nn.Parameter(0.02 * torch.randn(1, width, cells, cells))
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.query, self.key, self.value = (nn.Conv2d(width, width, 1) for _ in range(3))

    def forward(
        self, picture: Float[Tensor, "n c h w"], reference: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        seen, known = self.norm(picture), self.norm(reference)
        query = self._heads(self.query(seen + self.places))
        key, value = self._heads(self.key(known + self.places)), self._heads(self.value(known))
        found = F.scaled_dot_product_attention(query, key, value)
        return found.permute(0, 1, 3, 2).reshape(picture.shape)

    def _heads(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n heads cells dim"]:
        rows, width, height, columns = values.shape
        return values.reshape(rows, self.heads, width // self.heads, height * columns).permute(0, 1, 3, 2)


class ScorerNetwork(nn.Module):
    """Compares both views, and gives three logits.

    One trunk reads them laid over each other, since a subject that fills its box lies where the reference has it. Another reads
    them apart, so that what is mirrored, turned or a little elsewhere is found as well.
    """

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        low, middle, high = config.widths
        self.both_stem = _stem(PICTURE_PLANES + 2 * REFERENCE_PLANES, low)
        self.picture_stem, self.reference_stem = _stem(PICTURE_PLANES, low), _stem(REFERENCE_PLANES, low)
        self.both_trunk, self.trunk = _trunk(low, middle), _trunk(low, middle)
        self.search = _Search(middle, config.heads, config.side // 4)
        self.compare = nn.Sequential(
            nn.Conv2d(4 * middle, middle, 1), nn.Conv2d(middle, high, 3, stride=2, padding=1), _Block(high)
        )
        self.head = nn.Sequential(nn.LayerNorm(2 * high), nn.Linear(2 * high, high), nn.SiLU(), nn.Linear(high, 3))

    def forward(
        self, pictures: Float[Tensor, "n 6 side side"], references: Float[Tensor, "n 3 side side"]
    ) -> Float[Tensor, "n 3"]:
        """Logits of ``OUTPUTS``, in this order."""
        difference = (pictures[:, :REFERENCE_PLANES] - references).abs()
        both = self.both_trunk(self.both_stem(torch.cat([pictures, references, difference], 1)))
        picture = self.trunk(self.picture_stem(pictures))
        reference = self.trunk(self.reference_stem(references))
        found = self.search(picture, reference)
        compared = self.compare(torch.cat([both, picture, found, picture - reference], 1))
        return self.head(torch.cat([compared.mean((2, 3)), compared.amax((2, 3))], 1))


def _stem(planes: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(planes, width, 5, stride=2, padding=2)


def _trunk(low: int, middle: int) -> nn.Sequential:
    return nn.Sequential(_Block(low), nn.Conv2d(low, middle, 3, stride=2, padding=1), _Block(middle))
