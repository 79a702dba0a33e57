"""Which stages are one step of the flow; without Ray, whose import changes a process's logging."""

from __future__ import annotations

import itertools

from ms_lab.data.config import STAGES, PipelineConfig, Resources


def joined_stages(config: PipelineConfig) -> list[tuple[str, ...]]:
    """The stages in order; tasks that follow each other with equal resources are one step, for clips are packed between steps."""

    def share(name: str) -> tuple[object, ...]:
        resources: Resources = getattr(config.resources, name)
        return (name,) if resources.actors else (resources.cpus, resources.gpus)

    return [tuple(names) for _, names in itertools.groupby(STAGES, share)]
