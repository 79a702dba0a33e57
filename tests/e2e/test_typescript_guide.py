"""The pages and the TypeScript of the guide for front ends, as they stand there, in Node and in a real browser against the live service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.e2e.http_service import HttpService
from tests.support import typescript
from tests.support.browser import Site, report_of
from tests.support.guides import blocks
from tests.support.job_helpers import wait_until
from tests.support.paths import ASSETS
from tests.support.service_processes import free_port, running_msd

PAGE = "docs/guides/front-ends.md"
PICTURES = ("tomato.png", "leafy-green.png")
# Of the script of the plain page.
MAX_LINES = 60
IN_THE_PAGE = "http://127.0.0.1:8000"
# Does what a visitor does, and tells what the visitor sees.
VISITOR = """
const img = document.querySelector("img"), words = document.querySelector("output"), seen = []
for (const [n, name] of ["tomato.png", "leafy-green.png"].entries()) {
  const files = new DataTransfer()
  files.items.add(new File([await (await fetch(name)).blob()], name))
  document.querySelectorAll("[type=file]")[n].files = files.files
}
new MutationObserver(() => seen.push(img.src.slice(0, 16))).observe(img, { attributes: true })
new MutationObserver(async () => {
  if (!words.textContent) return
  await img.decode().catch(() => {})
  const report = { words: words.textContent, seen, width: img.naturalWidth, bar: document.querySelector("progress").value }
  await fetch("/report", { method: "POST", body: JSON.stringify(report) })
}).observe(words, { childList: true })
document.querySelector("button").click()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of an app, with two pictures."""
    for name in PICTURES:
        shutil.copy(ASSETS / "demo" / name, tmp_path)
    return tmp_path


def script_of(section: str, url: str, project: Path) -> Path:
    """Write the script of a section, for the service at ``url``."""
    (code,) = blocks(PAGE, "ts", section)
    assert IN_THE_PAGE in code
    script = project / "main.ts"
    script.write_text(code.replace(IN_THE_PAGE, url))
    return script


def test_in_node(service: HttpService, project: Path) -> None:
    service.wait_until_ready()
    script = script_of("### In Node", service.url, project)
    main = typescript.bundle(script, project / "main.mjs", "node")
    typescript.run([typescript.node(), main], project)
    assert (project / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def site(project: Path) -> Iterator[Site]:
    site = Site({name: (project / name).read_bytes() for name in PICTURES} | {"visitor.js": VISITOR.encode()})
    with site.open():
        yield site


@pytest.fixture
def allowing_api(service: HttpService, equipped_model_directory: Path, site: Site) -> Iterator[str]:
    """Another API of the same service, which the site's pages may call."""
    service.wait_until_ready()
    port = free_port()
    options = ("--port", port, "--model", equipped_model_directory, "--data", service.data_dir)
    settings = {"MSD_REDIS_URL": service.redis_url, "MSD_CORS_ORIGINS": site.url}
    with running_msd("api", *options, **settings):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(service, url), "the second API")
        yield url


def answers(service: HttpService, url: str) -> bool:
    try:
        return service.client.get(f"{url}/livez").status_code == 200
    except httpx2.TransportError:
        return False


def test_in_a_browser(project: Path, site: Site, allowing_api: str) -> None:
    script = script_of("### In a browser", allowing_api, project)
    form = blocks(PAGE, "html", "## Plain HTML, no packages")[0].partition("<script")[0]
    scripts = '<script type="module" src="main.js"></script><script type="module" src="visitor.js"></script>'
    site.files["index.html"] = (form + scripts).encode()
    site.files["main.js"] = typescript.bundle(script, project / "main.js").read_bytes()
    report = report_of(site, project)
    assert report["words"].startswith("Seed "), report
    assert report["seen"][0] == "data:image/webp;"
    assert report["seen"][-1].startswith("blob:")
    assert report["width"] > 0
    assert report["bar"] > 0


def test_the_plain_page_in_a_browser(project: Path, site: Site, allowing_api: str) -> None:
    (page,) = blocks(PAGE, "html", "## Plain HTML, no packages")
    assert len(page.partition("<script")[2].splitlines()) <= MAX_LINES
    assert IN_THE_PAGE in page
    visitor = '<script type="module" src="visitor.js"></script>'
    site.files["index.html"] = (page.replace(IN_THE_PAGE, allowing_api) + visitor).encode()
    report = report_of(site, project)
    assert report["words"].startswith("Seed "), report
    assert report["seen"][0] == "data:image/webp;"
    assert report["seen"][-1] == allowing_api[:16]
    assert report["width"] > 0
    assert report["bar"] > 0
