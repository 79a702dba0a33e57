"""The only function that RQ may call; ``ms_jobs.records.GENERATE_JOB`` is its name."""

from __future__ import annotations

from ms_jobs.keys import JobKey
from worker.job_run import JobRun, WorkerContext

_context: WorkerContext | None = None


def bind(context: WorkerContext) -> None:
    """Set the context of this process's jobs; call it once, before the first job."""
    global _context
    _context = context


def generate(owner: str, job_id: str) -> None:
    """Make the pictures of a job; the result is in the job's record."""
    if _context is None:
        raise RuntimeError("Jobs run only in a worker process; start one with `msd worker`.")
    JobRun(_context, JobKey(owner, job_id)).run()
