"""Schedulers by name, each made anew for a request from the model directory's scheduler config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from ms_core.spec import check_scheduler

# Class, and values that overrule the config: some would clip latents as if they were pictures.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {"clip_sample": False}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def make_scheduler(name: str, config: Mapping[str, Any], timestep_spacing: str | None = None) -> Any:
    """A fresh scheduler; betas, prediction type and timestep spacing are the config's.

    Args:
        name: one of ``ms_core.spec.SCHEDULERS``.
        config: of the model directory's own scheduler, of whatever class.
        timestep_spacing: one of ``ms_core.spec.TIMESTEP_SPACINGS``, instead of the config's.

    Raises:
        UnsupportedSchedulerError: the name is unknown.
    """
    check_scheduler(name)
    kind, fixed = _SCHEDULERS[name]
    # Private entries tell which values are the other class's defaults; diffusers would replace those by its own.
    public = {key: value for key, value in config.items() if not key.startswith("_")}
    if timestep_spacing is not None:
        public["timestep_spacing"] = timestep_spacing
    return kind.from_config({**public, **fixed})
