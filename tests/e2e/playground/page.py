"""The playground as a person meets it: by the roles and names that a screen reader hears."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FilePayload, Locator, Page, Request, expect

from msd_client.recipes import recipe_of
from tests.e2e.http_service import HttpService
from tests.support.paths import ROOT
from tests.support.typescript import skip

PATIENCE_MS = 60_000
# A picture beside other tests may take long.
PICTURE_PATIENCE_MS = 180_000
MODEL = "mini"
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
# Tells of a service that is away or refuses; what the page makes of it is what matters.
ANSWERS = "Failed to load resource"
MOST_TABS = 150

expect.set_options(timeout=PATIENCE_MS)


class Sides(NamedTuple):
    """Of a box, as it is heard, in percent of the picture."""

    width: int
    height: int
    left: int
    top: int


class Playground:
    """One page; ``errors`` are its own faults, ``elsewhere`` what it asked of others than the service."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("request", self._note_request)

    # What is there.

    @property
    def stage(self) -> Locator:
        return self.page.get_by_role("group", name="Picture with its boxes")

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_role("textbox", name="What the picture shows")

    @property
    def make_button(self) -> Locator:
        return self.button(re.compile("^Make the picture"))

    @property
    def progress(self) -> Locator:
        return self.page.get_by_role("progressbar", name="Progress of the picture")

    @property
    def picture(self) -> Locator:
        """That was made."""
        return self.stage.get_by_role("img", name=re.compile("^Picture of the seed"))

    @property
    def history(self) -> Locator:
        """A button for each picture that was made."""
        return self.page.get_by_role("button", name=re.compile("^Show the picture of the seed"))

    @property
    def cards(self) -> Locator:
        return self.page.get_by_role("article", name=re.compile("^Subject: "))

    def card(self, phrase: str) -> Locator:
        return self.page.get_by_role("article", name=f"Subject: {phrase}", exact=True)

    def box(self, phrase: str) -> Locator:
        return self.stage.get_by_role("button", name=re.compile(rf"^{re.escape(phrase)}, \d+ percent wide"))

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name)

    def tab(self, name: str) -> Locator:
        return self.page.get_by_role("group", name="Parts of the request").get_by_role("button", name=name)

    def heard(self) -> list[str]:
        """Names of all boxes, from back to front."""
        names = re.findall(r'- button "([^"]*)"', self.stage.aria_snapshot())
        return [name for name in names if "percent wide" in name]

    def sides(self, phrase: str) -> Sides:
        (name,) = [name for name in self.heard() if name.startswith(f"{phrase}, ")]
        return Sides(*map(int, re.findall(r"(\d+) percent", name)))

    # What a person does.

    def visit(self, *, ready: bool = True) -> None:
        """Open the page, and wait until the model is ready if that matters."""
        self.page.goto(self.url)
        expect(self.stage).to_be_visible()
        if ready:
            expect(self.page.get_by_text(f"{MODEL} ready")).to_be_visible()

    def set_steps(self, count: int) -> None:
        """Few, where any picture will do; many, to meet a job while it runs."""
        self.tab("Options").click()
        self.page.get_by_role("spinbutton", name="Steps").fill(str(count))
        self.page.get_by_role("spinbutton", name="Steps").press("Tab")
        self.tab("Subjects").click()

    def make(self) -> None:
        """Press the button and wait for the picture."""
        before = self.history.count()
        self.make_button.click()
        self.wait_for_picture(before + 1)

    def wait_for_picture(self, count: int = 1) -> None:
        """Until so many pictures were made and the newest is shown, with its pixels."""
        expect(self.history).to_have_count(count, timeout=PICTURE_PATIENCE_MS)
        expect(self.picture).to_be_visible()
        self.picture.evaluate("picture => picture.decode()")

    def choose_files(self, button: Locator, *files: FilePayload) -> None:
        """Press a button that asks for files, and choose these."""
        with self.page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(list(files))

    def add_subjects(self, *files: FilePayload) -> None:
        self.choose_files(self.button("Add a subject"), *files)

    def drop(self, *files: FilePayload) -> None:
        """Drop files onto the page."""
        content = [[file["name"], file["mimeType"], base64.b64encode(file["buffer"]).decode()] for file in files]
        self.page.evaluate(
            """files => {
                const data = new DataTransfer();
                for (const [name, type, text] of files)
                    data.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name, { type }));
                for (const type of ["dragenter", "dragover", "drop"])
                    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
            }""",
            content,
        )

    def paste(self, text: str) -> None:
        self.page.evaluate(
            """text => {
                const data = new DataTransfer();
                data.setData("text/plain", text);
                document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
            }""",
            text,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Of the window, in pixels, at these fractions of the stage."""
        place = self.stage.bounding_box()
        assert place is not None
        return place["x"] + x * place["width"], place["y"] + y * place["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse from one place on the stage to another, in fractions of the stage."""
        self.page.mouse.move(*self.point(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.point(*end), steps=4)
        self.page.mouse.up()

    def tab_to(self, target: Locator) -> int:
        """Press Tab until the target has the focus; how often."""
        for count in range(MOST_TABS):
            if target.evaluate("element => element === document.activeElement"):
                return count
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no Tab leads to {target}")

    # What is measured.

    def check_accessibility(self) -> None:
        """Nothing that axe knows is wrong with what is shown."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe())
        violations = self.page.evaluate("axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations)")
        found = [
            f"{rule['id']}: {node['html']} {node['failureSummary']}" for rule in violations for node in rule["nodes"]
        ]
        assert found == []

    def check_width(self) -> None:
        """Nothing lies beyond the right edge of the window."""
        # On a phone, `innerWidth` grows with what sticks out.
        assert self.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth") <= 0

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith(ANSWERS):
            self.errors.append(text)

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", f"blob:{self.url}/")):
            self.elsewhere.append(request.url)


@cache
def axe() -> str:
    """Source of axe; skips where the packages of ``web`` are not installed."""
    if not AXE.exists():
        skip("the packages in web/node_modules are not installed; `make install` does that")
    return AXE.read_text()


@contextmanager
def open_context(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """A visitor with an empty history; animations stand still."""
    options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | options
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield context
    finally:
        context.close()


def sign_in(context: BrowserContext, service: HttpService, key: str) -> None:
    """Give a browser a session before it opens the page."""
    answer = context.request.post(f"{service.url}/session", headers={"X-API-Key": key})
    assert answer.ok, answer.text()


@contextmanager
def open_page(context: BrowserContext, service: HttpService) -> Iterator[Playground]:
    """A tab with the page; at the end, nothing failed in it and it asked nobody but the service."""
    if service.key is not None:
        sign_in(context, service, service.key)
    playground = Playground(context.new_page(), service.url)
    yield playground
    assert playground.errors == []
    assert playground.elsewhere == []


@contextmanager
def open_playground(browser: Browser, service: HttpService, **options: Any) -> Iterator[Playground]:
    with open_context(browser, **options) as context, open_page(context, service) as playground:
        yield playground


def made_of(service: HttpService) -> dict[str, Any]:
    """The recipe of the newest job's first picture."""
    (job,) = service.client.get("/jobs", params={"limit": 1}).json()["jobs"]
    file = service.client.get(job["images"][0]["url"]).content
    recipe = recipe_of(Image.open(io.BytesIO(file)))
    assert recipe is not None
    return dict(recipe)
