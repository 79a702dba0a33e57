"""What the UNet is to predict, against SDXL's schedule written out here once more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ms_core.errors import CheckpointError
from ms_lab.training.adapter.objective import NoiseObjective
from tests.support.plain_sdxl import _components

TIMESTEPS = torch.tensor([0, 300, 999])


def objective(gamma: float = 0.0, **changes: str) -> NoiseObjective:
    return NoiseObjective({**_components()["scheduler"].config, **changes}, gamma)


def kept_signal() -> np.ndarray:
    """How much of the picture's variance is left at each timestep."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    return np.cumprod(1 - betas)


def picture_and_noise() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 2, 2, generator=generator), torch.randn(3, 4, 2, 2, generator=generator)


def test_noise_is_added_by_sdxls_schedule() -> None:
    latents, noise = picture_and_noise()
    signal = torch.tensor(kept_signal()[TIMESTEPS.numpy()]).view(3, 1, 1, 1)
    expected = signal.sqrt() * latents.double() + (1 - signal).sqrt() * noise.double()
    torch.testing.assert_close(objective().noisy(latents, noise, TIMESTEPS).double(), expected, atol=1e-5, rtol=0)
    assert objective().num_timesteps == 1000


def test_the_target_is_what_the_base_predicts() -> None:
    latents, noise = picture_and_noise()
    assert torch.equal(objective().target(latents, noise, TIMESTEPS), noise)
    signal = torch.tensor(kept_signal()[TIMESTEPS.numpy()]).view(3, 1, 1, 1)
    velocity = signal.sqrt() * noise.double() - (1 - signal).sqrt() * latents.double()
    target = objective(prediction_type="v_prediction").target(latents, noise, TIMESTEPS)
    torch.testing.assert_close(target.double(), velocity, atol=1e-5, rtol=0)


def test_without_gamma_all_noise_levels_count_the_same() -> None:
    assert objective().weights(TIMESTEPS).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("kind", "more"), [("epsilon", 0.0), ("v_prediction", 1.0)])
def test_min_snr_bounds_the_weight_of_little_noise(kind: str, more: float) -> None:
    signal = kept_signal()[TIMESTEPS.numpy()]
    snr = signal / (1 - signal)
    expected = np.minimum(snr, 5.0) / (snr + more)
    weights = objective(5.0, prediction_type=kind).weights(TIMESTEPS)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-3)
    # At timestep 0 the picture is nearly clean: snr is 1176.
    assert float(weights[0]) == pytest.approx(5 / (1175.5 + more), rel=2e-2)


def test_a_base_that_predicts_the_picture_is_refused() -> None:
    with pytest.raises(CheckpointError, match="predicts 'sample'"):
        objective(prediction_type="sample")
