"""What chance decides for one row of a batch: from the run's seed and the row's position alone.

So neither the number of processes, nor micro-batches, nor an interruption can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ms_lab.training.dropout import DropRates, Drops, draw_drops


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of a batch.

    Attributes:
        timesteps: evenly among all.
        noise: that is added to the latents.
        spread: the noise that picks latents from what the VAE's encoder says.
        drops: what each row goes without.
    """

    timesteps: Int[Tensor, " b"]
    noise: Float[Tensor, "b c h w"]
    spread: Float[Tensor, "b c h w"]
    drops: Drops


def draw(
    positions: Sequence[int], seed: int, num_timesteps: int, shape: tuple[int, int, int], rates: DropRates
) -> Draws:
    """The draws of rows at these positions, on the CPU.

    Args:
        positions: in the endless row of samples.
        seed: of the run.
        num_timesteps: to draw from.
        shape: channels, height and width of the latents.
        rates: of the drops.
    """
    generators = [_generator(seed, position) for position in positions]
    drops = [draw_drops(1, rates, generator) for generator in generators]
    return Draws(
        timesteps=torch.cat([torch.randint(num_timesteps, (1,), generator=generator) for generator in generators]),
        noise=torch.stack([torch.randn(shape, generator=generator) for generator in generators]),
        spread=torch.stack([torch.randn(shape, generator=generator) for generator in generators]),
        drops=Drops(
            text=torch.cat([row.text for row in drops]),
            image=torch.cat([row.image for row in drops]),
            grounding=torch.cat([row.grounding for row in drops]),
        ),
    )


def _generator(seed: int, position: int) -> torch.Generator:
    # torch's generator takes 32 bits of a seed: neighbouring positions must differ in all of them.
    mixed = int(np.random.SeedSequence((seed, position)).generate_state(1)[0])
    return torch.Generator().manual_seed(mixed)
