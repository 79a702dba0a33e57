"""A painted shape in place of a box."""

from __future__ import annotations

import io
import re
from typing import Any

from PIL import Image
from playwright.sync_api import expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, made_of

# The id of an asset is the beginning of its hash.
ID_LENGTH = 32
PAINTED = re.compile("^tomato, .*, painted$")


def test_a_shape_is_painted_with_the_mouse(playground: Playground, service: HttpService) -> None:
    loaded: list[str] = []
    playground.page.on("request", lambda request: loaded.append(request.url))
    playground.visit()
    assert not any("painter" in url for url in loaded)
    playground.box("tomato").focus()
    playground.button("Paint its shape instead").click()
    playground.drag((0.2, 0.5), (0.3, 0.6))
    playground.drag((0.8, 0.8), (0.9, 0.9))
    playground.check_accessibility()
    # Of the strokes, not of the request.
    playground.page.keyboard.press("Control+Z")
    playground.button("Use this shape").click()
    expect(playground.box("tomato")).to_have_accessible_name(PAINTED)
    assert playground.sides("tomato") == (22, 22, 14, 44)

    playground.make()
    tomato = made_of(service)["request"]["subjects"][0]
    mask = mask_of(service, tomato)
    assert mask.getpixel(place(mask, 0.25, 0.55)) == 255
    assert mask.getpixel(place(mask, 0.85, 0.85)) == 0
    assert tomato.get("box") is None
    playground.button("Layout").click()
    playground.button("Undo").click()
    expect(playground.box("tomato")).not_to_have_accessible_name(PAINTED)
    assert playground.sides("tomato") == (40, 40, 5, 34)


def mask_of(service: HttpService, subject: dict[str, Any]) -> Image.Image:
    """As the service has it."""
    asset = subject["mask"].removeprefix("sha256:")[:ID_LENGTH]
    return Image.open(io.BytesIO(service.client.get(f"/assets/{asset}/picture").content)).convert("L")


def place(picture: Image.Image, x: float, y: float) -> tuple[int, int]:
    """In pixels, of fractions of the picture."""
    return round(x * picture.width), round(y * picture.height)


def test_a_shape_is_painted_by_keys(playground: Playground) -> None:
    playground.visit(ready=False)
    playground.box("tomato").focus()
    playground.button("Paint its shape instead").press("Enter")
    painter = playground.page.get_by_role("application", name="Shape of tomato")
    expect(painter).to_be_focused()
    for key in ("Space", "ArrowRight", "Shift+ArrowRight", "Space", "Enter"):
        painter.press(key)
    expect(playground.box("tomato")).to_have_accessible_name(PAINTED)
    expect(playground.box("tomato")).to_be_focused()
    assert playground.sides("tomato") == (22, 12, 44, 44)
