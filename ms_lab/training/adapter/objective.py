"""What the UNet is to predict of a noisy picture, and how much each noise level counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from ms_core.errors import CheckpointError
from ms_core.model_dir.loading import quiet

EPSILON, VELOCITY = "epsilon", "v_prediction"


class NoiseObjective:
    """The noise schedule and prediction type of a base model, as its scheduler's config says."""

    def __init__(self, scheduler_config: Mapping[str, Any], min_snr_gamma: float = 0.0) -> None:
        """Read the schedule.

        Args:
            scheduler_config: of the model directory.
            min_snr_gamma: weighs by min(SNR, gamma), Hang et al. 2023; 0 weighs all noise levels the same.

        Raises:
            CheckpointError: the base predicts something else than noise or velocity.
        """
        with quiet():
            self._scheduler = cast("Any", DDPMScheduler).from_config(scheduler_config)
        self.prediction_type: str = self._scheduler.config.prediction_type
        if self.prediction_type not in (EPSILON, VELOCITY):
            raise CheckpointError(
                f"The base predicts {self.prediction_type!r}; an adapter is trained for {EPSILON} and {VELOCITY} only."
            )
        self._gamma = min_snr_gamma

    @property
    def num_timesteps(self) -> int:
        """Timesteps are 0 up to this, exclusive; noise grows with them."""
        return len(self._scheduler.alphas_cumprod)

    def noisy(
        self, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Latents with so much noise as each row's timestep has."""
        return self._scheduler.add_noise(latents, noise, timesteps)

    def target(
        self, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """What the UNet is to predict."""
        return noise if self.prediction_type == EPSILON else self._scheduler.get_velocity(latents, noise, timesteps)

    def weights(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """How much the error of each row counts.

        The paper's weight is of an error of the clean picture; an error of the noise is 1 / SNR, one of the velocity
        1 / (SNR + 1) as large.
        """
        if not self._gamma:
            return torch.ones(len(timesteps), device=timesteps.device)
        signal = self._scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = signal / (1 - signal)
        scale = snr if self.prediction_type == EPSILON else snr + 1
        return torch.clamp(snr, max=self._gamma) / scale
