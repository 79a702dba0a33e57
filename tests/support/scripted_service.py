"""A service that loses answers, cannot be watched, or hangs up: a server that plays a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JOB_ID = "0123456789abcdef0123"


def job(status: str, version: int, **progress: Any) -> dict[str, Any]:
    shown = {"phase": None, "step": None, "steps": None, "fraction": 0.0} | progress
    return {
        "id": JOB_ID,
        "status": status,
        "version": version,
        "position": 2 if status == "queued" else None,
        "eta_seconds": 9.5 if status == "queued" else None,
        "progress": None if status == "queued" else shown,
        "seed": 1,
        "images": [],
        "references": [],
        "warnings": [],
        "error": None,
    }


def event(name: str, version: int, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\nid: {version}\n\n"


def step(version: int, number: int) -> str:
    return event("progress", version, {"phase": "denoise", "step": number, "steps": 4, "fraction": number / 4})


Play = Callable[[BaseHTTPRequestHandler], None]


def answer(
    body: Any, status: int = 200, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> Play:
    def play(handler: BaseHTTPRequestHandler) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": content_type, **(headers or {})}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return play


def problem(status: int, headers: dict[str, str] | None = None, **more: Any) -> Play:
    return answer({"detail": "No.", "errors": [], **more}, status, "application/problem+json", headers)


def stream(*events: str) -> Play:
    """Events, and then the line is cut: no end is ever sent."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for text in events:
            handler.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        handler.close_connection = True

    return play


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


class Script:
    """What the server does with each request of a kind, in turn; the last again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.plays: dict[str, list[Play]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[tuple[str, bytes]] = []

    def play(self, kind: str, handler: BaseHTTPRequestHandler) -> None:
        self.bodies.append((kind, handler.rfile.read(int(handler.headers.get("Content-Length", 0)))))
        self.seen.append((kind, {name.lower(): value for name, value in handler.headers.items()}))
        plays = self.plays.get(kind, [problem(404)])
        (plays.pop(0) if len(plays) > 1 else plays[0])(handler)

    @property
    def kinds(self) -> list[str]:
        """What was asked for, in turn."""
        return [kind for kind, _ in self.seen]

    def headers(self, kind: str, name: str) -> list[str | None]:
        return [headers.get(name) for seen, headers in self.seen if seen == kind]

    def sent(self, kind: str) -> list[Any]:
        """The JSON bodies of a kind."""
        return [json.loads(body) for seen, body in self.bodies if seen == kind]


_KINDS = ("events", "cancel", "images", "generate", "assets", "inspect", "models", "readyz")


def _kind_of(path: str) -> str:
    parts = path.partition("?")[0].split("/")
    return next((kind for kind in _KINDS if kind in parts), "job")


@contextmanager
def scripted_service() -> Iterator[Script]:
    """A server with a script that may be changed at any time."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            script.play(_kind_of(self.path), self)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
