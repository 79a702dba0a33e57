"""Start pictures: image to image, and redrawing the places of some subjects while the rest stays.

As diffusers' image to image and inpainting pipelines do with a UNet of four channels. Only latents are mixed, never
pixels, and only those of the user's start picture, or of the picture itself when a place in it is drawn again: see
``docs/decisions/start-pictures.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ms_core.conditions.references import opaque
from ms_core.method.masks import picture_weights, union
from ms_core.sampling.draws import Draw
from ms_core.sampling.latents import encode_picture
from ms_core.sampling.schedulers import Schedule
from ms_core.spec import Subject
from ms_core.spec.resolve import ResolvedSpec

# Under transparent start pictures.
WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Starts:
    """The start pictures of one batch, or the pictures in which places are drawn again.

    Attributes:
        latents: of the pictures, clean.
        noise: what the batch begins with, before any scale.
        changing: how much of each cell may change, 0 to 1; ``None`` if all rows redraw the whole picture.
        blank: rows that begin as noise alone: those that redraw subjects with strength 1.
    """

    latents: Float[Tensor, "specs c h w"]
    noise: Float[Tensor, "specs c h w"]
    changing: Float[Tensor, "specs 1 h w"] | None
    blank: tuple[bool, ...]

    def begin(self, schedule: Schedule) -> Float[Tensor, "specs c h w"]:
        """Latents for the first step."""
        blank = torch.tensor(self.blank, device=self.latents.device).view(-1, 1, 1, 1)
        noised = schedule.noised(self.latents, self.noise, 0)
        return torch.where(blank, schedule.pure_noise(self.noise), noised)

    def hold(
        self, latents: Float[Tensor, "specs c h w"], schedule: Schedule, step_index: int
    ) -> Float[Tensor, "specs c h w"]:
        """Latents after a step, with the start picture's own where nothing may change; clean ones after the last step.

        Args:
            step_index: of the step that is done.
        """
        if self.changing is None:
            return latents
        is_last = step_index + 1 == len(schedule)
        kept = self.latents if is_last else schedule.noised(self.latents, self.noise, step_index + 1)
        return (1 - self.changing) * kept + self.changing * latents


@torch.no_grad()
def encode_pictures(
    batch: Sequence[ResolvedSpec], components: Any, generators: Sequence[torch.Generator]
) -> Float[Tensor, "specs c h w"]:
    """Latents of the start pictures, one for each spec, stretched to the size of the result."""
    starts = [row.spec.start for row in batch if row.spec.start is not None]
    pictures = [opaque(start.image, WHITE) for start in starts]
    rows = zip(pictures, batch, generators, strict=True)
    return torch.cat([encode_picture(components, image, row.height, row.width, own) for image, row, own in rows])


def find_starts(
    batch: Sequence[ResolvedSpec],
    latents: Float[Tensor, "specs c h w"],
    noise: Float[Tensor, "specs c h w"],
) -> Starts:
    """Where the pictures of ``encode_pictures`` may change, and what they begin with."""
    starts = [row.spec.start for row in batch if row.spec.start is not None]
    blank = tuple(bool(start.redraw) and start.strength == 1.0 for start in starts)
    if not any(start.redraw for start in starts):
        return Starts(latents, noise, None, blank)
    changing = [
        redraw_weights(row.spec.subjects, start.redraw, *latents.shape[-2:])
        for row, start in zip(batch, starts, strict=True)
    ]
    return Starts(latents, noise, torch.cat(changing).unsqueeze(1).to(latents.device), blank)


def starts_of_places(draws: Sequence[Draw], noise: Float[Tensor, "specs c h w"]) -> Starts | None:
    """The finished pictures in which some draws draw a place again, as ``start.redraw`` does with strength 1.

    Draws of whole pictures, in the same batch, change everywhere.

    Args:
        draws: without start pictures.
        noise: what the batch begins with, before any scale.

    Returns:
        ``None`` if all draws are of whole pictures.
    """
    if all(draw.place is None for draw in draws):
        return None
    nothing = torch.zeros_like(noise[:1])
    latents = [nothing if draw.place is None else draw.place.latents.to(noise.device) for draw in draws]
    changing = [
        redraw_weights(draw.row.spec.subjects, () if draw.place is None else (draw.place.subject,), *noise.shape[-2:])
        for draw in draws
    ]
    return Starts(torch.cat(latents), noise, torch.cat(changing).unsqueeze(1).to(noise.device), (True,) * len(draws))


def redraw_weights(
    subjects: Sequence[Subject], redraw: Sequence[int], height: int, width: int
) -> Float[Tensor, "1 height width"]:
    """How much of each cell of the latents may change, 0 to 1: as much as attention sees of the chosen subjects.

    Args:
        subjects: of one picture, each with a box.
        redraw: positions of the subjects to redraw; none at all means the whole picture.
        height, width: of the latents, in cells.
    """
    if not redraw:
        return torch.ones(1, height, width)
    return union(picture_weights(subjects, (height, width)).visible[:, list(dict.fromkeys(redraw))])
