"""A progress bar on stderr: rich's where rich is installed (the extra ``bar``), else a line of text on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from msd_client.jobs import Job

WIDTH = 40


def describe(job: Job) -> str:
    """What a job is doing, in a few words; the same width at all times."""
    return with_eta(job, job.eta_s)


def with_eta(job: Job, eta_s: float | None) -> str:
    """``describe`` with another estimate of the seconds that are left."""
    words = job.phase or job.status
    if job.position:
        words = f"queued, {job.position} ahead"
    elif job.phase == "denoise" and job.steps:
        words = f"denoise, step {job.step} of {job.steps}"
    if eta_s is not None and not job.ended:
        words += f", about {eta_s:.0f} s left"
    return f"{words:<{WIDTH}}"


class ProgressBar:
    """Shows a job while the block runs, and leaves nothing behind."""

    def __init__(self, describe: Callable[[Job], str] = describe) -> None:
        self._describe = describe
        self._bar: Any = None
        self._shown = 0

    def __enter__(self) -> Self:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            return self
        words = TextColumn("{task.description}")
        percentage = TextColumn("{task.percentage:.0f}%")
        console = Console(stderr=True)
        self._bar = Progress(words, BarColumn(), percentage, TimeElapsedColumn(), console=console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(f"{'':<{WIDTH}}", total=1.0)
        return self

    def show(self, job: Job) -> None:
        """Show the job as it is now."""
        if self._bar is not None:
            self._bar.update(self._task, description=self._describe(job), completed=job.fraction)
        elif sys.stderr.isatty():
            self._write(f"{self._describe(job)} {100 * job.fraction:3.0f}%")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        sys.stderr.write(f"\r{line:<{self._shown}}" + ("" if line else "\r"))
        sys.stderr.flush()
        self._shown = len(line)
