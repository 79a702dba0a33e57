"""From the first visit to a picture, of the bundled subjects and of one's own."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, Sides, made_of
from tests.e2e.playground.subjects import own_picture

TOMATO = "tomato, 40 percent wide, 40 percent tall, 5 percent from the left, 34 percent from the top"
LEAFY_GREEN = "leafy green, 40 percent wide, 40 percent tall, 55 percent from the left, 34 percent from the top"

MOST_SCRIPT_BYTES = 60_000


def test_from_the_first_visit_to_a_picture(playground: Playground, service: HttpService) -> None:
    playground.visit()
    assert playground.heard() == [TOMATO, LEAFY_GREEN]
    playground.check_accessibility()
    playground.make()
    playground.check_accessibility()
    recipe = made_of(service)
    assert [subject["phrase"] for subject in recipe["request"]["subjects"]] == ["tomato", "leafy green"]
    expect(playground.button(re.compile(f"^Seed {recipe['seed']}"))).to_be_visible()


def test_the_first_view_needs_little(playground: Playground) -> None:
    """As it comes over the wire; what is needed later is loaded later."""
    playground.visit()
    loaded = playground.page.evaluate(
        "performance.getEntriesByType('resource').map(({ name, encodedBodySize }) => [name, encodedBodySize])"
    )
    scripts = {name: size for name, size in loaded if name.endswith(".js")}
    assert scripts
    assert sum(scripts.values()) <= MOST_SCRIPT_BYTES


def test_own_pictures_in_boxes_that_are_drawn(playground: Playground, service: HttpService) -> None:
    playground.visit()
    for phrase in ("tomato", "leafy green"):
        playground.button(f"Remove {phrase}").click()
    expect(playground.cards).to_have_count(0)
    playground.check_accessibility()
    playground.drag((0.04, 0.3), (0.44, 0.9))
    playground.drag((0.6, 0.2), (0.98, 0.6))
    expect(playground.cards).to_have_count(2)
    for phrase in ("taxi", "fox"):
        card = playground.card("unnamed").first
        playground.choose_files(card.get_by_role("button", name="Add a picture of unnamed"), own_picture(phrase))
        card.get_by_role("textbox").first.fill(phrase)
    playground.prompt.fill("a taxi and a fox in the snow")
    playground.check_accessibility()
    assert playground.sides("taxi") == pytest.approx(Sides(40, 60, 4, 30), abs=2)
    assert playground.sides("fox") == pytest.approx(Sides(38, 40, 60, 20), abs=2)
    playground.set_steps(2)
    playground.make()
    subjects = made_of(service)["request"]["subjects"]
    assert [subject["phrase"] for subject in subjects] == ["taxi", "fox"]
    assert subjects[0]["box"] == pytest.approx([0.04, 0.3, 0.44, 0.9], abs=0.02)
    assert subjects[1]["box"] == pytest.approx([0.6, 0.2, 0.98, 0.6], abs=0.02)
