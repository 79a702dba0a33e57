"""The one function that may be enqueued: ``ms_jobs.records.GENERATE_JOB`` names it."""

from __future__ import annotations

from ms_jobs.keys import JobKey
from worker.job_run import JobRun, WorkerContext

_context: WorkerContext | None = None


def bind(context: WorkerContext) -> None:
    """Give the process's jobs what they need; once, before the first."""
    global _context
    _context = context


def generate(owner: str, job_id: str) -> None:
    """Make the pictures of a job; the job's record tells what became of it."""
    if _context is None:
        raise RuntimeError("Jobs run inside a worker process only; start one with `msd worker`.")
    JobRun(_context, JobKey(owner, job_id)).run()
