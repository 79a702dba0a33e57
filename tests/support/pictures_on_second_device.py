"""Makes the same pictures on the CPU and on ``second_device``, in a memory mode; prints the differences as one line of JSON.

python -m tests.support.pictures_on_second_device MODE
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import AutoLayout, Box, Control, GenerationSpec, Lora, StartPicture, Subject
from tests.support.golden_extras import add_extras
from tests.support.golden_model import write_golden_model
from tests.support.paths import GOLDEN
from tests.support.second_device import NAME, SecondDevice

SCHEDULERS = ("ddim", "dpmpp_2m", "euler_ancestral", "heun", "lcm", "unipc")


def cases() -> dict[str, list[GenerationSpec]]:
    """Batches that go through every part of the pipeline."""
    pictures = [Image.open(GOLDEN / "references" / f"{number}.png") for number in range(3)]
    cat = Subject("cat", pictures[0], Box(0.0, 0.2, 0.6, 0.8))
    dog = Subject("dog", tuple(pictures[1:]), Box(0.4, 0.2, 1.0, 0.8), scale=0.7)
    plain = GenerationSpec("a cat and a dog", (cat, dog), seed=1, num_inference_steps=3, height=128, width=128)
    unguided = replace(plain, prompt="a dog", subjects=(dog,), guidance_scale=1.0)
    found = replace(plain, layout=AutoLayout(0.5, 2))
    soft = replace(cat, mask=Image.linear_gradient("L"), feather=0.1)
    size = (128, 128)
    control = Control("canny", Image.effect_noise(size, 50).convert("RGB"), 0.8)
    added = replace(plain, loras=(Lora("paper", 0.5),), controls=(control,), timestep_spacing="trailing")
    start = StartPicture(Image.effect_noise(size, 60).convert("RGB"), strength=0.7, redraw=(1,))
    return {
        "mixed batch": [plain, unguided, found],
        "soft masks": [replace(plain, subjects=(soft, replace(dog, z_index=1)))],
        "additions": [added],
        "redrawing": [replace(plain, start=start)],
        **{name: [replace(plain, scheduler=name)] for name in SCHEDULERS},
    }


def main(mode: str) -> None:
    second = SecondDevice.install()
    differences: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "golden"
        write_golden_model(directory)
        add_extras(directory)
        on_cpu = MSDiffusionPipeline.from_pretrained(directory, device="cpu")
        batches = cases()
        expected = {name: on_cpu.run(specs) for name, specs in batches.items()}
        with second:
            pipeline = MSDiffusionPipeline.from_pretrained(directory, NAME, torch.float32, mode)
            for name, specs in batches.items():
                pairs = zip(pipeline.run(specs), expected[name], strict=True)
                differences[name] = max(float((found.latents - wanted.latents).abs().max()) for found, wanted in pairs)
    sys.stdout.write(json.dumps(differences) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
