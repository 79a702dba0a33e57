"""While a picture is made: cancel, reload, a service that is away, two tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, open_context, open_page

STEP = re.compile(r"Step \d+ of \d+")
# Long enough to be met, and for a reload meanwhile.
LONG = 60
# And for tabs that are opened meanwhile.
LONGER = 150


def start_long_job(playground: Playground, steps: int = LONG) -> None:
    playground.set_steps(steps)
    playground.make_button.click()
    expect(playground.progress).to_be_visible()


def jobs(service: HttpService) -> list[dict[str, Any]]:
    return service.client.get("/jobs", params={"limit": 100}).json()["jobs"]


@pytest.fixture
def known(service: HttpService) -> Iterator[set[str]]:
    """Jobs that were there before the test; it leaves none that runs."""
    yield {job["id"] for job in jobs(service)}
    for job in jobs(service):
        if job["status"] in ("queued", "running"):
            service.client.post(f"/jobs/{job['id']}/cancel")


def test_cancel(playground: Playground, service: HttpService, known: set[str]) -> None:
    playground.visit()
    start_long_job(playground)
    expect(playground.page.get_by_text(STEP)).to_be_visible()
    expect(playground.stage.get_by_role("img", name="Preview of the picture that is being made")).to_be_visible()
    playground.check_accessibility()
    playground.button("Cancel").click()
    expect(playground.make_button).to_be_enabled()
    expect(playground.history).to_have_count(0)
    (job,) = [job for job in jobs(service) if job["id"] not in known]
    assert job["status"] == "canceled"
    assert len(playground.heard()) == 2


def test_reload_in_mid_job(playground: Playground, service: HttpService, known: set[str]) -> None:
    playground.visit()
    start_long_job(playground)
    expect(playground.page.get_by_text(STEP)).to_be_visible()
    playground.page.reload()
    expect(playground.page.get_by_text(STEP)).to_be_visible()
    playground.wait_for_picture()
    (job,) = [job for job in jobs(service) if job["id"] not in known]
    assert job["status"] == "succeeded"
    # The history outlives a reload.
    playground.page.reload()
    expect(playground.history).to_have_count(1)


def test_service_restarted_in_mid_job(playground: Playground, service: HttpService, known: set[str]) -> None:
    playground.visit()
    start_long_job(playground)
    expect(playground.page.get_by_text(STEP)).to_be_visible()
    with service.away():
        expect(playground.page.get_by_text(re.compile("Waiting for the service"))).to_be_visible()
        playground.check_accessibility()
    playground.wait_for_picture()
    (job,) = [job for job in jobs(service) if job["id"] not in known]
    assert job["status"] == "succeeded"
    playground.set_steps(2)
    playground.make()


def test_two_tabs(browser: Browser, service: HttpService, known: set[str]) -> None:
    """Each watches its own job, also after a reload; both pictures are in the history."""
    with open_context(browser) as context, open_page(context, service) as first, open_page(context, service) as second:
        first.visit()
        second.visit()
        second.set_steps(2)
        start_long_job(first, LONGER)
        expect(first.page.get_by_text(STEP)).to_be_visible()
        second.make_button.click()
        expect(second.page.get_by_text(re.compile("in the queue"))).to_be_visible()
        first.page.reload()
        expect(first.page.get_by_text(STEP)).to_be_visible()
        first.wait_for_picture(1)
        second.wait_for_picture(1)
        seeds = {job["seed"] for job in jobs(service) if job["id"] not in known}
        assert len(seeds) == 2
        first.page.reload()
        expect(first.history).to_have_count(2)
        assert {name for name in seeds if first.button(re.compile(f"seed {name}")).count()} == seeds


def test_a_tab_that_is_opened_meanwhile(browser: Browser, service: HttpService, known: set[str]) -> None:
    """It leaves the job of an open tab to that one, and goes on watching that of a closed one."""
    with open_context(browser) as context, open_page(context, service) as first:
        first.visit()
        start_long_job(first, LONGER)
        expect(first.page.get_by_text(STEP)).to_be_visible()
        with open_page(context, service) as second:
            second.visit()
            second.make_button.click()
            expect(second.page.get_by_text(re.compile("in the queue"))).to_be_visible()
            expect(first.page.get_by_text(STEP)).to_be_visible()
            first.page.close()
            with open_page(context, service) as third:
                third.visit()
                expect(third.page.get_by_text(STEP)).to_be_visible()
                third.button("Cancel").click()
                expect(third.make_button).to_be_enabled()
        _, job = [job for job in jobs(service) if job["id"] not in known]
        assert job["status"] == "canceled"
