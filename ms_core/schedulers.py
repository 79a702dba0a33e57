"""Schedulers by name, each made anew for a request from the model directory's scheduler config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from ms_core.spec import check_scheduler

# Class, values for what the config leaves open, values that overrule it. DDIM's own defaults suit pictures in [-1, 1]:
# latents must not be clipped, and end at the first noise level.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"set_alpha_to_one": False}, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}, {}),
}


def make_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """A fresh scheduler; betas, prediction type and timestep spacing are the config's.

    Args:
        name: one of ``ms_core.spec.SCHEDULERS``.
        config: of the model directory's own scheduler, of whatever class.

    Raises:
        UnsupportedSchedulerError: the name is unknown.
    """
    check_scheduler(name)
    kind, defaults, fixed = _SCHEDULERS[name]
    return kind.from_config({**defaults, **config, **fixed})
