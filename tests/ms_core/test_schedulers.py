"""Schedulers by name keep the model's noise schedule and prediction type."""

from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from ms_core.errors import UnsupportedSchedulerError
from ms_core.schedulers import make_scheduler
from ms_core.spec import SCHEDULERS

CONFIGS = [
    EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1).config,
    DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True).config,
]
KEPT = ("prediction_type", "timestep_spacing", "beta_schedule", "beta_start", "beta_end", "steps_offset")


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("config", CONFIGS)
def test_every_scheduler_keeps_the_models_numbers(name: str, config) -> None:
    made = make_scheduler(name, config).config
    assert {key: made[key] for key in (*KEPT, "rescale_betas_zero_snr")} == {
        key: config[key] for key in (*KEPT, "rescale_betas_zero_snr")
    }


@pytest.mark.parametrize("config", CONFIGS)
def test_ddim_never_clips_latents(config) -> None:
    assert make_scheduler("ddim", config).config.clip_sample is False


def test_each_request_gets_its_own_scheduler() -> None:
    assert make_scheduler("euler", CONFIGS[0]) is not make_scheduler("euler", CONFIGS[0])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnsupportedSchedulerError, match="ddim, .*, unipc"):
        make_scheduler("dpm", CONFIGS[0])


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_model_leads_to_its_picture(name: str, prediction_type: str) -> None:
    """Fed with the true noise or velocity at every step, a scheduler must arrive at the clean latents."""
    config = {**CONFIGS[0], "prediction_type": prediction_type, "timestep_spacing": "trailing", "steps_offset": 0}
    scheduler = make_scheduler(name, config)
    scheduler.set_timesteps(30)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    latents = scheduler.add_noise(clean, noise, scheduler.timesteps[:1])
    for timestep in scheduler.timesteps:
        alpha = scheduler.alphas_cumprod[int(timestep)]
        current = scheduler.scale_model_input(latents, timestep)
        true_noise = (current - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * true_noise - (1 - alpha).sqrt() * clean
        prediction = true_noise if prediction_type == "epsilon" else velocity
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, clean, atol=0.01, rtol=0.01)
