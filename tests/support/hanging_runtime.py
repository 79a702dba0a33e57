"""The benchmarks' pipeline that sleeps instead of computing, so that workers start in a moment; it also hangs when told.

``MSD_RUNTIME=tests.support.hanging_runtime:HangingRuntime``; words in the prompt choose what happens:

=======================  ==============================================================================================
``hangs-once``           after the first step a call never returns, as calls of devices do; at the first attempt only
``hangs-locked-once``    the same, but the call holds Python's lock, so that no thread of the process runs any more
``lingers-in-<phase>``   stays in ``encode``, ``denoise``, ``decode`` or ``store`` while there is a file ``linger`` in
                         the data directory
=======================  ==============================================================================================
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

from benchmarks.sleeping_runtime import SleepingRuntime
from ms_core.spec import GenerationSpec
from worker.config import WorkerSettings
from worker.job_run import Picture, Report

FOREVER_S = 3600


class HangingRuntime(SleepingRuntime):
    """Sleeps, and does as the prompt says after it reported a phase or a step."""

    _data_dir = Path()
    _words: frozenset[str] = frozenset()
    _mark = Path()

    @classmethod
    def setup(cls, settings: WorkerSettings, directory: Path, device: str) -> Self:
        """Read the model's card, see ``SleepingRuntime``."""
        runtime = super().setup(settings, directory, device)
        runtime._data_dir = settings.data_dir
        return runtime

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        """Flat pictures, sooner or later or never."""
        self._words = frozenset(specs[0].prompt.split())
        # What happens once is remembered by the seed, which the attempts of a job share.
        self._mark = self._data_dir / f"hung-{specs[0].seed}"
        for event in super().run(specs):
            yield event
            if isinstance(event, Report):
                self._linger(event.phase)
                if event.phase == "denoise" and event.step == 1:
                    self._hang()

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        """What a picture's recipe says; asked for when it is stored."""
        self._linger("store")
        return super().recipe(spec)

    def _linger(self, phase: str) -> None:
        while f"lingers-in-{phase}" in self._words and (self._data_dir / "linger").exists():
            time.sleep(0.01)

    def _hang(self) -> None:
        if not self._words & {"hangs-once", "hangs-locked-once"} or self._mark.exists():
            return
        self._mark.touch()
        if "hangs-once" in self._words:
            time.sleep(FOREVER_S)
        # A PyDLL keeps Python's lock while it is called.
        ctypes.PyDLL(None).sleep(FOREVER_S)
