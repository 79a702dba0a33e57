"""Ray: started on this machine or joined by its address, quiet, and told to report nothing to anybody. Import it from here."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ms_core.errors import StartupError

# Read when Ray is imported, and by the processes that it starts: each may wait five minutes for another. Events of tasks, which
# nobody looks at, would be kept in memory by the thousand.
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_task_events_report_interval_ms": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_gcs_server_port_wait_time_s": "300",
        "RAY_raylet_start_wait_time_s": "300",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_health_check_timeout_ms": "60000",
        "RAY_BACKEND_LOG_LEVEL": "error",
        **os.environ,
    }
)

_make_record = logging.getLogRecordFactory()

import ray  # noqa: E402 - it reads the environment

# Ray adds a field of its own to every record of the process, which our log lines would show.
logging.setLogRecordFactory(_make_record)

_STARTS = 8


class Cluster:
    """A connection to Ray."""

    def remote(self, kind: type) -> Any:
        """An actor of this class that takes no core, and starts again where its process is lost."""
        package: Any = ray
        return package.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(kind).remote()

    def get(self, reference: Any) -> Any:
        """The value behind a reference."""
        return ray.get(reference)


@contextmanager
def connected(address: str, object_store_bytes: int) -> Generator[Cluster]:
    """Ray for the time of the block.

    Args:
        address: of a cluster, or ``local`` to start one with the cores that this process may use.
        object_store_bytes: of a local one.

    Raises:
        StartupError: Ray cannot be started or reached.
    """
    package: Any = ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": object_store_bytes}
        options["num_cpus"] = len(os.sched_getaffinity(0))
        # Else each of Ray's seven Python processes compiles Ray's sources, where they were installed uncompiled.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    _start(package, address, options)
    context: Any = package.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield Cluster()
    finally:
        package.shutdown()


def _start(package: Any, address: str, options: dict[str, Any]) -> None:
    """Start or join Ray, with patience: it gives its agents 15 s to start, which is fixed and little on a busy machine."""
    for left in reversed(range(_STARTS if address == "local" else 1)):
        try:
            package.init(address=address, **options)
        except Exception as error:
            package.shutdown()
            if not left:
                raise StartupError(f"Ray could not be started or reached at {address}: {error}") from error
        else:
            return
