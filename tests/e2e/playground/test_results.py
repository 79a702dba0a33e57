"""Pictures that were made: side by side, compared, and what is made of them."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, made_of


def test_one_subject_is_drawn_again_and_compared(playground: Playground, service: HttpService) -> None:
    page = playground.page
    playground.visit()
    playground.tab("Options").click()
    page.get_by_label("Score the subjects").check()
    # One step is not enough for the leafy green of this seed.
    for name in ("Steps", "Seed"):
        page.get_by_role("spinbutton", name=name).fill("1")
        page.get_by_role("spinbutton", name=name).press("Tab")
    playground.make()
    scores = page.get_by_role("list", name="Subjects").get_by_role("listitem")
    expect(scores).to_have_text([re.compile(r"^tomato \d+ %"), re.compile(r"^leafy green \d+ %")])
    weakest = min(scores_of(service), key=lambda score: min(score["present"], score["identity"]))["subject"]
    expect(scores.filter(has_text="weakest")).to_have_text(re.compile(f"^{('tomato', 'leafy green')[weakest]} "))
    playground.check_accessibility()

    playground.button("Redraw leafy green").click()
    playground.wait_for_picture(2)
    assert made_of(service)["request"]["start"]["redraw"] == [1]

    playground.button("Compare").click()
    slider = page.get_by_role("slider", name="Where the left picture ends")
    slider.press("Home")
    right = middle_of_box(page)
    slider.press("End")
    assert middle_of_box(page) != right
    slider.press("ArrowLeft")
    expect(slider).to_have_value("99")
    playground.check_accessibility()

    page.get_by_role("button", name="All", exact=True).click()
    side_by_side = page.get_by_role("list", name="Pictures made before, side by side")
    expect(side_by_side.get_by_role("button")).to_have_count(2)
    playground.check_accessibility()
    playground.button(re.compile("^Empty")).click()
    expect(playground.history).to_have_count(0)
    playground.button("Bring back").click()
    expect(playground.history).to_have_count(2)
    expect(playground.button("Bring back")).to_have_count(0)
    page.reload()
    expect(playground.history).to_have_count(2)
    playground.button(re.compile("^Empty")).click()
    expect(playground.history).to_have_count(0)
    expect(playground.stage).to_be_focused()
    page.reload()
    expect(playground.make_button).to_be_enabled()
    expect(playground.history).to_have_count(0)


def scores_of(service: HttpService) -> list[dict[str, Any]]:
    """Of the newest job's first picture."""
    (job,) = service.client.get("/jobs", params={"limit": 1}).json()["jobs"]
    return job["images"][0]["score"]["subjects"]


def middle_of_box(page: Page) -> bytes:
    """What is shown where the leafy green is, away from the slider's ends."""
    stage = page.get_by_role("group", name="Two pictures", exact=True).bounding_box()
    assert stage is not None
    side = 0.2 * stage["width"]
    left, top = stage["x"] + 0.65 * stage["width"], stage["y"] + 0.44 * stage["height"]
    return page.screenshot(clip={"x": left, "y": top, "width": side, "height": side})


def test_same_seed_with_one_thing_changed(playground: Playground, service: HttpService) -> None:
    playground.visit()
    playground.make()
    first = made_of(service)["request"]
    playground.button("Same seed, to change one thing").click()
    playground.button("in the snow").click()
    playground.make_button.click()
    playground.wait_for_picture(2)
    second = made_of(service)["request"]
    assert second["seed"] == first["seed"]
    assert second["prompt"] == first["prompt"].replace("on the beach", "in the snow")
    playground.tab("Options").click()
    seed = playground.page.get_by_role("spinbutton", name="Seed")
    expect(seed).to_have_value(str(first["seed"]))
    playground.button("Random").click()
    expect(seed).to_have_value("")
    expect(seed).to_be_focused()


def test_a_picture_becomes_a_reference(playground: Playground) -> None:
    playground.visit()
    playground.make()
    playground.button("Use this picture as a reference").click()
    expect(playground.cards).to_have_count(3)
    expect(playground.card("unnamed").get_by_role("img", name="Picture of unnamed")).to_be_visible()
