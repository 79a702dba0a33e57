"""A child process that loads a model as a worker does, makes one tiny picture of made-up input, and reports the result.

Run as ``python -m cli.checks.trial_child DIRECTORY`` with a worker's environment; the last line on stdout is JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ms_core.errors import MSDiffusionError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ms_core.config import ModelCard
    from ms_core.spec import GenerationSpec

# Eight latents a side, which every UNet of this kind can halve; small enough for a card of any memory.
SIDE = 64
STEPS = 2


def make_spec(card: ModelCard) -> GenerationSpec:
    """A made-up subject in the middle of the smallest sensible picture of a model."""
    from PIL import Image, ImageDraw

    from ms_core.spec import Box, GenerationSpec, Subject

    reference = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(reference).ellipse((24, 24, 104, 104), fill="crimson")
    return GenerationSpec(
        prompt="a red ball on a table",
        subjects=(Subject("red ball", reference, Box(0.25, 0.25, 0.75, 0.75)),),
        height=min(SIDE, card.max_height),
        width=min(SIDE, card.max_width),
        num_inference_steps=STEPS,
        seed=0,
    )


def try_model(directory: Path) -> dict[str, Any]:
    """Load the model and make the picture; what fails is told by its code and its sentence."""
    from worker.config import WorkerSettings

    try:
        begun = time.monotonic()
        settings = WorkerSettings.load(model=str(directory))
        # Imports torch, which may fail in its own ways; the parent reads that from the end of this process.
        from worker.runtime import PipelineRuntime

        runtime = PipelineRuntime.setup(settings, directory, settings.device)
        loaded = time.monotonic()
        spec = make_spec(runtime.card)
        image = _run(runtime, spec)
        ended = time.monotonic()
    except MSDiffusionError as error:
        return {"error": {"code": error.code, "detail": error.detail}}
    return {
        "load_s": round(loaded - begun, 2),
        "picture_s": round(ended - loaded, 2),
        "memory_mode": runtime.memory_mode,
        "peak_bytes": _peak_bytes(on_cuda=settings.device == "cuda"),
        "height": image.height,
        "width": image.width,
        "steps": spec.num_inference_steps,
        "is_flat": _is_flat(image),
    }


def _run(runtime: Any, spec: GenerationSpec) -> Image:
    """The picture; reports on the way are let go."""
    [pictures] = [event for event in runtime.run([spec]) if isinstance(event, list)]
    return pictures[0].image


def _peak_bytes(on_cuda: bool) -> int:
    """Most memory held at once: on the device by torch, or by this process."""
    if on_cuda:
        import torch

        return torch.cuda.max_memory_reserved()
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _is_flat(image: Image) -> bool:
    """Whether all pixels are alike, as they are where the computation gave no numbers."""
    extrema: Any = image.convert("RGB").getextrema()
    return all(low == high for low, high in extrema)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(try_model(Path(sys.argv[1]))) + "\n")
