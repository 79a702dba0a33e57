"""What else a browser or a file may bring: no storage, values that are none, clicks too many, words without end."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Browser, FilePayload, FloatRect, Locator, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import PICTURE_PATIENCE_MS, Playground, open_playground
from tests.e2e.playground.subjects import own_picture

# As in private windows of some browsers, and with "block all cookies".
NO_STORAGE = """
    Object.defineProperty(window, "indexedDB", { get: () => undefined });
    const denied = () => { throw new DOMException("denied", "SecurityError"); };
    for (const kind of ["localStorage", "sessionStorage"]) Object.defineProperty(window, kind, { get: denied });
    window.BroadcastChannel = class { constructor() { denied(); } };
"""
FULL = """
    const full = () => { throw new DOMException("full", "QuotaExceededError"); };
    Storage.prototype.setItem = IDBObjectStore.prototype.put = full;
"""


def sides_of(locator: Locator) -> FloatRect:
    """In pixels."""
    sides = locator.bounding_box()
    assert sides is not None
    return sides


def test_pictures_are_made_without_storage(playground: Playground) -> None:
    for storage in (NO_STORAGE, FULL):
        playground.page.add_init_script(storage)
        playground.visit()
        playground.make()
        expect(playground.page.get_by_text("This browser keeps no more pictures")).to_be_visible()


def test_what_was_kept_may_be_anything(playground: Playground) -> None:
    for kept in ("{", "5", '{"subjects": 5}', '{"subjects": [null, {}], "options": null}'):
        playground.page.goto(f"{playground.url}/livez")
        playground.page.evaluate(
            "kept => ['msd.document', 'msd.jobs', 'msd.job'].forEach(name => localStorage.setItem(name, kept))", kept
        )
        playground.visit(ready=False)
        expect(playground.make_button).to_be_visible()


def test_a_request_that_lies(playground: Playground) -> None:
    playground.visit()
    mask = 'x"), url("https://elsewhere.example/x'
    subject = {"phrase": "<img src=x onerror=alert(1)>", "box": [-50, -50, 900, 900], "mask": mask}
    playground.paste(json.dumps({"prompt": "x", "subjects": [None, subject], "loras": 5, "start": 5, "extra": [1]}))
    expect(playground.cards).to_have_count(1)
    assert playground.heard() == [
        "<img src=x onerror=alert(1)>, 100 percent wide, 100 percent tall, "
        "0 percent from the left, 0 percent from the top, painted"
    ]
    expect(playground.page.get_by_text("Left out: subject 1, loras, start.")).to_be_visible()
    playground.tab("Options").click()
    expect(playground.page.get_by_text("extra: [1]")).to_be_visible()


def test_a_double_click_on_the_button_cancels_nothing(playground: Playground) -> None:
    playground.visit()
    button = sides_of(playground.make_button)
    # Where the other button will be.
    playground.page.mouse.dblclick(button["x"] + button["width"] - 20, button["y"] + button["height"] / 2)
    playground.wait_for_picture()


def test_the_button_stays_small_beside_a_long_prompt(playground: Playground) -> None:
    playground.visit(ready=False)
    playground.prompt.fill("a tomato and a leafy green " * 400)
    assert sides_of(playground.make_button)["height"] < 250
    playground.check_width()


def test_a_service_that_is_away_leaves_the_cancel_button_in_reach(playground: Playground) -> None:
    playground.visit()
    playground.page.route(re.compile("/(jobs|models)"), lambda route: route.abort())
    playground.make_button.click()
    expect(playground.page.get_by_text("Waiting for the service")).to_be_visible()
    row, cancel = sides_of(playground.page.locator(".prompt-row")), sides_of(playground.button("Cancel"))
    assert cancel["x"] + cancel["width"] <= row["x"] + row["width"]
    playground.page.unroute_all()
    playground.button("Cancel").click()
    expect(playground.make_button).to_be_visible()


def test_files_that_are_dropped_together(playground: Playground) -> None:
    """They stand side by side and go by one undo; the Subjects tab shows them."""
    playground.visit(ready=False)
    for phrase in ("tomato", "leafy green"):
        playground.button(f"Remove {phrase}").click()
    expect(playground.page.get_by_text("Draw a box, or drop a picture")).to_be_visible()
    expect(playground.make_button).to_contain_text("needs a subject")
    playground.tab("Code").click()
    playground.drop(own_picture("fox"), own_picture("taxi"))
    expect(playground.cards).to_have_count(2)
    assert playground.sides("fox") == (40, 40, 5, 30)
    assert playground.sides("taxi") == (40, 40, 55, 30)
    playground.button("Undo").click()
    expect(playground.cards).to_have_count(0)
    text: FilePayload = {"name": "boxes.json", "mimeType": "application/json", "buffer": b"words"}
    playground.drop(text)
    expect(playground.page.get_by_text("This file is no JSON.")).to_be_visible()


def test_a_shape_is_painted_on_a_phone(browser: Browser, service: HttpService) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with open_playground(browser, service, **phone) as playground:
        playground.visit(ready=False)
        playground.card("tomato").get_by_role("textbox").first.click()
        playground.button("Paint its shape instead").click()
        playground.button("Fill the box").click()
        assert sides_of(playground.page.get_by_role("application", name="Shape of tomato"))["x"] >= 0
        for name in ("Clear", "Cancel", "Use this shape"):
            button = sides_of(playground.button(name))
            assert button["x"] >= 0
            assert button["x"] + button["width"] <= 360
        playground.button("Use this shape").click()
        expect(playground.page.get_by_role("img", name="Painted shape of tomato")).to_be_visible()


def test_a_picture_that_is_out_of_reach_stays_in_the_history(playground: Playground) -> None:
    """Only one that the service has no longer goes."""
    playground.visit()
    playground.page.route(re.compile("/images/"), lambda route: route.abort())
    playground.make_button.click()
    expect(playground.history).to_have_count(1, timeout=PICTURE_PATIENCE_MS)
    # As long as the page may need to find out.
    playground.page.wait_for_timeout(300)
    expect(playground.history).to_have_count(1)
    playground.page.unroute_all()
    playground.page.reload()
    expect(playground.history).to_have_count(1)
    playground.page.route(re.compile("/images/"), lambda route: route.fulfill(status=404))
    playground.page.reload()
    expect(playground.history).to_have_count(0)


def test_an_address_without_its_slash_says_so(playground: Playground) -> None:
    """As below the path of a proxy: the parts of the page are not found there."""
    playground.page.route(re.compile("/app/"), lambda route: route.fulfill(status=404))
    playground.page.goto(playground.url)
    expect(playground.page.get_by_text("Its address may need a slash")).to_be_visible()


def test_words_that_come_with_a_picture_of_them_stay_words(playground: Playground) -> None:
    """As word processors copy them; in a field they are text, elsewhere the picture counts."""
    playground.visit(ready=False)
    paste = """element => {
        const data = new DataTransfer();
        data.setData("text/plain", "a tomato");
        for (const name of ["a.png", "b.png"]) data.items.add(new File(["x"], name, { type: "image/png" }));
        element.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    }"""
    playground.prompt.evaluate(paste)
    expect(playground.cards).to_have_count(2)
    playground.stage.evaluate(paste)
    expect(playground.cards).to_have_count(4)
