"""The only functions that RQ may call; ``ms_jobs.records`` has their names."""

from __future__ import annotations

from ms_jobs.keys import JobKey
from worker.cutouts import make_cutout
from worker.job_run import JobRun, WorkerContext

_context: WorkerContext | None = None


def bind(context: WorkerContext) -> None:
    """Set the context of this process's jobs; call it once, before the first job."""
    global _context
    _context = context


def generate(owner: str, job_id: str) -> None:
    """Make the pictures of a job; the result is in the job's record."""
    JobRun(_bound(), JobKey(owner, job_id)).run()


def cutout(owner: str, asset_id: str) -> None:
    """Make the cut-out of an asset; the result is beside it."""
    make_cutout(_bound(), owner, asset_id)


def _bound() -> WorkerContext:
    if _context is None:
        raise RuntimeError("Jobs run only in a worker process; start one with `msd worker`.")
    return _context
