"""From the first visit to a picture without a mouse, without a keyboard, and without dragging."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Locator, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, Sides, made_of, open_playground
from tests.e2e.playground.subjects import own_picture

TABLET = {"viewport": {"width": 820, "height": 1180}, "has_touch": True}


def boxes_of(service: HttpService) -> dict[str, list[float]]:
    """Boxes of the newest job, by phrase."""
    return {subject["phrase"]: subject["box"] for subject in made_of(service)["request"]["subjects"]}


def test_keyboard_only(playground: Playground, service: HttpService) -> None:
    keyboard = playground.page.keyboard
    playground.visit()
    for phrase in ("tomato", "leafy green"):
        press_key(playground, playground.button(f"Remove {phrase}"), "Enter")
    with playground.page.expect_file_chooser() as chooser:
        press_key(playground, playground.button("Add a subject"), "Enter")
    chooser.value.set_files([own_picture("taxi"), own_picture("fox")])
    expect(playground.box("fox")).to_be_visible()

    before = playground.sides("taxi")
    press_key(playground, playground.box("taxi"), "ArrowRight", "Shift+ArrowDown", "Alt+ArrowUp")
    width, height, left, top = before
    assert playground.sides("taxi") == (width, height - 1, left + 1, top + 5)
    press_key(playground, playground.box("fox"), "l")
    locked = playground.sides("fox")
    keyboard.press("ArrowDown")
    assert playground.sides("fox") == locked
    assert playground.heard()[1].endswith(", locked")
    keyboard.press("l")
    playground.check_accessibility()

    playground.tab_to(playground.prompt)
    keyboard.press("Control+A")
    keyboard.type("a taxi and a fox in the snow")
    keyboard.press("Enter")
    playground.wait_for_picture()
    taxi = boxes_of(service)["taxi"]
    assert [round(100 * side) for side in taxi] == [left + 1, top + 5, left + 1 + width, top + 5 + height - 1]


def press_key(playground: Playground, target: Locator, *keys: str) -> None:
    playground.tab_to(target)
    for key in keys:
        playground.page.keyboard.press(key)


def test_with_a_finger(browser: Browser, service: HttpService) -> None:
    with open_playground(browser, service, **TABLET) as playground:
        finger = Finger(playground)
        playground.visit()
        finger.drag((0.2, 0.5), (0.3, 0.75))
        assert playground.sides("tomato") == Sides(40, 40, 15, 59)
        corner = playground.button("bottom right corner of tomato").bounding_box()
        assert corner is not None
        # Large enough for a finger: WCAG 2.2, 2.5.8.
        assert min(corner["width"], corner["height"]) >= 24
        finger.drag((0.55, 0.99), (0.45, 0.89))
        assert playground.sides("tomato") == Sides(30, 30, 15, 59)
        # On the free stage a finger scrolls.
        finger.drag((0.1, 0.1), (0.3, 0.3))
        assert len(playground.heard()) == 2
        playground.button(re.compile("^Draw a box")).tap()
        finger.drag((0.02, 0.02), (0.42, 0.32))
        assert playground.sides("unnamed") == Sides(40, 30, 2, 2)
        playground.choose_files(playground.button("Add a picture of unnamed"), own_picture("fox"))
        playground.card("unnamed").get_by_role("textbox").first.fill("fox")
        playground.prompt.fill("a tomato, a leafy green and a fox on the beach")
        playground.check_accessibility()
        playground.check_width()
        playground.set_steps(2)
        playground.make_button.tap()
        playground.wait_for_picture()
        assert boxes_of(service)["fox"] == [0.02, 0.02, 0.42, 0.32]


class Finger:
    """Drags on the stage; Playwright's own can only tap."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._tools = playground.page.context.new_cdp_session(playground.page)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 4) -> None:
        (x, y), (to_x, to_y) = start, end
        self._send("touchStart", start)
        for step in range(1, steps + 1):
            self._send("touchMove", (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps))
        self._send("touchEnd")

    def _send(self, kind: str, *places: tuple[float, float]) -> None:
        points = [dict(zip("xy", self._playground.point(*place), strict=True)) for place in places]
        self._tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_number_that_is_being_typed_is_not_lost(playground: Playground) -> None:
    playground.visit()
    card = playground.card("tomato")
    card.get_by_role("textbox").first.click()
    left, more = card.get_by_role("spinbutton", name="Left"), card.get_by_role("button", name="More: Left")
    left.fill("10")
    # Cards are drawn again, and nobody has left the field.
    playground.prompt.evaluate(
        "prompt => { prompt.value = 'a fox'; prompt.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    expect(playground.button("The prompt names tomato")).to_be_hidden()
    expect(left).to_have_value("10")
    left.press("Tab")
    assert playground.sides("tomato").left == 10
    more.click()
    expect(left).to_have_value("11")
    # Typed as it was, it is no change, and the field follows the steppers again.
    left.fill("11")
    left.press("Tab")
    more.click()
    expect(left).to_have_value("12")
    # What is too much is put right in the field, too, also a second time.
    for key in ("Enter", "Tab"):
        left.fill("250")
        left.press(key)
        expect(left).not_to_have_value("250")


def test_without_dragging(playground: Playground, service: HttpService) -> None:
    playground.visit()
    # Two corners.
    playground.button(re.compile("^Draw a box")).click()
    for corner in ((0.3, 0.06), (0.66, 0.3)):
        playground.page.mouse.click(*playground.point(*corner))
    playground.card("unnamed").get_by_role("textbox").first.fill("fox")
    playground.choose_files(playground.button("Add a picture of fox"), own_picture("fox"))
    # Numbers, with steppers.
    card = playground.card("tomato")
    card.get_by_role("textbox").first.click()
    for name, number in (("Left", "10"), ("Top", "50"), ("Width", "30"), ("Height", "42.5")):
        card.get_by_role("spinbutton", name=name).fill(number)
        card.get_by_role("spinbutton", name=name).press("Tab")
    for _ in range(3):
        card.get_by_role("button", name="More: Top").click()
    assert playground.sides("tomato") == Sides(30, 43, 10, 53)
    # Named places.
    card = playground.card("leafy green")
    card.get_by_role("textbox").first.click()
    card.get_by_role("combobox", name="Place of leafy green").select_option("Right third")
    assert playground.sides("leafy green") == Sides(33, 100, 67, 0)
    playground.prompt.fill("a tomato, a leafy green and a fox on the beach")
    playground.check_accessibility()
    playground.set_steps(2)
    playground.make()
    boxes = boxes_of(service)
    assert boxes["tomato"] == [0.1, 0.53, 0.4, 0.955]
    assert [round(side, 1) for side in boxes["fox"]] == [0.3, 0.1, 0.7, 0.3]
