"""A service that asks for a key: the page exchanges it for a session, keeps it nowhere, and goes on where it was."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, open_context, open_page, open_playground
from tests.e2e.playground.subjects import own_picture
from tests.support.browser import chromium
from tests.support.job_helpers import wait_until
from tests.support.paths import MINI

PHONE = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}
# Everything that a page can keep, and read again; the cookie of the session is out of its reach.
KEPT = """
async () => {
    const kept = [document.cookie, location.href, document.documentElement.outerHTML];
    for (const storage of [localStorage, sessionStorage]) kept.push(JSON.stringify({ ...storage }));
    for (const field of document.querySelectorAll("input, textarea")) kept.push(field.value);
    for (const { name } of await indexedDB.databases()) {
        const open = await new Promise(done => (indexedDB.open(name).onsuccess = ({ target }) => done(target.result)));
        for (const store of open.objectStoreNames)
            kept.push(JSON.stringify(await new Promise(done => {
                open.transaction(store).objectStore(store).getAll().onsuccess = ({ target }) => done(target.result);
            })));
        open.close();
    }
    return kept.join(" ");
}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpService]:
    """A service that asks for a key; no browser has a session."""
    chromium()
    service = HttpService(tmp_path_factory.mktemp("keys"), MINI, MSD_AUTH="on")
    try:
        service.start()
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def key(service: HttpService) -> str:
    return service.make_key("laptop", "--owner", "ann")


def dialog_of(playground: Playground) -> Locator:
    return playground.page.get_by_role("dialog", name="This service asks for a key")


def send_key(playground: Playground, key: str) -> None:
    """Type a key into the dialog, and press Enter."""
    field = dialog_of(playground).get_by_label("Key")
    expect(field).to_be_focused()
    field.fill(key)
    field.press("Enter")


def sign_in(playground: Playground, key: str) -> None:
    send_key(playground, key)
    expect(dialog_of(playground)).to_have_count(0)


def wait_until_refused(playground: Playground) -> None:
    """Until the session of this browser has ended."""
    session = playground.page.context.request
    wait_until(lambda: session.get(f"{playground.url}/session").status == 401, "the end of the session")


def sign_out_button(playground: Playground, owner: str) -> Locator:
    return playground.button(f"{owner} Sign out")


def test_own_pictures_to_a_picture(playground: Playground, key: str) -> None:
    playground.visit(ready=False)
    expect(dialog_of(playground)).to_be_visible()
    playground.check_accessibility()
    send_key(playground, "msd_wrong")
    expect(playground.page.get_by_text("This key does not work here")).to_be_visible()
    playground.check_accessibility()
    sign_in(playground, key)
    expect(playground.page.get_by_text("mini ready")).to_be_visible()
    expect(playground.stage).to_be_focused()
    for phrase in ("tomato", "leafy green"):
        playground.button(f"Remove {phrase}").click()
    playground.add_subjects(own_picture("fox"), own_picture("taxi"))
    playground.prompt.fill("a fox and a taxi on a meadow")
    playground.set_steps(2)
    playground.make()
    playground.check_accessibility()
    assert key not in playground.page.evaluate(KEPT)
    # The session outlives a reload, and so do the pictures.
    playground.visit()
    expect(playground.card("fox").get_by_role("img").first).to_be_visible()
    expect(sign_out_button(playground, "ann")).to_be_visible()
    expect(dialog_of(playground)).to_have_count(0)
    (cookie,) = playground.page.context.cookies()
    assert (cookie.get("name"), cookie.get("httpOnly"), cookie.get("sameSite")) == ("msd_session", True, "Strict")


def test_pictures_of_the_last_visit_after_the_session_ended(
    playground: Playground, service: HttpService, key: str
) -> None:
    playground.visit(ready=False)
    sign_in(playground, service.make_key("last", "--owner", "ann"))
    playground.add_subjects(own_picture("fox"))
    expect(playground.page.locator(".thumbnail[data-state=sent]")).to_have_count(3)
    service.revoke_key("last")
    wait_until_refused(playground)
    playground.visit(ready=False)
    expect(playground.cards).to_have_count(3)
    sign_in(playground, key)
    picture = playground.card("fox").get_by_role("img", name="Picture of fox")
    expect(picture).to_have_js_property("naturalWidth", 96)
    expect(playground.page.get_by_text("not on the service any more")).to_have_count(0)


def begin(playground: Playground, service: HttpService, name: str) -> None:
    """Sign in with a key of its own, and begin a form."""
    playground.visit(ready=False)
    sign_in(playground, service.make_key(name, "--owner", "ann"))
    expect(playground.page.get_by_text("mini ready")).to_be_visible()
    playground.button("Remove leafy green").click()
    playground.add_subjects(own_picture("fox"))
    playground.set_steps(2)


def end_session(playground: Playground, service: HttpService, name: str) -> None:
    service.revoke_key(name)
    wait_until_refused(playground)


def own_prompts(service: HttpService, key: str) -> list[str]:
    """Of the jobs of a key's owner, newest first."""
    headers = {"X-API-Key": key}
    jobs = service.client.get("/jobs", headers=headers).json()["jobs"]
    return [service.client.get(job["urls"]["request"], headers=headers).json()["request"]["prompt"] for job in jobs]


