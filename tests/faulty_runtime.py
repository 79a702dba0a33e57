"""The one test pipeline that simulates faults: of the device, and of code that hangs or takes its time.

``MSD_RUNTIME=faulty_runtime:FaultyRuntime`` runs the real pipeline with the model it is given. Words in the prompt choose
what goes wrong at its second denoising step:

=====================  ================================================================================================
``memory-out-once``    torch says that memory ran out, at the first try of a job
``memory-out``         the same, at every try
``device-breaks``      torch says what it says of a broken CUDA context
``hangs-once``         a call never returns, as others may run; at the first attempt only
``hangs-locked-once``  the same, but the call holds Python's lock, so no thread of the process runs any more
=====================  ================================================================================================

``lingers-in-<phase>`` stays in a phase (``encode``, ``denoise``, ``decode`` or ``store``) for as long as there is a file
``linger`` in the data directory.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

import torch

from ms_core.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec
from worker.config import WorkerSettings
from worker.job_run import Picture, Report
from worker.runtime import PipelineRuntime

FAULTY_CALL = 2
FOREVER_S = 3600


class FaultyRuntime(PipelineRuntime):
    """The real pipeline, whose parts do as the prompt says before they do their work."""

    def __init__(self, pipeline: MSDiffusionPipeline, model: str, device: str) -> None:
        super().__init__(pipeline, model, device)
        self._data_dir = Path()
        self._words: set[str] = set()
        self._marks = ""
        self._calls = 0
        components: Any = pipeline.components
        components.text_encoder.register_forward_pre_hook(lambda *_: self._linger("encode"))
        components.unet.register_forward_pre_hook(lambda *_: self._before_step())
        components.vae.decoder.register_forward_pre_hook(lambda *_: self._linger("decode"))

    @classmethod
    def setup(cls, settings: WorkerSettings, directory: Path, device: str) -> Self:
        """Load the model, see ``PipelineRuntime``."""
        runtime = super().setup(settings, directory, device)
        runtime._data_dir = settings.data_dir
        return runtime

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        """Make the pictures, if nothing goes wrong on the way."""
        self._words = set(specs[0].prompt.split())
        # What happens once is remembered by the seed, which the attempts of a job share.
        self._marks = f"fault-{specs[0].seed}"
        self._calls = 0
        yield from super().run(specs)

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        """The recipe of a picture; asked for when it is stored."""
        self._linger("store")
        return super().recipe(spec)

    def _before_step(self) -> None:
        self._linger("denoise")
        self._calls += 1
        if self._calls != FAULTY_CALL:
            return
        if "memory-out" in self._words or self._happens_once("memory-out-once"):
            self._calls = 0
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        if "device-breaks" in self._words:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if self._happens_once("hangs-once"):
            time.sleep(FOREVER_S)
        if self._happens_once("hangs-locked-once"):
            # A PyDLL keeps Python's lock while it is called.
            ctypes.PyDLL(None).sleep(FOREVER_S)

    def _happens_once(self, word: str) -> bool:
        mark = self._data_dir / f"{self._marks}-{word}"
        if word not in self._words or mark.exists():
            return False
        mark.touch()
        return True

    def _linger(self, phase: str) -> None:
        while f"lingers-in-{phase}" in self._words and (self._data_dir / "linger").exists():
            time.sleep(0.01)
