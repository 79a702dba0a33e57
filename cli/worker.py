"""``msd worker``: a supervisor with one worker on each device of this machine."""

from __future__ import annotations

from pathlib import Path

from cli.options import Data, Model


def worker(model: Model = "mini", data: Data = Path("data")) -> None:
    """Run the workers, one on each device, for the API that shares MSD_REDIS_URL and --data."""
    from worker.config import WorkerSettings
    from worker.logs import set_up_logs
    from worker.supervisor import supervise

    set_up_logs()
    supervise(WorkerSettings.load(model=model, data_dir=data))
