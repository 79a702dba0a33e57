"""What one batch of the UNet makes: a draw of each picture, whole or at the place of one subject."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ms_core.spec.resolve import ResolvedSpec


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one subject in a finished picture, the rest of which stays.

    Attributes:
        subject: its position in the spec.
        latents: of the finished picture, as ``Generation.latents``.
    """

    subject: int
    latents: Float[Tensor, "1 c h w"]


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of a picture.

    Attributes:
        row: the spec, with the seed of this draw.
        place: where alone it draws; ``None``: everywhere.
    """

    row: ResolvedSpec
    place: Place | None = None
