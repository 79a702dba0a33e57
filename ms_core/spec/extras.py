"""What else a request may bring: LoRAs, ControlNets, and a picture to start from."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec.declared import Declared, collected, declared
from ms_core.spec.fields import Integer, LoraName, Part, count, file_name, in_range, strength_of_start
from ms_core.spec.limits import MAX_CONTROL_SCALE, MAX_LORA_WEIGHT, MAX_SUBJECTS, check_times
from ms_core.spec.pictures import ExactPicture, Picture


@declared()
class Lora(Declared):
    """A LoRA that acts on this picture only."""

    name: Annotated[LoraName, Field(description="Name, as listed by `GET /models`.")]
    weight: Annotated[
        float,
        in_range(-MAX_LORA_WEIGHT, MAX_LORA_WEIGHT),
        Field(description="Strength; 0 turns the LoRA off, a negative value reverses its effect."),
    ] = 1.0


@declared()
class Control(Declared):
    """A ControlNet that follows a picture of edges, depth or a pose. It sees the prompt, not the subjects."""

    name: Annotated[str, file_name(), Field(description="Name, as listed by `GET /models`, such as `canny`.")]
    image: Annotated[
        ExactPicture,
        Field(
            description="The picture to follow, sent like a subject's `image`; it must have exactly the size of "
            "the result."
        ),
    ]
    scale: Annotated[
        float, in_range(0, MAX_CONTROL_SCALE), Field(description="Strength; 0 turns the ControlNet off.")
    ] = 1.0
    start: Annotated[Part, Field(description="When it starts to act, as a fraction of the denoising.")] = 0.0
    end: Annotated[Part, Field(description="When it stops acting; must be above `start`.")] = 1.0

    def conflicts(self) -> list[InvalidInputError]:
        """An end that is not above the start."""
        errors: list[InvalidInputError] = []
        with collected(errors):
            check_times(self.start, self.end)
        return errors

    def size_error(self, height: int, width: int) -> PictureError | None:
        """What is wrong with its picture for a result of this size, in pixels; it must be as large."""
        own_width, own_height = self.image.size
        if (own_width, own_height) == (width, height):
            return None
        return PictureError(
            f"The control picture has {own_width} x {own_height} pixels, but the result has {width} x {height}; "
            "resize the picture, or request its size.",
            "/image",
        )


@declared()
class StartPicture(Declared):
    """A picture to start from instead of pure noise."""

    image: Annotated[
        Picture, Field(description="Sent like a subject's `image`; it is stretched to the size of the result.")
    ]
    strength: Annotated[
        float, strength_of_start(), Field(description="How much of it may change: above 0, up to 1 for everything.")
    ] = 0.7
    redraw: Annotated[
        # Whether the request has such a subject is seen when it is whole.
        tuple[Annotated[Integer, Field(json_schema_extra={"minimum": 0, "maximum": MAX_SUBJECTS - 1})], ...],
        count(0, MAX_SUBJECTS, "subjects to redraw"),
        Field(
            strict=False,
            description="Indexes of the subjects to redraw, counted from 0; the rest of the picture stays. If empty, "
            "the whole picture may change.",
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
                f"With {num_inference_steps} steps, a strength of {self.strength:g} leaves no steps to run; use at "
                f"least {least:g}, or more steps.",
                "/strength",
            )
        return kept
