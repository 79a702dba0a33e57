"""What a person edits on the stage, on cards and in the form, and how it is undone."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.playground.page import Playground, Sides
from tests.e2e.playground.subjects import own_picture

# The test of undo makes fewer.
MOST_EDITS = 20


def test_boxes_by_mouse(playground: Playground) -> None:
    playground.visit(ready=False)
    playground.drag((0.25, 0.5), (0.35, 0.7))
    assert playground.sides("tomato") == Sides(40, 40, 15, 54)
    # Its lower right corner.
    playground.drag((0.55, 0.94), (0.6, 0.94))
    assert playground.sides("tomato") == Sides(45, 40, 15, 54)
    # Near the border it snaps to it, and no further.
    playground.drag((0.35, 0.7), (0.21, 0.7))
    assert playground.sides("tomato").left == 0
    playground.drag((0.2, 0.7), (-0.4, 1.6))
    assert playground.sides("tomato") == Sides(45, 40, 0, 60)
    playground.page.keyboard.press("Delete")
    assert [name.partition(",")[0] for name in playground.heard()] == ["leafy green"]
    # Whoever has no mouse goes on from there.
    expect(playground.box("leafy green")).to_be_focused()


def test_an_error_stands_at_its_field(playground: Playground) -> None:
    playground.visit()
    playground.box("tomato").press("Delete")
    playground.make_button.click()
    expect(playground.card("tomato").get_by_role("alert")).to_contain_text("has no box")
    expect(playground.page.get_by_role("alert")).to_have_count(1)
    playground.check_accessibility()
    playground.card("tomato").get_by_role("button", name="Place it").click()
    expect(playground.page.get_by_role("alert")).to_have_count(0)


def test_boxes_behind_each_other(playground: Playground) -> None:
    """A click on the chosen box chooses the one behind it; with Shift a new one is drawn over both."""
    playground.visit(ready=False)
    playground.drag((0.75, 0.5), (0.3, 0.55))
    place = playground.point(0.3, 0.55)
    chosen = playground.stage.get_by_role("button", pressed=True)
    expect(chosen).to_have_accessible_name(re.compile("^leafy green"))
    playground.page.mouse.click(*place)
    expect(chosen).to_have_accessible_name(re.compile("^tomato"))
    playground.page.mouse.click(*place)
    expect(chosen).to_have_accessible_name(re.compile("^leafy green"))
    playground.page.keyboard.down("Shift")
    playground.drag((0.25, 0.5), (0.4, 0.65))
    playground.page.keyboard.up("Shift")
    assert len(playground.heard()) == 3


def test_undo_and_redo_of_every_edit(playground: Playground) -> None:
    playground.visit()
    states: list[tuple[str, list[str], int]] = []

    def state() -> tuple[str, list[str], int]:
        return playground.prompt.input_value(), playground.heard(), playground.cards.count()

    def drag() -> None:
        playground.drag((0.25, 0.5), (0.31, 0.41))

    def name() -> None:
        playground.card("tomato").get_by_role("textbox").first.fill("red thing")

    def prompt() -> None:
        playground.prompt.fill("a red thing and a leafy green in the desert")

    def remove() -> None:
        playground.button("Remove leafy green").click()

    def add() -> None:
        playground.add_subjects(own_picture("fox"))
        # Its picture is one more edit: of what stands here it changes nothing, but it has to be there.
        expect(playground.card("fox").get_by_role("img", name="Picture of fox")).to_be_visible()

    for edit in (drag, name, prompt, remove, add):
        states.append(state())
        edit()
    last = state()
    assert len({str(one) for one in [*states, last]}) == len(states) + 1
    undo, redo = playground.button("Undo"), playground.button("Redo")
    expect(redo).to_be_disabled()
    seen = [last]
    while undo.is_enabled():
        undo.click()
        seen.append(state())
        assert len(seen) < MOST_EDITS
    assert [one for number, one in enumerate(seen[1:]) if one != seen[number]] == states[::-1]
    expect(undo).to_be_disabled()
    playground.page.mouse.click(*playground.point(0.5, 0.02))
    for _ in seen[1:]:
        expect(redo).to_be_enabled()
        playground.page.keyboard.press("Control+Shift+Z")
    expect(redo).to_be_disabled()
    assert state() == last


def test_an_empty_page_for_ones_own_pictures(playground: Playground) -> None:
    playground.visit(ready=False)
    playground.page.get_by_label("Examples").select_option("Empty, for your own")
    assert playground.heard() == []
    expect(playground.make_button).to_be_disabled()
    playground.check_accessibility()
    playground.page.get_by_role("button", name="Undo").click()
    assert [name.partition(",")[0] for name in playground.heard()] == ["tomato", "leafy green"]
