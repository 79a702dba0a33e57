"""Schedulers by name, made for each request from the model directory's scheduler config, and their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from jaxtyping import Float
from torch import Tensor

from ms_core.config import SCHEDULERS, TIMESTEP_SPACINGS, UsableSchedulers
from ms_core.errors import UnsupportedSchedulerError, cannot_begin_with_noise
from ms_core.spec import MAX_LCM_STEPS, check_scheduler

_ZERO_SNR = "rescale_betas_zero_snr"
# Karras et al. 2022 begin here (table 1); beyond it, latents are noise and nothing else.
_PURE_NOISE_SIGMA = 80.0
# Below it, nothing can be said of a picture from the noise in it.
_LEAST_ALPHA = 1e-3
# They begin anywhere.
_ALWAYS = ("dpmpp_2m", "euler")

# Where a schedule begins hardly depends on the number of its steps.
_TRIED_STEPS = 20

# Class, and values that overrule the config: some would clip latents as if they were pictures.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {"clip_sample": False, "original_inference_steps": MAX_LCM_STEPS}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def make_scheduler(name: str, config: Mapping[str, Any], timestep_spacing: str | None = None) -> Any:
    """A fresh scheduler; betas, prediction type and timestep spacing are the config's.

    Args:
        name: one of ``ms_core.spec.SCHEDULERS``.
        config: of the model directory's own scheduler, of whatever class.
        timestep_spacing: one of ``ms_core.spec.TIMESTEP_SPACINGS``, instead of the config's.

    Raises:
        UnsupportedSchedulerError: the name is unknown, or the scheduler cannot follow the model's noise schedule.
    """
    check_scheduler(name)
    kind, fixed = _SCHEDULERS[name]
    understood = signature(kind.__init__).parameters
    if config.get(_ZERO_SNR) and _ZERO_SNR not in understood:
        raise cannot_begin_with_noise(name, _ALWAYS)
    # diffusers would replace values that are the other class's defaults by its own, and log those it does not know.
    public = {key: value for key, value in config.items() if key in understood}
    if timestep_spacing is not None:
        public["timestep_spacing"] = timestep_spacing
    scheduler: Any = kind.from_config({**public, **fixed})
    if scheduler.config.get("use_karras_sigmas") and float(scheduler.sigmas.max()) > _PURE_NOISE_SIGMA:
        # Spaced from where such a model's noise ends, most steps would go by before the picture begins.
        scheduler.register_to_config(sigma_max=_PURE_NOISE_SIGMA)
    return scheduler


def usable_schedulers(config: Mapping[str, Any]) -> UsableSchedulers:
    """Which schedulers can begin with noise alone.

    Args:
        config: as for ``make_scheduler``.
    """

    def names(timestep_spacing: str | None) -> tuple[str, ...]:
        return tuple(name for name in SCHEDULERS if _can_begin(name, config, timestep_spacing))

    return UsableSchedulers(names(None), {spacing: names(spacing) for spacing in TIMESTEP_SPACINGS})


def _can_begin(name: str, config: Mapping[str, Any], timestep_spacing: str | None) -> bool:
    try:
        Schedule(make_scheduler(name, config, timestep_spacing), _TRIED_STEPS, _TRIED_STEPS, torch.device("cpu"))
    except UnsupportedSchedulerError:
        return False
    return True


class Schedule:
    """The denoising steps of one batch; each is one call of the UNet.

    Attributes:
        timesteps: of the steps that are done, the noisiest first; ``heun`` has nearly two for each that was asked for.
    """

    def __init__(self, scheduler: Any, num_inference_steps: int, num_kept_steps: int, device: torch.device) -> None:
        """Prepare a fresh scheduler.

        Args:
            num_inference_steps: what was asked for.
            num_kept_steps: the last of them that are done; fewer with a start picture.

        Raises:
            UnsupportedSchedulerError: ``heun`` and a first step at pure noise.
        """
        scheduler.set_timesteps(num_inference_steps, device=device)
        _drop_step_below_zero(scheduler)
        begin = (num_inference_steps - num_kept_steps) * scheduler.order
        if scheduler.order > 1 and scheduler.sigmas[begin] > _PURE_NOISE_SIGMA:
            # Its correction of so long a step is many times larger than the picture.
            raise cannot_begin_with_noise("heun", _ALWAYS)
        self.timesteps: Tensor = scheduler.timesteps[begin:]
        # Without it most would look their first step up on the device, and wait for it.
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        self._scheduler = scheduler
        self._alphas_and_betas = _alphas_and_betas(scheduler, begin)
        self._draws_noise = "generator" in signature(scheduler.step).parameters

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.timesteps)

    def pure_noise(self, noise: Float[Tensor, "specs c h w"]) -> Float[Tensor, "specs c h w"]:
        """Latents to begin with, without a start picture."""
        return noise * self._scheduler.init_noise_sigma

    def noised(
        self, latents: Float[Tensor, "specs c h w"], noise: Float[Tensor, "specs c h w"], step_index: int
    ) -> Float[Tensor, "specs c h w"]:
        """Clean latents with as much noise as step ``step_index`` begins with; ask for the step that comes next."""
        return self._scheduler.add_noise(latents, noise, self.timesteps[step_index : step_index + 1])

    def scaled(self, latents: Float[Tensor, "specs c h w"], step_index: int) -> Float[Tensor, "specs c h w"]:
        """Latents as the UNet sees them at this step."""
        return self._scheduler.scale_model_input(latents, self.timesteps[step_index])

    def estimate(
        self,
        prediction: Float[Tensor, "specs c h w"],
        step_index: int,
        scaled: Float[Tensor, "specs c h w"],
    ) -> Float[Tensor, "specs c h w"]:
        """Clean latents as a step sees them coming; those of the last step are the result, or nearly so.

        Args:
            prediction: what the UNet said.
            scaled: what it saw, see ``scaled``.
        """
        # What the UNet sees is ``alpha * clean + beta * noise`` with ``alpha**2 + beta**2 == 1``, whatever the scheduler.
        alpha, beta = self._alphas_and_betas[step_index]
        kind = self._scheduler.config.prediction_type
        if kind == "v_prediction":
            return alpha * scaled - beta * prediction
        return prediction if kind == "sample" else (scaled - beta * prediction) / max(alpha, _LEAST_ALPHA)

    def step(
        self,
        prediction: Float[Tensor, "specs c h w"],
        step_index: int,
        latents: Float[Tensor, "specs c h w"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "specs c h w"]:
        """Latents after this step.

        Args:
            prediction: what the UNet said.
            generators: one for each spec, so that no picture depends on its neighbours in the batch.
        """
        noise = {"generator": list(generators)} if self._draws_noise else {}
        timestep = self.timesteps[step_index]
        return self._scheduler.step(prediction, timestep, latents, return_dict=False, **noise)[0]


def _alphas_and_betas(scheduler: Any, begin: int) -> list[tuple[float, float]]:
    """How much of the clean latents and how much noise the UNet sees, at each step from ``begin`` on."""
    timesteps = scheduler.timesteps[begin:].cpu()
    if hasattr(scheduler, "sigmas"):
        sigmas = scheduler.sigmas[begin : begin + len(timesteps)].double().cpu()
        alphas = (1 + sigmas**2).rsqrt()
    else:
        alphas = scheduler.alphas_cumprod.double().cpu()[timesteps.long()].sqrt()
    return [(float(alpha), max(0.0, 1 - float(alpha) ** 2) ** 0.5) for alpha in alphas]


def _drop_step_below_zero(scheduler: Any) -> None:
    """Undo a rounding of diffusers: for some numbers of steps trailing spacing adds one at timestep -1."""
    surplus = int((scheduler.timesteps < 0).sum())
    if surplus:
        scheduler.timesteps = scheduler.timesteps[:-surplus]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[: -surplus - 1], scheduler.sigmas[-1:]])
