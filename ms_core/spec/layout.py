"""Where subjects stand: boxes, and the auto layout that finds their places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from ms_core.errors import LayoutError
from ms_core.spec.declared import Declared, declared, gathered_by_pydantic
from ms_core.spec.fields import Integer, in_range
from ms_core.spec.limits import MAX_STEPS

# Of the picture's side: what rounding in float32 may move an edge across the frame; such an edge lies on it.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Box:
    """Where a subject stands: normalised xyxy in [0, 1], origin top left.

    Edges that miss the frame by no more than ``ROUNDING`` are put onto it.

    Raises:
        LayoutError: a coordinate is not finite or outside [0, 1], or the box is reversed or has no area.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        for name in ("x_min", "y_min", "x_max", "y_max"):
            object.__setattr__(self, name, _onto_the_frame(getattr(self, name)))
        values = self.as_tuple()
        if not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values):
            raise LayoutError(
                f"A box is [x_min, y_min, x_max, y_max] with every number from 0 to 1, not {list(values)}. "
                'Give pixels as {"pixels": [...]}.'
            )
        if self.x_min >= self.x_max or self.y_min >= self.y_max:
            sentence = f"The box {list(values)} has no area: x_min must be below x_max and y_min below y_max"
            edges = zip("xy", values[:2], values[2:], strict=True)
            exchanged = [f"{axis}_min and {axis}_max" for axis, low, high in edges if low > high]
            raise LayoutError(
                f"{sentence}; {', and '.join(exchanged)} look exchanged." if exchanged else f"{sentence}."
            )

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Self:
        """Box from its normalised top-left corner and its normalised size."""
        return cls(x, y, x + width, y + height)

    @classmethod
    def from_pixels(cls, pixel_box: Sequence[float], height: int, width: int) -> Self:
        """Box from xyxy pixels of a picture of ``height`` x ``width`` pixels."""
        x_min, y_min, x_max, y_max = pixel_box
        xs, ys = (x_min / width, x_max / width), (y_min / height, y_max / height)
        if not all(-ROUNDING <= value <= 1.0 + ROUNDING for value in (*xs, *ys)):
            raise LayoutError(
                f"The pixel box {list(pixel_box)} reaches outside the picture of {width} x {height} pixels."
            )
        return cls(xs[0], ys[0], xs[1], ys[1])

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The four numbers, normalised xyxy."""
        return (self.x_min, self.y_min, self.x_max, self.y_max)


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box in pixels of the result, xyxy; ``ms_core.spec.resolve`` settles it when the result's size is known."""

    values: tuple[float, float, float, float]

    def within(self, height: int, width: int) -> Box:
        """The same box, normalised, in a picture of ``height`` x ``width`` pixels.

        Raises:
            LayoutError: it reaches outside the picture, or has no area.
        """
        return Box.from_pixels(self.values, height, width)


def _onto_the_frame(value: float) -> float:
    near = min(max(value, 0.0), 1.0)
    return near if abs(value - near) <= ROUNDING else value


def _read_box(value: Any) -> Box | PixelBox | None:
    """A box of any form."""
    if value is None or isinstance(value, (Box, PixelBox)):
        return value
    with gathered_by_pydantic():
        if isinstance(value, (list, tuple)):
            return Box(*_four_numbers(cast("Any", value)))
        if hasattr(value, "tolist"):
            return Box(*_four_numbers(value.tolist()))
        if isinstance(value, dict):
            form = cast("dict[str, Any]", value)
            if form.keys() == {"xywh"}:
                return Box.from_xywh(*_four_numbers(form["xywh"]))
            if form.keys() == {"pixels"}:
                return PixelBox(_four_numbers(form["pixels"]))
        raise LayoutError(
            'A box is [x_min, y_min, x_max, y_max] with numbers from 0 to 1, or {"xywh": [...]}, or {"pixels": [...]}.'
        )


def _four_numbers(values: Any) -> tuple[float, float, float, float]:
    numbers = list(cast("Sequence[Any]", values)) if isinstance(values, (list, tuple)) else []
    # A bool is an int to Python, but no coordinate.
    if len(numbers) != 4 or any(isinstance(n, bool) or not isinstance(n, Real) for n in numbers):
        raise LayoutError("A box has four numbers.")
    try:
        first, second, third, fourth = map(float, numbers)
    except OverflowError as error:
        raise LayoutError("A number of the box is too large.") from error
    return (first, second, third, fourth)


def _box_values(box: Box | PixelBox | None) -> list[float] | dict[str, list[float]] | None:
    if isinstance(box, PixelBox):
        return {"pixels": list(box.values)}
    return None if box is None else list(box.as_tuple())


def _four_numbers_schema(description: str, **limits: float) -> dict[str, Any]:
    items = {"type": "number", **limits}
    return {"type": "array", "items": items, "minItems": 4, "maxItems": 4, "description": description}


def _object_schema(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: values}, "required": [name], "additionalProperties": False}


_BOX_SCHEMA = {
    "anyOf": [
        _four_numbers_schema("x_min, y_min, x_max, y_max; from 0 to 1, origin at the top left", minimum=0, maximum=1),
        _object_schema("xywh", _four_numbers_schema("x_min, y_min, width, height; from 0 to 1", minimum=0, maximum=1)),
        _object_schema("pixels", _four_numbers_schema("x_min, y_min, x_max, y_max in output pixels", minimum=0)),
        {"type": "null"},
    ]
}

BoxField = Annotated[
    Box | PixelBox | None, PlainValidator(_read_box), PlainSerializer(_box_values), WithJsonSchema(_BOX_SCHEMA)
]


@declared()
class AutoLayout(Declared):
    """Let the model place the subjects, guided by the prompt."""

    threshold: Annotated[
        float,
        in_range(0, 1),
        Field(description="How strongly a part of the picture must attend to a phrase to belong to its subject."),
    ] = 0.5
    start_step: Annotated[
        Integer,
        in_range(1, MAX_STEPS),
        Field(description="The step, counted from 1, from which the places found are used."),
    ] = 5
    mode: Literal["auto"] = "auto"
