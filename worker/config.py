"""Settings of supervisors and workers, from the environment (prefix ``MSD_``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ms_core.device.modes import MemorySetting
from ms_core.errors import StartupError
from ms_jobs.assets import DEFAULT_ASSET_LIFETIME_S
from ms_jobs.connection import DEFAULT_URL
from ms_jobs.job_store import DEFAULT_LIFETIME_S

SETUP_FAILED_EXIT_CODE = 3
DEVICE_LOST_EXIT_CODE = 4
# Tells the supervisor that a job may be left over, to be requeued.
STOPPED_LATE_EXIT_CODE = 5
# The part of the grace time in which the supervisor requeues what its workers left.
HAND_BACK_S = 1.0

Seconds = Annotated[float, Field(gt=0)]


class WorkerSettings(BaseSettings):
    """Settings of one supervisor and its workers; times in seconds.

    Attributes:
        redis_url: Redis with the jobs; ``redis://``, ``rediss://`` or ``unix://``.
        data_dir: root of the artifact store, shared with the API.
        model: a name below ``models_dir``, or the path of a model directory.
        models_dir: directory of models by name; by default the bundled ones.
        device: ``auto`` uses every CUDA device, or the CPU if there is none.
        memory_mode: which parts of the model stay on a CUDA device, see ``ms_core.device.modes``; ``auto`` chooses by the free
            memory when the model loads.
        max_running: jobs of one owner that may run at once, on all workers; 0 is no limit.
        job_timeout_s: time limit of a running job.
        load_budget_s: time limit for loading the model; a worker that exceeds a limit counts as hung.
        step_budget_s: time limit for encoding, and for one denoising step.
        finish_budget_s: time limit for reading a job's files, and for decoding, scoring and storing its pictures.
        lifetime_s: how long a job may wait in the queue, and how long it is kept after its end.
        asset_lifetime_s: how long an uploaded picture is kept after its last use.
        min_free_disk_mb: jobs are refused while ``data_dir`` has less free space than this, in MiB.
        heartbeat_s: time between two heartbeats.
        heartbeat_ttl_s: a worker counts as dead this long after its last heartbeat.
        recovery_grace_s: how long a job must look abandoned before it is requeued.
        stop_grace_s: time in which workers must hand back their jobs when the supervisor stops.
        cpu_threads: threads of a worker on the CPU; by default one for a small model, else as torch chooses.
        runtime: class that makes the pictures, as ``module:Class``; change it only for tests and benchmarks.
        worker_name: set by the supervisor for each worker.
        phase_clock_fd: set by the supervisor: file descriptor of a ``worker.phase_clock.PhaseClock``.
    """

    model_config = SettingsConfigDict(env_prefix="MSD_", frozen=True, extra="ignore")

    redis_url: str = DEFAULT_URL
    data_dir: Path = Path("data")
    model: str = "mini"
    models_dir: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_mode: MemorySetting = "auto"
    max_running: Annotated[int, Field(ge=0)] = 0
    job_timeout_s: Seconds = 600
    load_budget_s: Seconds = 900
    step_budget_s: Seconds = 120
    finish_budget_s: Seconds = 300
    lifetime_s: Seconds = DEFAULT_LIFETIME_S
    asset_lifetime_s: Seconds = DEFAULT_ASSET_LIFETIME_S
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
        """Read the settings from the environment; ``values`` override it.

        Raises:
            StartupError: a setting is invalid.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise settings_error(error) from error

    def to_environment(self) -> dict[str, str]:
        """Make the environment from which a child process reads the same settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"MSD_{name.upper()}": str(value) for name, value in values.items()}

    @property
    def drain_s(self) -> float:
        """The workers' part of the grace time; in the rest the supervisor requeues what they left."""
        return self.stop_grace_s - min(HAND_BACK_S, self.stop_grace_s / 4)

    def budget(self, phase: str) -> float | None:
        """Time limit of a phase without progress, in seconds; ``None``: no limit."""
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
    """Make the error of invalid settings: it names the variable of the first one."""
    first = error.errors()[0]
    name = f"MSD_{str(first['loc'][0]).upper()}"
    return StartupError(f"{name} cannot be {first['input']!r}: {first['msg']}.")
