"""The pictures of the page in README and guide: made by the page itself; ``--write-pictures`` keeps them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, open_playground
from tests.e2e.playground.subjects import own_picture
from tests.support.paths import ROOT

PICTURES = ROOT / "docs" / "images"
MOST_BYTES = 150_000
QUALITY = 85
SUBJECTS = {
    "fox": ((0.04, 0.36), (0.42, 0.92)),
    "taxi": ((0.6, 0.5), (0.94, 0.9)),
    "umbrella": ((0.3, 0.06), (0.64, 0.4)),
}
PROMPT = "a fox, a taxi and an umbrella on a meadow"
SEED = "11"


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return PICTURES if request.config.getoption("--write-pictures") else tmp_path


def keep(page: Page | Locator, path: Path) -> None:
    """Save what is shown as a small file."""
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as shot:
        shot.convert("RGB").save(path, quality=QUALITY, method=6)
    assert path.stat().st_size < MOST_BYTES


def place_subjects(playground: Playground) -> None:
    playground.visit()
    for phrase in ("tomato", "leafy green"):
        playground.button(f"Remove {phrase}").click()
    for phrase, (start, end) in SUBJECTS.items():
        playground.drag(start, end)
        playground.choose_files(playground.button("Add a picture of unnamed"), own_picture(phrase))
        playground.card("unnamed").get_by_role("textbox").first.fill(phrase)
    playground.prompt.fill(PROMPT)
    playground.tab("Options").click()
    playground.page.get_by_role("spinbutton", name="Seed").fill(SEED)
    playground.page.get_by_role("spinbutton", name="Seed").press("Tab")
    playground.tab("Subjects").click()


def test_what_the_documents_show(browser: Browser, service: HttpService, folder: Path) -> None:
    with open_playground(browser, service) as playground:
        place_subjects(playground)
        playground.card("fox").get_by_role("textbox").first.click()
        expect(playground.button("bottom right corner of fox")).to_be_visible()
        keep(playground.page, folder / "playground-boxes.webp")
        playground.make()
        keep(playground.page, folder / "playground.webp")
        context = playground.page.context
        phone = context.new_page()
        phone.emulate_media(color_scheme="dark")
        phone.set_viewport_size({"width": 360, "height": 740})
        phone.goto(service.url)
        expect(phone.get_by_text("mini ready")).to_be_visible()
        keep(phone, folder / "playground-phone.webp")
