"""Settings of supervisors and workers, from the environment (prefix ``MSD_``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ms_core.device.modes import MemorySetting
from ms_core.errors import StartupError
from ms_jobs.job_store import DEFAULT_LIFETIME_S

SETUP_FAILED_EXIT_CODE = 3
DEVICE_LOST_EXIT_CODE = 4
# By this code the supervisor knows that a job may be left, which is to be handed back.
STOPPED_LATE_EXIT_CODE = 5
# The part of the grace time in which the supervisor requeues what its workers left.
HAND_BACK_S = 1.0

Seconds = Annotated[float, Field(gt=0)]


class WorkerSettings(BaseSettings):
    """What one supervisor and its workers need to know; times in seconds.

    Attributes:
        redis_url: the Redis that carries the jobs; ``redis://``, ``rediss://`` or ``unix://``.
        data_dir: root of the artifact store, shared with the API.
        model: a name below ``models_dir``, or the path of a model directory.
        models_dir: where models are looked for by name; by default the bundled ones.
        device: ``auto`` takes every CUDA device, or the CPU where there is none.
        memory_mode: which parts of the model stay on a CUDA device, see ``ms_core.device.modes``; ``auto`` goes by what is free
            when the model loads.
        job_timeout_s: time after which a running job is given up.
        load_budget_s: longest silence while the model loads; a worker that is silent for longer counts as hung.
        step_budget_s: longest silence within encoding, and within one denoising step.
        finish_budget_s: longest silence while a job's files are read, and while pictures are decoded, scored and stored.
        lifetime_s: how long a job may wait, and how long it and its files are kept after its end.
        min_free_disk_mb: free space of ``data_dir``, in MiB, below which no jobs are accepted.
        heartbeat_s: time between two beats.
        heartbeat_ttl_s: time after the last beat at which a worker counts as dead.
        recovery_grace_s: how long a job must look abandoned before it is taken up again.
        stop_grace_s: time that workers have to hand back their jobs when the supervisor stops.
        cpu_threads: threads of a worker on the CPU; by default torch decides.
        runtime: the class that makes the pictures, ``module:Class``; others than the default are for tests and benchmarks.
        worker_name: given by the supervisor to each worker it starts.
        phase_clock_fd: the same; the file descriptor of a ``worker.phase_clock.PhaseClock``.
    """

    model_config = SettingsConfigDict(env_prefix="MSD_", frozen=True, extra="ignore")

    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("data")
    model: str = "mini"
    models_dir: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_mode: MemorySetting = "auto"
    job_timeout_s: Seconds = 600
    load_budget_s: Seconds = 900
    step_budget_s: Seconds = 120
    finish_budget_s: Seconds = 300
    lifetime_s: Seconds = DEFAULT_LIFETIME_S
    min_free_disk_mb: Annotated[int, Field(ge=0)] = 512
    heartbeat_s: Seconds = 1
    heartbeat_ttl_s: Annotated[int, Field(ge=2)] = 10
    recovery_grace_s: Seconds = 3
    stop_grace_s: Seconds = 10
    cpu_threads: Annotated[int, Field(ge=1)] | None = None
    runtime: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] = "worker.runtime:PipelineRuntime"
    worker_name: str = ""
    phase_clock_fd: Annotated[int, Field(ge=0)] | None = None

    @classmethod
    def load(cls, **values: Any) -> Self:
        """The settings of the environment, but for ``values``.

        Raises:
            StartupError: one of them makes no sense.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise settings_error(error) from error

    def to_environment(self) -> dict[str, str]:
        """The environment from which a child process reads these very settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"MSD_{name.upper()}": str(value) for name, value in values.items()}

    @property
    def drain_s(self) -> float:
        """How much of the grace time is the workers' own; in the rest the supervisor hands back what they left."""
        return self.stop_grace_s - min(HAND_BACK_S, self.stop_grace_s / 4)

    def budget(self, phase: str) -> float | None:
        """Longest time, in seconds, that a phase may last without a sign of progress; ``None`` for no limit."""
        budgets = {
            "load": self.load_budget_s,
            "open": self.finish_budget_s,
            "encode": self.step_budget_s,
            "denoise": self.step_budget_s,
            "decode": self.finish_budget_s,
            "score": self.finish_budget_s,
            "store": self.finish_budget_s,
        }
        return budgets.get(phase)


def settings_error(error: ValidationError) -> StartupError:
    """What the user is told of settings that make no sense: the first one, by the name of its variable."""
    first = error.errors()[0]
    name = f"MSD_{str(first['loc'][0]).upper()}"
    return StartupError(f"{name} cannot be {first['input']!r}: {first['msg']}.")
