"""Subjects from the cast and from pasted layouts, cut-outs, and what the prompt says of them."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, Sides, made_of
from tests.e2e.playground.subjects import own_picture

LAYOUT = {
    "high_level_description": "a red fox in the snow",
    "compositional_deconstruction": {
        "background": "snow",
        "elements": [
            {"type": "obj", "bbox": [100, 200, 500, 600], "desc": "A red fox, sitting"},
            {"type": "obj", "bbox": [400, 600, 900, 950], "desc": "an owl"},
        ],
    },
}


def test_cut_out_and_kept_in_the_cast(playground: Playground, service: HttpService) -> None:
    playground.visit()
    card = playground.card("tomato")
    card.get_by_role("textbox").first.click()
    card.get_by_role("checkbox", name="Cut it out").check()
    expect(card.get_by_role("img", name="tomato, cut out")).to_be_visible()
    card.get_by_role("button", name="Keep it in the cast").click()
    name = card.get_by_role("textbox", name="Its name in the cast")
    name.fill("red-one")
    name.press("Enter")
    expect(card.get_by_role("status")).to_have_text("Kept in the cast as red-one.")
    playground.button("Remove tomato").click()
    playground.button("Take one from the cast").click()
    playground.button("red-one tomato").click()
    expect(playground.card("tomato").get_by_role("img", name="Picture of tomato")).to_be_visible()
    expect(playground.card("tomato").get_by_role("checkbox", name="Cut it out")).to_be_checked()
    playground.check_accessibility()
    playground.make()
    subjects = made_of(service)["request"]["subjects"]
    assert {one["phrase"]: one["cutout"] for one in subjects} == {"leafy green": False, "tomato": True}
    playground.page.on("dialog", lambda dialog: dialog.accept())
    playground.button("Remove red-one from the cast").click()
    expect(playground.button("red-one tomato")).to_have_count(0)


def test_a_pasted_layout(playground: Playground) -> None:
    playground.visit()
    playground.paste(json.dumps(LAYOUT))
    assert playground.sides("red fox") == Sides(40, 40, 20, 10)
    assert playground.sides("owl") == Sides(35, 50, 60, 40)
    expect(playground.prompt).to_have_value("a red fox in the snow")
    # It says what the prompt names before there are pictures.
    expect(playground.button("The prompt names red fox")).to_be_visible()
    playground.button("Add owl to the prompt, which does not name it").click()
    expect(playground.prompt).to_have_value("a red fox and an owl in the snow")
    expect(playground.button("The prompt names owl")).to_be_visible()
    playground.make_button.click()
    # What is wrong leads to its field, which has the focus.
    add = playground.card("red fox").get_by_role("button", name="Add a picture of red fox")
    expect(add).to_be_focused()
    expect(playground.card("red fox").get_by_role("alert")).to_have_count(1)
    playground.check_accessibility()
    playground.choose_files(add, own_picture("fox"))
    playground.button("Remove owl").click()
    playground.paste(json.dumps([{"x": 0, "y": 512, "width": 512, "height": 512, "label": "red fox"}]))
    assert playground.sides("red fox") == Sides(50, 50, 0, 50)
    playground.make()
    playground.button("Layout").click()
    for _ in range(4):
        playground.button("Undo").click()
    assert playground.sides("red fox") == Sides(40, 40, 20, 10)


def test_own_pictures_one_after_the_other(playground: Playground) -> None:
    """Two stand side by side, as long as nobody has placed the first; more go where there is room."""
    playground.visit(ready=False)
    playground.page.get_by_role("combobox", name="Examples").select_option("Empty, for your own")
    playground.add_subjects(own_picture("fox"))
    assert playground.sides("fox") == Sides(40, 40, 30, 30)
    playground.add_subjects(own_picture("taxi"))
    assert playground.sides("fox") == Sides(40, 40, 5, 30)
    assert playground.sides("taxi") == Sides(40, 40, 55, 30)
    before = playground.heard()
    playground.add_subjects(own_picture("umbrella"))
    assert playground.heard()[:2] == before
    for _ in range(2):
        playground.button("Undo").click()
    assert playground.sides("fox") == Sides(40, 40, 30, 30)
    # What is locked stays.
    playground.button("Lock the box of fox").click()
    playground.add_subjects(own_picture("taxi"))
    assert playground.sides("fox") == Sides(40, 40, 30, 30)
    assert playground.sides("taxi").width == 27


def test_words_for_one_place(playground: Playground, service: HttpService) -> None:
    """Of a subject with a picture, and of one that has no picture."""
    playground.visit()
    words = playground.page.get_by_role("textbox", name="Words for its place alone")
    playground.card("tomato").get_by_role("textbox").first.click()
    words.fill("a tomato, upside down")
    playground.button("Without a picture").click()
    expect(playground.cards).to_have_count(3)
    playground.make_button.click()
    # Neither picture, phrase nor words.
    unnamed = playground.card("unnamed")
    expect(unnamed.get_by_role("alert").first).to_be_visible()
    unnamed.get_by_role("textbox").first.fill("tree")
    # Which the prompt does not name, and the words need not.
    expect(playground.button("Add “tree” to the prompt")).to_be_visible()
    words.fill("a tree in the rain")
    expect(playground.button("Add “tree” to the prompt")).to_have_count(0)
    playground.check_accessibility()
    playground.make()
    subjects = {subject["phrase"]: subject for subject in made_of(service)["request"]["subjects"]}
    assert subjects["tomato"]["prompt"] == "a tomato, upside down"
    assert subjects["tree"]["prompt"] == "a tree in the rain"
    assert not subjects["tree"].get("image")
    assert not subjects["leafy green"].get("prompt")
    playground.page.reload()
    playground.card("tree").get_by_role("textbox").first.click()
    expect(words).to_have_value("a tree in the rain")


def test_json_that_is_no_layout(playground: Playground) -> None:
    playground.visit(ready=False)
    before = playground.heard()
    playground.paste(json.dumps({"name": "x"}))
    expect(playground.page.get_by_text("This JSON is no request")).to_be_visible()
    assert playground.heard() == before
