"""Pictures that are brought along: bad ones of each kind, one that was made here, and as many as there may be."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Route, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, made_of, open_playground
from tests.e2e.playground.subjects import own_picture
from tests.support.sample_requests import png_with_header

MOST_SUBJECTS = 16
# Less than any wait before another attempt adds up to.
AT_ONCE_MS = 6_000


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def bad_pictures() -> dict[str, tuple[FilePayload, str]]:
    """Files by the names of their cards, with what is said of them."""
    red = Image.new("RGB", (64, 64), "red")
    frames = [Image.new("RGB", red.size, colour) for colour in ("green", "blue")]
    contents = {
        "words": (b"no picture at all", "no PNG, JPEG or WebP"),
        "nothing": (b"", "no PNG, JPEG or WebP"),
        "half": (encoded(red, "JPEG")[:200], "damaged or incomplete"),
        "moving": (encoded(red, "WEBP", save_all=True, append_images=frames), "animated"),
        "glass": (encoded(Image.new("RGBA", (64, 64)), "PNG"), "transparent"),
        "bitmap": (encoded(red, "BMP"), "no PNG, JPEG or WebP"),
        "vast": (png_with_header(60_000, 60_000, b""), "pixels"),
    }
    return {
        name: ({"name": f"{name}.png", "mimeType": "image/png", "buffer": content}, says)
        for name, (content, says) in contents.items()
    }


def test_bad_pictures_of_each_kind(playground: Playground) -> None:
    """Each says on its own card what is wrong; the others and the page go on."""
    bad = bad_pictures()
    playground.visit()
    playground.add_subjects(*(file for file, _ in bad.values()), own_picture("fox"))
    for name, (_, says) in bad.items():
        expect(playground.card(name).get_by_role("alert")).to_contain_text(says)
    expect(playground.card("fox").get_by_role("img", name="Picture of fox")).to_be_visible()
    expect(playground.page.get_by_role("alert")).to_have_count(len(bad))
    playground.check_accessibility()
    # After a reload, nothing says that they once were on the service.
    playground.page.reload()
    for name in bad:
        expect(playground.card(name).get_by_role("alert")).to_have_text(
            "The service did not take this picture. Choose another"
        )
    expect(playground.card("fox").get_by_role("img", name="Picture of fox")).to_be_visible()
    playground.check_accessibility()
    card = playground.card("words")
    card.get_by_role("button", name="Remove this picture of words").click()
    playground.choose_files(card.get_by_role("button", name="Add a picture of words"), own_picture("taxi"))
    expect(card.get_by_role("alert")).to_have_count(0)


def answering(status: int, answered: list[int]) -> Callable[[Route], None]:
    """Answers in the service's place, and notes it."""

    def answer(route: Route) -> None:
        answered.append(status)
        route.fulfill(status=status, headers={"Retry-After": "0"})

    return answer


def test_a_picture_that_could_not_be_sent(playground: Playground) -> None:
    """Its card says why; what the service may take another time can be sent again."""
    playground.visit(ready=False)
    card = playground.card("fox")
    answered: list[int] = []
    for status, says, is_final in (
        (413, "too large to be sent", True),
        (503, "could not take this picture now", False),
    ):
        playground.page.route(re.compile("/assets$"), answering(status, answered))
        playground.add_subjects(own_picture("fox"))
        expect(card.get_by_role("alert")).to_contain_text(says)
        expect(card.get_by_role("button", name="Send it again")).to_have_count(0 if is_final else 1)
        if is_final:
            playground.page.unroute_all()
            playground.button("Remove fox").click()
    playground.check_accessibility()
    # It is also tried again when the request is checked, which is over when nothing more is sent.
    sent_before = 0
    while sent_before < len(answered):
        sent_before = len(answered)
        playground.page.wait_for_timeout(1000)
    playground.page.unroute_all()
    with playground.page.expect_response(re.compile("/assets$")) as sent:
        card.get_by_role("button", name="Send it again").click()
    assert sent.value.ok
    expect(card.get_by_role("alert")).to_have_count(0)
    expect(card.get_by_role("textbox").first).to_be_focused()


def test_a_store_of_pictures_that_is_full_says_so_at_once(playground: Playground) -> None:
    playground.visit(ready=False)
    words = "You keep as many pictures as you may; delete some."
    problem = json.dumps({"code": "assets_full", "detail": words, "status": 429})
    playground.page.route(re.compile("/assets$"), lambda route: route.fulfill(status=429, body=problem))
    playground.add_subjects(own_picture("fox"))
    expect(playground.card("fox").get_by_role("alert")).to_contain_text(words, timeout=AT_ONCE_MS)


