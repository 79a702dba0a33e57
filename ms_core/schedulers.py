"""Schedulers by name, each made anew for a request from the model directory's scheduler config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from ms_core.spec import check_scheduler

# Class, and values that overrule the config: DDIM would clip latents as if they were pictures.
_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}),
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
    kind, fixed = _SCHEDULERS[name]
    # Private entries tell which values are the other class's defaults; diffusers would replace those by its own.
    public = {key: value for key, value in config.items() if not key.startswith("_")}
    return kind.from_config({**public, **fixed})
