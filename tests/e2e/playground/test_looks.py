"""The page on windows of several sizes, in the dark, and without a network."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, open_playground

TABS = ("Options", "Code", "Subjects")


def visit_all(playground: Playground) -> None:
    """Look at each part of the page, before and after a picture was made."""
    playground.visit()
    playground.check_accessibility()
    playground.check_width()
    for tab in TABS:
        playground.tab(tab).click()
        playground.check_accessibility()
        playground.check_width()
    playground.card("tomato").get_by_role("textbox").first.click()
    expect(playground.button("Paint its shape instead")).to_be_visible()
    playground.check_accessibility()
    playground.check_width()
    playground.set_steps(2)
    playground.make()
    playground.check_accessibility()
    playground.check_width()


def test_in_the_dark(browser: Browser, service: HttpService) -> None:
    with open_playground(browser, service, color_scheme="dark") as playground:
        visit_all(playground)
        brightness = "element => getComputedStyle(element).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        assert max(playground.page.locator("body").evaluate(brightness)) < 64


def test_on_a_phone(browser: Browser, service: HttpService) -> None:
    with open_playground(browser, service, viewport={"width": 360, "height": 740}, has_touch=True) as playground:
        visit_all(playground)


@pytest.mark.parametrize("width", [768, 2560])
def test_nothing_sticks_out(browser: Browser, service: HttpService, width: int) -> None:
    with open_playground(browser, service, viewport={"width": width, "height": 1000}) as playground:
        playground.visit(ready=False)
        playground.check_width()
        stage = playground.stage.bounding_box()
        assert stage is not None
        assert stage["width"] > 400
        # The button can be seen without scrolling.
        expect(playground.make_button).to_be_in_viewport(ratio=1)


def test_what_a_screen_reader_hears_of_the_stage(playground: Playground) -> None:
    playground.visit(ready=False)
    expect(playground.stage).to_match_aria_snapshot(
        """
        - group "Picture with its boxes":
          - button "tomato, 40 percent wide, 40 percent tall, 5 percent from the left, 34 percent from the top"
          - button "leafy green, 40 percent wide, 40 percent tall, 55 percent from the left, 34 percent from the top"
        """
    )
    box = playground.box("tomato")
    box.focus()
    expect(box).to_have_accessible_description(re.compile("^Arrow keys move it"))
    expect(playground.stage).to_match_aria_snapshot(
        """
        - group "Picture with its boxes":
          - button /^tomato, 40 percent wide/ [pressed]
          - button "top left corner of tomato"
          - button "top edge of tomato"
          - button "top right corner of tomato"
          - button "right edge of tomato"
          - button "bottom right corner of tomato"
          - button "bottom edge of tomato"
          - button "bottom left corner of tomato"
          - button "left edge of tomato"
          - button /^leafy green, 40 percent wide/
        """
    )
    # What changes is said.
    said = playground.page.locator("[aria-live=polite]").filter(has_text="percent wide")
    box.press("ArrowRight")
    box.press("Alt+ArrowUp")
    expect(said).to_have_text(
        "tomato, 40 percent wide, 39 percent tall, 6 percent from the left, 34 percent from the top"
    )


def test_the_documentation_needs_no_network_either(playground: Playground) -> None:
    playground.visit(ready=False)
    playground.page.get_by_role("link", name="API").click()
    expect(playground.page.get_by_text("/generate", exact=True).first).to_be_visible()
