"""What else a request may bring: LoRAs, ControlNets, and a picture to start from."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec.declared import Declared, declared
from ms_core.spec.fields import LoraName, count, file_name, in_range, strength_of_start
from ms_core.spec.limits import MAX_CONTROL_SCALE, MAX_LORA_WEIGHT, MAX_SUBJECTS
from ms_core.spec.pictures import Picture, WholePicture, upright_size

Part = Annotated[float, in_range(0, 1)]


@declared()
class Lora(Declared):
    """A LoRA that acts on this picture only."""

    name: Annotated[LoraName, Field(description="As `GET /models` lists it.")]
    weight: Annotated[
        float,
        in_range(-MAX_LORA_WEIGHT, MAX_LORA_WEIGHT),
        Field(description="How strongly it acts; 0 switches it off, negative turns its effect around."),
    ] = 1.0


@declared()
class Control(Declared):
    """A ControlNet that follows a picture of edges, depth or a pose; it sees the prompt and never the subjects."""

    name: Annotated[str, file_name(), Field(description="As `GET /models` lists it, such as `canny`.")]
    image: Annotated[
        WholePicture,
        Field(description="What to follow: a picture as a subject's `image`, exactly as large as the result."),
    ]
    scale: Annotated[
        float, in_range(0, MAX_CONTROL_SCALE), Field(description="How strongly it acts; 0 switches it off.")
    ] = 1.0
    start: Annotated[Part, Field(description="Where in the denoising it begins to act, from 0 to 1.")] = 0.0
    end: Annotated[Part, Field(description="Where in the denoising it ceases to act; above `start`.")] = 1.0

    def conflicts(self) -> list[InvalidInputError]:
        """An end that is not above the start."""
        if self.start < self.end:
            return []
        return [InvalidInputError(f"The end must be above the start, which is {self.start}.", "/end")]

    def size_error(self, height: int, width: int) -> PictureError | None:
        """What is wrong with its picture for a result of this size, in pixels; it must be as large."""
        own_width, own_height = upright_size(self.image)
        if (own_width, own_height) == (width, height):
            return None
        return PictureError(
            f"The control picture has {own_width} x {own_height} pixels and the result {width} x {height}; "
            "they must be the same, so resize the picture or ask for its size.",
            "/image",
        )


@declared()
class StartPicture(Declared):
    """A picture to start from instead of pure noise."""

    image: Annotated[
        Picture, Field(description="A picture as a subject's `image`; stretched to the size of the result.")
    ]
    strength: Annotated[
        float, strength_of_start(), Field(description="How much of it may change: above 0, and 1 for everything.")
    ] = 0.7
    redraw: Annotated[
        tuple[int, ...],
        count(0, MAX_SUBJECTS, "subjects to redraw"),
        Field(
            strict=False,
            description="Positions of the subjects, counted from 0, whose places alone are drawn anew; empty for the "
            "whole picture.",
        ),
    ] = ()

    def num_kept_steps(self, num_inference_steps: int) -> int:
        """How many of a picture's steps are done: the last ones, as many as the strength says.

        Raises:
            InvalidInputError: none is left.
        """
        kept = min(int(num_inference_steps * self.strength), num_inference_steps)
        if kept == 0:
            least = math.ceil(100 / num_inference_steps) / 100
            raise InvalidInputError(
                f"With {num_inference_steps} steps a strength of {self.strength:g} leaves none to do; "
                f"take at least {least:g}, or more steps.",
                "/strength",
            )
        return kept
