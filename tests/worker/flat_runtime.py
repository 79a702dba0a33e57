"""A runtime without a model, for tests of everything around it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from PIL import Image

from ms_core.spec import GenerationSpec, GenerationWarning, Subject
from worker.job_run import Picture, Report

STEPS = 4
CUT = GenerationWarning(code="prompt_cut", detail="Cut.", pointer="/prompt")


class FlatRuntime:
    """Makes flat pictures in the colour of their seed; ``at_step`` and ``at_end`` may do or raise anything on the way."""

    device = "cpu"

    def __init__(self) -> None:
        self.at_step: Callable[[int], None] = lambda step: None
        self.at_end: Callable[[], None] = lambda: None
        self.steps_done = 0
        self.previews = 0

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        for step in range(1, STEPS + 1):
            self.at_step(step)
            self.steps_done = step
            yield Report("denoise", step, STEPS, (CUT,) * len(specs))
        yield Report("decode")
        self.at_end()
        yield [Picture(Image.new("RGB", (16, 8), (spec.seed, 0, 0)), (CUT,)) for spec in specs]

    def preview(self, subject: Subject) -> Image.Image:
        self.previews += 1
        return Image.new("RGB", (8, 8), subject.phrase)

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        return {"model": {"name": "flat"}}


def raising(error: BaseException, at: int = 2) -> Callable[[int], None]:
    def at_step(step: int) -> None:
        if step == at:
            raise error

    return at_step
