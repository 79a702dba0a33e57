"""A service with the bundled model for all tests of the page, and one browser for each of their files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.http_service import HttpService
from tests.e2e.playground.page import Playground, open_playground
from tests.support.browser import QUIET, chromium
from tests.support.paths import MINI

# Every name but the service's address leads nowhere, whatever the machine's network has.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[HttpService]:
    """A service with the bundled model, whose worker is ready; with ``--keys`` it asks for a key, and browsers have a session."""
    chromium()
    has_keys = request.config.getoption("--keys")
    service = HttpService(tmp_path_factory.mktemp("playground"), MINI, MSD_AUTH="on" if has_keys else "off")
    try:
        service.start()
        if has_keys:
            service.ask_with_key()
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file only: while it is open, nothing else in this process can run an event loop."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, OFFLINE])
        yield browser
        browser.close()


@pytest.fixture
def playground(browser: Browser, service: HttpService) -> Iterator[Playground]:
    """The page as a new visitor finds it, 1280 by 800."""
    with open_playground(browser, service) as page:
        yield page
