"""Which stages are one step of the flow; without Ray, whose import changes a process's logging."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ms_lab.data.config import PipelineConfig, Resources
from ms_lab.data.engine.tally import ALL_STAGES, WRITE


@dataclass(frozen=True, slots=True)
class Step:
    """Stages that one task or actor does one after another.

    Attributes:
        names: of the stages, reading and writing among them.
        resources: of the first of them.
        batch: clips at a time; the largest of the stages' batches.
    """

    names: tuple[str, ...]
    resources: Resources
    batch: int


def joined_steps(config: PipelineConfig) -> list[Step]:
    """The steps in order; tasks that follow each other with equal resources are one, for clips are packed between steps."""

    def resources(name: str) -> Resources:
        return getattr(config.resources, "choose" if name == WRITE else name)

    def share(name: str) -> tuple[object, ...]:
        own = resources(name)
        return (name,) if own.actors else (own.cpus, own.gpus)

    groups = [tuple(names) for _, names in itertools.groupby(ALL_STAGES, share)]
    return [Step(names, resources(names[0]), max(resources(name).batch for name in names)) for names in groups]
