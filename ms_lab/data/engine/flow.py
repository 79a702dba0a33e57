"""The stages as a Ray Data flow: rows are clips as bytes, model stages are actors, all else are tasks."""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import cv2
import pyarrow as untyped_pyarrow  # pyright: ignore[reportMissingTypeStubs] - it has none

from ms_lab.data.config import STAGES, PipelineConfig, Resources
from ms_lab.data.engine.batches import FailedClip, run_batch
from ms_lab.data.engine.cluster import ray
from ms_lab.data.engine.footage_jobs import read_job
from ms_lab.data.engine.steps import Step, joined_steps
from ms_lab.data.engine.tally import READ, WRITE, Counted, facts_of
from ms_lab.data.items import Clip
from ms_lab.data.sources import Footage
from ms_lab.data.stages.base import build_stage
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.parts import write_part

_ROW = "clip"
pyarrow: Any = untyped_pyarrow


def build_flow(folder: RunFolder, jobs: Sequence[Footage], config: PipelineConfig, tally: Any) -> Any:
    """The whole flow as a lazy ``ray.data.Dataset``, whose rows are ids of written clips."""
    package: Any = ray
    data = package.data
    work = _Work(folder, config.model_dump_json(), tally)
    cluster: dict[str, float] = package.cluster_resources()
    rows = [{"footage": pickle.dumps(job)} for job in jobs]
    # Many small blocks, so that all cores get work and none a long last one.
    flow = data.from_items(rows, override_num_blocks=max(1, min(len(rows), 8 * int(cluster.get("CPU", 1)))))
    steps = joined_steps(config)
    # Shares for steps that wait for each other; with a single one Ray then mostly runs one task at a time.
    data.DataContext.get_current().op_resource_reservation_enabled = len(steps) > 1
    for step in steps:
        given = {"batch_format": "pyarrow", "zero_copy_batch": True, **_given(step.resources, config, cluster)}
        if step.names[0] == READ:
            flow = flow.map_batches(_ReadingTasks(work, step), batch_size=1, **given)
        elif step.resources.actors:
            pool = data.ActorPoolStrategy(size=step.resources.actors)
            flow = flow.map_batches(
                _StageActor, fn_constructor_args=(work, step), compute=pool, batch_size=step.batch, **given
            )
        else:
            flow = flow.map_batches(_StageTasks(work, step), batch_size=step.batch, **given)
    return flow


def _given(resources: Resources, config: PipelineConfig, cluster: dict[str, float]) -> dict[str, float]:
    """What Ray is to reserve: GPUs only where there are any, and no more CPUs for actors than leave room for tasks."""
    given = {"num_cpus": resources.cpus}
    if cluster.get("GPU", 0) and resources.gpus:
        given["num_gpus"] = resources.gpus
    if resources.actors:
        wanted = sum(own.cpus * own.actors for own in (getattr(config.resources, name) for name in STAGES))
        given["num_cpus"] = resources.cpus * min(1.0, 0.5 * cluster.get("CPU", 1) / max(wanted, 1e-9))
    return given


class _Work:
    """What the processes do; it travels to them as a few strings."""

    def __init__(self, folder: RunFolder, config: str, tally: Any) -> None:
        self.folder, self.config_json, self.tally = folder, config, tally

    @property
    def config(self) -> PipelineConfig:
        """The run's configuration."""
        return _parsed(self.config_json)

    def counted(self, name: str, clips: list[Clip], begun: float, failed: Sequence[FailedClip] = ()) -> Counted:
        """What a stage did since then; clips that failed are remembered."""
        for one in failed:
            content = {"clip": one.clip, "source": one.source, "stage": one.stage, "reason": one.reason}
            write_json(self.folder.faults / f"{one.clip}.json", {**content, "detail": one.detail})
        return Counted(name, len(clips), time.monotonic() - begun, len(failed), facts_of(name, clips))

    def run(self, names: Sequence[str], clips: list[Clip], before: Sequence[Counted] = ()) -> Any:
        """These stages over a batch, counted with what was done ``before``; returns the rows that the next step gets."""
        counts = list(before)
        for name in names:
            begun, failed = time.monotonic(), list[FailedClip]()
            if name == WRITE:
                self._write(clips)
            else:
                clips, failed = run_batch(name, _built(name, self.config_json), clips)
            counts.append(self.counted(name, clips, begun, failed))
        # Once for all stages: Ray keeps a record of every call.
        self.tally.add.remote(counts)
        return pyarrow.table({"id": [clip.id for clip in clips]}) if WRITE in names else _table(clips)

    def _write(self, clips: Sequence[Clip]) -> None:
        for clip in clips:
            write_part(self.folder.parts, clip, self.config.write)
            (self.folder.faults / f"{clip.id}.json").unlink(missing_ok=True)


class _ReadingTasks:
    """Reading, and the stages that any process can do after it."""

    def __init__(self, work: _Work, step: Step) -> None:
        self.work, self.step = work, step

    def __call__(self, table: Any) -> Iterator[Any]:
        footage: Footage = pickle.loads(table.column("footage").to_pylist()[0])  # noqa: S301 - of this very run
        clips, begun = read_job(self.work.folder, footage, self.work.config), time.monotonic()
        while batch := list(itertools.islice(clips, self.step.batch)):
            read = self.work.counted(READ, batch, begun)
            yield self.work.run(self.step.names[1:], batch, (read,))
            begun = time.monotonic()


class _StageTasks:
    """Stages that any process can do, one after another; each process builds them once."""

    def __init__(self, work: _Work, step: Step) -> None:
        self.work, self.step = work, step

    def __call__(self, table: Any) -> Any:
        return self.work.run(self.step.names, _unpacked(table))


class _StageActor(_StageTasks):
    """A stage that keeps its model."""

    def __init__(self, work: _Work, step: Step) -> None:
        super().__init__(work, step)
        # Now, so that a model that cannot be loaded ends the run at its start.
        _built(step.names[0], work.config_json)


@lru_cache(maxsize=1)
def _parsed(config: str) -> PipelineConfig:
    return PipelineConfig.model_validate_json(config)


@lru_cache(maxsize=16)
def _built(name: str, config: str) -> Any:
    # As FFmpeg in ``video.py``: tasks already take all cores.
    cv2.setNumThreads(1)
    return build_stage(name, _parsed(config))


def _packed(clip: Clip) -> bytes:
    return pickle.dumps(clip, protocol=5)


def _unpacked(table: Any) -> list[Clip]:
    return [pickle.loads(row) for row in table.column(_ROW).to_pylist()]  # noqa: S301 - of this very run


def _table(clips: Sequence[Clip]) -> Any:
    # Large: the offsets of a plain binary column end at 2 GB.
    return pyarrow.table({_ROW: pyarrow.array([_packed(clip) for clip in clips], pyarrow.large_binary())})
