"""The node: prompt, boxes and pictures go to a running service, and its picture comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io
from PIL import Image

from msd_client import Client, Job, Result, Subject

from .boxes import from_comfyui

DEFAULT_URL = "http://127.0.0.1:8000"
MAX_SEED = 2**53 - 1


class SubjectsInBoxes(io.ComfyNode):
    """One subject for each box: its phrase is the box's ``desc``, its picture the one at the same place of the batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What ComfyUI shows."""
        return io.Schema(
            node_id="MsdSubjectsInBoxes",
            display_name="Subjects in boxes",
            category="image/generation",
            description="Your own subjects, each in its box, in one picture: asks a running ms-diffusion-service.",
            inputs=[
                io.String.Input("prompt", multiline=True),
                io.BoundingBoxes.Input("boxes", socketless=False, tooltip="desc: the words that name the subject."),
                io.Image.Input("pictures", tooltip="One for each box, in the same order."),
                io.Int.Input("width", default=1024, min=8, max=16384, step=8, tooltip="Of the boxes' canvas, too."),
                io.Int.Input("height", default=1024, min=8, max=16384, step=8),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True),
                io.String.Input("negative_prompt", default="", multiline=True, optional=True),
                io.String.Input("preset", default="", optional=True, tooltip="Such as fast; empty for none."),
                io.Int.Input("steps", default=0, min=0, max=1000, optional=True, tooltip="0: as the model has it."),
                io.String.Input("url", default=DEFAULT_URL, optional=True),
                io.String.Input("api_key", default="", optional=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(  # noqa: PLR0913 - each argument is an input of the node
        cls,
        prompt: str,
        boxes: Sequence[Mapping[str, Any]],
        pictures: torch.Tensor,
        width: int,
        height: int,
        seed: int,
        negative_prompt: str = "",
        preset: str = "",
        steps: int = 0,
        url: str = DEFAULT_URL,
        api_key: str = "",
    ) -> io.NodeOutput:
        """Make the picture; ComfyUI's cancel button cancels the job.

        Args:
            pictures: batch x height x width x 3 or 4, from 0 to 1.

        Raises:
            MsdError: the service cannot make it.
            ValueError: boxes and pictures do not fit each other.
        """
        subjects = subjects_of(boxes, pictures, width, height)
        # What is left empty is the service's choice.
        chosen = {"negative_prompt": negative_prompt, "preset": preset, "num_inference_steps": steps}
        options = {name: value for name, value in chosen.items() if value}
        with Client(url, api_key or None) as client:
            result = client.generate(
                prompt, subjects, width=width, height=height, seed=seed, on_progress=_reporter(), **options
            )
        return io.NodeOutput(batch_of(result))


def subjects_of(boxes: Sequence[Mapping[str, Any]], pictures: torch.Tensor, width: int, height: int) -> list[Subject]:
    """Pair each box with its picture.

    Raises:
        ValueError: there are not as many, or a box has no words or no area.
    """
    if len(boxes) != len(pictures):
        raise ValueError(
            f"There are {len(boxes)} boxes and {len(pictures)} pictures; each box needs one picture, in the same order."
        )
    return [
        Subject(_phrase(box, number), _picture(picture), box=from_comfyui(box, width, height))
        for number, (box, picture) in enumerate(zip(boxes, pictures, strict=True), 1)
    ]


def batch_of(result: Result) -> torch.Tensor:
    """The pictures as ComfyUI has them: batch x height x width x 3, from 0 to 1."""
    arrays = [np.asarray(image.convert("RGB"), np.float32) / 255 for image in result.images]
    return torch.from_numpy(np.stack(arrays))


def _phrase(box: Mapping[str, Any], number: int) -> str:
    phrase = str((box.get("metadata") or {}).get("desc") or "").strip()
    if not phrase:
        raise ValueError(f"Box {number} has no description; write there the words that name its subject.")
    return phrase


def _picture(pixels: torch.Tensor) -> Image.Image:
    numbers = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(numbers.cpu().numpy())


def _reporter() -> Any:
    bar = comfy.utils.ProgressBar(100)

    def report(job: Job) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(round(100 * job.fraction))

    return report


class MsdExtension(ComfyExtension):
    """What this folder adds to ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The one node."""
        return [SubjectsInBoxes]
