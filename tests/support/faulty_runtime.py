"""The one test pipeline that simulates errors of a CUDA device; everything else of it is the real one.

``MSD_RUNTIME=tests.support.faulty_runtime:FaultyRuntime`` runs the real pipeline with the model it is given. Words in the
prompt choose what torch says at the second denoising step:

===================  =====================================================================
``memory-out-once``  that memory ran out, at the first try of a job
``memory-out``       the same, at every try
``device-breaks``    what it says of a broken CUDA context, which no call survives
===================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec
from worker.job_run import Picture, Report
from worker.runtime import PipelineRuntime

FAULTY_CALL = 2


class FaultyRuntime(PipelineRuntime):
    """The real pipeline, whose UNet fails as the prompt says."""

    def __init__(self, pipeline: MSDiffusionPipeline, model: str, device: str) -> None:
        super().__init__(pipeline, model, device)
        self._words: set[str] = set()
        self._calls = 0
        unet: Any = pipeline.unet
        unet.register_forward_pre_hook(lambda *_: self._before_call())

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        """Make the pictures, if nothing goes wrong on the way."""
        self._words = set(specs[0].prompt.split())
        self._calls = 0
        yield from super().run(specs)

    def _before_call(self) -> None:
        self._calls += 1
        # A second try counts on.
        is_first_try = self._calls == FAULTY_CALL
        if "memory-out" in self._words or ("memory-out-once" in self._words and is_first_try):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        if "device-breaks" in self._words and is_first_try:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