def test_a_limit_that_passes_late_is_said_and_a_short_one_waited_for(playground: Playground) -> None:
    playground.visit()
    playground.set_steps(2)
    waits = iter(["86375", "3"])
    words = "You may ask for 9 steps a day."
    problem = json.dumps({"code": "steps_spent", "detail": words, "status": 429})

    def refuse(route: Route) -> None:
        wait = next(waits, None)
        if wait is None:
            route.continue_()
        else:
            route.fulfill(status=429, body=problem, headers={"Retry-After": wait})

    playground.page.route(re.compile("/generate$"), refuse)
    playground.make_button.click()
    expect(playground.page.get_by_role("alert").filter(has_text=words)).to_be_visible(timeout=AT_ONCE_MS)
    playground.make_button.click()
    expect(playground.page.get_by_text("Waiting to send again …")).to_be_visible(timeout=AT_ONCE_MS)
    playground.wait_for_picture()


def test_a_picture_that_was_made_here_restores_its_request(
    playground: Playground, browser: Browser, service: HttpService, tmp_path: Path
) -> None:
    playground.visit()
    playground.button("Remove leafy green").click()
    playground.add_subjects(own_picture("umbrella"))
    playground.prompt.fill("a tomato and an umbrella in the desert")
    playground.set_steps(2)
    playground.make()
    with playground.page.expect_download() as download:
        playground.page.get_by_role("link", name="Download").click()
    content = Path(download.value.path()).read_bytes()
    made: FilePayload = {"name": "msd.png", "mimeType": "image/png", "buffer": content}

    with open_playground(browser, service) as other:
        other.visit()
        other.drop(made)
        expect(other.prompt).to_have_value("a tomato and an umbrella in the desert")
        assert [name.partition(",")[0] for name in other.heard()] == ["tomato", "umbrella"]
        expect(other.card("umbrella").get_by_role("img", name="Picture of umbrella")).to_be_visible()
        other.make()
        first, second = content, service.client.get(newest_image(service)).content
        assert Image.open(io.BytesIO(first)).tobytes() == Image.open(io.BytesIO(second)).tobytes()

    # Whoever has no pictures any more is asked for them.
    forget_everything(service)
    with open_playground(browser, service) as other:
        other.visit()
        other.drop(made)
        expect(other.card("umbrella").get_by_role("alert")).to_contain_text("not on the service any more")
        other.check_accessibility()
        other.choose_files(other.card("umbrella").get_by_role("button", name="Add it again"), own_picture("umbrella"))
        expect(other.card("umbrella").get_by_role("img", name="Picture of umbrella")).to_be_visible()


def newest_image(service: HttpService) -> str:
    (job,) = service.client.get("/jobs", params={"limit": 1}).json()["jobs"]
    return job["images"][0]["url"]


def forget_everything(service: HttpService) -> None:
    """Delete all jobs and assets, which keep the pictures of requests."""
    for job in service.client.get("/jobs", params={"limit": 100}).json()["jobs"]:
        service.client.delete(f"/jobs/{job['id']}")
    for asset in service.client.get("/assets", params={"limit": 100}).json()["assets"]:
        service.client.delete(f"/assets/{asset['id']}")


def named(name: str) -> FilePayload:
    return {"name": f"{name}.png", "mimeType": "image/png", "buffer": own_picture("fox")["buffer"]}


def test_sixteen_subjects(playground: Playground, service: HttpService) -> None:
    playground.visit()
    names = [
        f"{word} one"
        for word in [
            "red",
            "blue",
            "green",
            "small",
            "large",
            "near",
            "far",
            "old",
            "new",
            "thin",
            "wide",
            "soft",
            "hard",
            "odd",
        ]
    ]
    playground.add_subjects(*(named(name) for name in names))
    expect(playground.cards).to_have_count(MOST_SUBJECTS)
    assert [name.partition(",")[0] for name in playground.heard()] == ["tomato", "leafy green", *names]
    expect(playground.button("Add a subject")).to_be_disabled()
    playground.drop(named("one too many"))
    expect(playground.page.get_by_text("A picture has at most 16 subjects.").first).to_be_visible()
    playground.check_accessibility()
    expect(playground.cards).to_have_count(MOST_SUBJECTS)
    playground.prompt.fill(f"a tomato, a leafy green, {', '.join(names)} on a meadow")
    playground.set_steps(2)
    playground.make()
    assert len(made_of(service)["request"]["subjects"]) == MOST_SUBJECTS
    playground.check_accessibility()
