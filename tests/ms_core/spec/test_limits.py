"""How little and how much a field may hold, and that what is beyond is said of the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.spec import AutoLayout, Box, Control, GenerationSpec, Lora, StartPicture, Subject
from tests.support.value_ranges import SPEC_RANGES, CountRange, ValueRange

PICTURE = Image.new("RGB", (4, 4))
CAT = Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0))
LORA = Lora("paper")
CONTROL = Control("canny", PICTURE)
OWNERS: dict[str, Any] = {
    "": GenerationSpec("a cat", (CAT,), score=True),
    "/layout": AutoLayout(),
    "/subjects/0": CAT,
    "/loras/0": LORA,
    "/controls/0": CONTROL,
    "/start": StartPicture(PICTURE),
}
ITEMS: dict[str, Any] = {"/subjects": CAT, "/subjects/0/images": PICTURE, "/loras": LORA, "/controls": CONTROL}

each_range = pytest.mark.parametrize(
    "ranged", [pytest.param(ranged, id=f"{ranged.pointer} {ranged.says}") for ranged in SPEC_RANGES]
)


def setter(ranged: ValueRange) -> tuple[str, Callable[[Any], Any]]:
    """The attribute's name, and what makes a spec, or a part of one, with a value of it."""
    # A subject takes its pictures as `image`, be they one or several.
    name = "image" if ranged.field == "images" else ranged.field
    return name, lambda value: replace(OWNERS[ranged.parent], **{name: value})


def value_of(ranged: ValueRange, value: Any) -> Any:
    return (ITEMS[ranged.pointer],) * value if isinstance(ranged, CountRange) else value


@each_range
def test_what_is_at_the_edge_is_taken(ranged: ValueRange) -> None:
    name, make = setter(ranged)
    for value in ranged.good:
        assert getattr(make(value_of(ranged, value)), name) == value_of(ranged, value)


@each_range
def test_limits_name_their_field(ranged: ValueRange) -> None:
    name, make = setter(ranged)
    for value in ranged.bad:
        with pytest.raises(InvalidInputError) as caught:
            make(value_of(ranged, value))
        assert ranged.is_said_by(caught.value.detail)
        assert caught.value.pointer == f"/{name}"


@pytest.mark.parametrize(("field", "value"), [("seed", math.nan), ("prompt", "\ud800")])
def test_what_no_client_can_send_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        replace(OWNERS[""], **{field: value})
    assert caught.value.pointer == f"/{field}"