def check_form(playground: Playground, prompt: str) -> None:
    """Everything is as it was before the dialog."""
    expect(playground.prompt).to_have_value(prompt)
    assert [name.partition(",")[0] for name in playground.heard()] == ["tomato", "fox"]
    expect(playground.card("fox").get_by_role("img", name="Picture of fox")).to_have_js_property("naturalWidth", 96)


def test_a_session_that_ends_in_mid_form(playground: Playground, service: HttpService, key: str) -> None:
    """The form stays, the dialog asks, and the request goes on by itself."""
    prompt = "a tomato and a fox on a meadow"
    begin(playground, service, "mid-form")
    playground.prompt.fill(prompt)
    end_session(playground, service, "mid-form")
    playground.make_button.click()
    expect(dialog_of(playground)).to_contain_text("Your session has ended; all that is on this page stays.")
    check_form(playground, prompt)
    sign_in(playground, key)
    check_form(playground, prompt)
    playground.wait_for_picture()
    assert own_prompts(service, key)[0] == prompt


def test_a_session_that_ends_while_somebody_types(playground: Playground, service: HttpService, key: str) -> None:
    """No letter goes into the field of the key, and none is lost."""
    begin(playground, service, "typing")
    playground.prompt.fill("a tomato")
    end_session(playground, service, "typing")
    seen: list[bool] = []
    playground.page.on("response", lambda answer: seen.append(answer.status == 401))
    # Slowly enough that the page asks the service between two letters.
    playground.prompt.press_sequentially(" and a fox", delay=600)
    assert any(seen)
    expect(dialog_of(playground)).to_be_visible()
    prompt = "a tomato and a fox"
    check_form(playground, prompt)
    expect(dialog_of(playground).get_by_label("Key")).to_have_value("")
    sign_in(playground, key)
    expect(playground.prompt).to_be_focused()
    check_form(playground, prompt)
    playground.make()
    assert own_prompts(service, key)[0] == prompt


def test_sign_out(browser: Browser, service: HttpService, key: str) -> None:
    """In all tabs; whoever signs in in one goes on in the other."""
    with open_context(browser) as context, open_page(context, service) as first, open_page(context, service) as second:
        first.visit(ready=False)
        sign_in(first, key)
        second.visit()
        (cookie,) = context.cookies()
        sign_out_button(first, "ann").click()
        expect(dialog_of(first)).to_be_visible()
        assert context.cookies() == []
        session = {"Cookie": f"msd_session={cookie.get('value')}"}
        assert service.client.get("/jobs", headers=session).status_code == 401
        expect(sign_out_button(second, "ann")).to_have_count(0)
        first.page.reload()
        sign_in(first, service.make_key("bobs", "--owner", "bob"))
        expect(sign_out_button(first, "bob")).to_be_visible()
        expect(sign_out_button(second, "bob")).to_be_visible()


def test_what_a_key_may_not_do(playground: Playground, service: HttpService) -> None:
    playground.visit(ready=False)
    sign_in(playground, service.make_key("looks", "--owner", "ann", "--scope", "read"))
    expect(playground.page.get_by_text("mini ready")).to_be_visible()
    playground.add_subjects(own_picture("fox"))
    alert = playground.card("fox").get_by_role("alert")
    expect(alert).to_contain_text("it lacks the scope generate")
    # It would lack it again.
    expect(alert.get_by_role("button", name="Send it again")).to_have_count(0)
    expect(alert.get_by_role("button", name="Remove it")).to_be_visible()
    playground.button("Remove fox").click()
    playground.make_button.click()
    words = "This key may not do that: it lacks the scope generate. Sign out"
    expect(playground.page.get_by_role("alert").filter(has_text=words)).to_be_visible()
    sign_out_button(playground, "ann").click()
    sign_in(playground, service.make_key("makes", "--owner", "ann", "--scope", "generate"))
    expect(playground.page.get_by_text("it lacks the scope read. Sign out")).to_be_visible()


def test_too_many_wrong_keys(playground: Playground) -> None:
    """The service counts them by address, so this page only plays its answer."""
    refused = '{"detail": "Too many wrong keys came from this address; try again later."}'
    playground.page.route(
        re.compile("/session$"), lambda route: route.fulfill(status=429, body=refused, headers={"Retry-After": "3"})
    )
    playground.visit(ready=False)
    send_key(playground, "msd_wrong")
    expect(playground.page.get_by_text("try again later. That is in 3 seconds.")).to_be_visible()
    expect(dialog_of(playground).get_by_role("button", name=re.compile("^In [123] s$"))).to_be_visible()
    expect(dialog_of(playground).get_by_role("button", name="Sign in")).to_be_enabled()


def test_on_a_phone_in_the_dark(browser: Browser, service: HttpService, key: str) -> None:
    with open_playground(browser, service, **PHONE) as playground:
        playground.visit(ready=False)
        expect(dialog_of(playground)).to_be_visible()
        playground.check_accessibility()
        playground.check_width()
        sign_in(playground, key)
        expect(playground.button("Sign out")).to_be_visible()
        playground.check_accessibility()
        for width in (360, 375, 390, 401):
            playground.page.set_viewport_size({"width": width, "height": 740})
            playground.check_width()
            expect(playground.button("Sign out")).to_be_in_viewport(ratio=1)
