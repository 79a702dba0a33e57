"""What else a request may bring: LoRAs, ControlNets, and a picture to start from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec.limits import MAX_CONTROL_SCALE, MAX_LORA_WEIGHT, check_file_name, check_name, check_range

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA and how strongly it acts.

    Attributes:
        name: of a file in the model's ``loras`` folder, without its ending; for callers of ``ms_core`` also the path
            of a ``.safetensors`` file.
        weight: 0 switches it off; negative ones turn its effect around.
    """

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_name(self.name, "/name")
        check_range(self.weight, -MAX_LORA_WEIGHT, MAX_LORA_WEIGHT, "/weight")


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet, the picture that it follows, and how strongly.

    Attributes:
        name: of a folder in the model's ``controlnets`` folder, such as ``canny``.
        image: edges, depth or pose, in the size of the result.
        scale: strength.
        start, end: the part of the denoising in which it acts, 0 to 1.
    """

    name: str
    image: Image.Image
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_file_name(self.name, "/name")
        check_range(self.scale, 0.0, MAX_CONTROL_SCALE, "/scale")
        check_range(self.start, 0.0, 1.0, "/start")
        check_range(self.end, 0.0, 1.0, "/end")
        check_end(self.end, self.start, "/end")


@dataclass(frozen=True, slots=True)
class StartPicture:
    """A picture to start from instead of pure noise.

    Attributes:
        image: stretched to the size of the result.
        strength: how much of it may change: above 0, and 1 for everything.
        redraw: positions of the subjects whose places alone are drawn anew; empty for the whole picture.
    """

    image: Image.Image
    strength: float = 0.7
    redraw: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "redraw", tuple(dict.fromkeys(self.redraw)))
        check_strength(self.strength, "/strength")

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
                "/start/strength",
            )
        return kept


def check_control_size(size: tuple[int, int], height: int, width: int, pointer: str) -> None:
    """Raise ``PictureError`` unless a control picture of ``size`` (width, height) is as large as the result."""
    if size != (width, height):
        raise PictureError(
            f"The control picture has {size[0]} x {size[1]} pixels and the result {width} x {height}; "
            "they must be the same, so resize the picture or ask for its size.",
            pointer,
        )


def check_end(end: float, start: float, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``end`` is above ``start``."""
    if start >= end:
        raise InvalidInputError(f"The end must be above the start, which is {start}.", pointer)


def check_strength(value: float, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``value`` is above 0 and at most 1."""
    if not 0.0 < value <= 1.0:
        raise InvalidInputError(f"Must be above 0 and at most 1, not {value!r}.", pointer)
