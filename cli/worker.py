"""``msd worker``: a supervisor with one worker on each device of this machine."""

from __future__ import annotations

from pathlib import Path

from cli.options import Data, Model


def worker(model: Model = "mini", data: Data = Path("data")) -> None:
    """Make pictures for the API that shares MSD_REDIS_URL and --data."""
    import logging

    from worker.config import WorkerSettings
    from worker.supervisor import supervise

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervise(WorkerSettings.load(model=model, data_dir=data))
