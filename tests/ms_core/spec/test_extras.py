"""LoRAs, ControlNets, presets and start pictures as a spec takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.spec import AutoLayout, Box, Control, GenerationSpec, Lora, StartPicture, Subject
from ms_core.spec.limits import check_file_name

PICTURE = Image.new("RGB", (4, 4))
CAT = Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0))
SPEC = GenerationSpec("a cat", (CAT,))
CONTROL = Control("canny", PICTURE)


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: Lora("  "), "/name"),
        (lambda: Lora("x" * 201), "/name"),
        (lambda: replace(CONTROL, name=""), "/name"),
        (lambda: replace(CONTROL, name="../canny"), "/name"),
        (lambda: replace(CONTROL, start=0.5, end=0.5), "/end"),
        (lambda: replace(SPEC, preset=" "), "/preset"),
        (lambda: replace(SPEC, timestep_spacing="wide"), "/timestep_spacing"),
        (lambda: replace(SPEC, start=StartPicture(PICTURE, redraw=(1,))), "/start/redraw"),
        (lambda: replace(SPEC, start=StartPicture(PICTURE, redraw=(0, -1))), "/start/redraw"),
        (lambda: replace(SPEC, retries=1), "/retries"),
        (lambda: replace(SPEC, score=True, layout=AutoLayout()), "/score"),
    ],
)
def test_what_cannot_be_used_is_named(make: Any, pointer: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert caught.value.pointer == pointer


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_strength_is_above_zero_and_at_most_one(strength: float) -> None:
    if 0.0 < strength <= 1.0:
        assert StartPicture(PICTURE, strength).strength == strength
    else:
        with pytest.raises(InvalidInputError, match="above 0 and at most 1"):
            StartPicture(PICTURE, strength)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "a/b",
        "..",
        ".hidden",
        "a\\b",
        "C:x",
        "https://example.com/a",
        "a\nb",
        " a",
        "\x01a",
        "a.safetensors",
        "x" * 201,
    ],
)
def test_a_path_or_an_address_is_no_name(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_file_name(name, "/loras/0/name")
    assert caught.value.pointer == "/loras/0/name"


@pytest.mark.parametrize("name", ["paper", "my style (v2)", "LCM-LoRA_sdxl.v1", "水墨", "a..b", "x" * 200])
def test_what_a_file_can_be_called_is_a_name(name: str) -> None:
    check_file_name(name, "/name")


def test_lists_become_tuples() -> None:
    spec = replace(SPEC, loras=[Lora("paper")], controls=[CONTROL])  # pyright: ignore[reportArgumentType]
    assert spec.loras == (Lora("paper"),)
    assert spec.controls == (CONTROL,)
