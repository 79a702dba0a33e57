"""A real browser that opens a page of ours, and the server that the page comes from."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.service_processes import end
from tests.support.typescript import skip

PATIENCE_S = 90
# It runs in containers, as root, without a graphics card or much shared memory.
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".png": "image/png"}


class Site:
    """Serves ``files`` by their names, ``/`` as ``index.html``; what pages post comes out of ``reports``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.reports: queue.Queue[Any] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def open(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path[1:] or "index.html"
                content = site.files.get(name)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Type", TYPES.get(Path(name).suffix, "text/plain"))
                self.end_headers()
                self.wfile.write(content or b"")

            def do_POST(self) -> None:
                site.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def chromium() -> str:
    """The machine's Chromium; skips where none is."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        skip("there is no Chromium here; on Debian: apt-get install chromium")
    return str(browser)


def report_of(site: Site, folder: Path) -> Any:
    """What the first page of an open site posts when a browser has opened it; skips where no browser is."""
    browser = chromium()
    options = ["--headless=new", *QUIET, "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
    log = folder / "browser.log"
    with log.open("wb") as output:
        process = subprocess.Popen([browser, *options, site.url], stdout=output, stderr=output)
        try:
            return site.reports.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(log.read_text(errors="replace")) from None
        finally:
            end(process)
