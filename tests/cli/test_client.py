"""How the commands ask a service that loses answers, cannot be watched, or hangs up: a server that plays a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cli import client as client_module
from cli.client import Job, ServiceClient, ServiceClientError, _eta_s
from cli.main import app
from tests.support.service_processes import free_port

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


def answer(body: dict[str, Any], status: int = 200, content_type: str = "application/json") -> Play:
    def play(handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return play


def problem(status: int) -> Play:
    return answer({"detail": "No.", "errors": []}, status, "application/problem+json")


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
        self.plays: dict[str, list[Play]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []

    def play(self, kind: str, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append((kind, {name.lower(): value for name, value in handler.headers.items()}))
        plays = self.plays[kind]
        (plays.pop(0) if len(plays) > 1 else plays[0])(handler)

    def headers(self, kind: str, name: str) -> list[str | None]:
        return [headers.get(name) for seen, headers in self.seen if seen == kind]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceClient]:
    monkeypatch.setattr(client_module, "POLL_INTERVAL_S", 0.01)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            script.play("events" if self.path.endswith("/events") else "job", self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.play("cancel" if self.path.endswith("/cancel") else "generate", self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with ServiceClient(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def follow(client: ServiceClient) -> tuple[Job, list[Job]]:
    seen: list[Job] = []
    return client.wait(JOB_ID, seen.append), seen


def test_a_lost_answer_is_asked_for_again_with_the_same_key(client: ServiceClient, script: Script) -> None:
    script.plays = {"generate": [hang_up, hang_up, answer(job("queued", 1), 202)]}
    assert client.submit({"prompt": "a cat"}).id == JOB_ID
    keys = script.headers("generate", "idempotency-key")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


def test_each_wish_has_its_own_key(client: ServiceClient, script: Script) -> None:
    script.plays = {"generate": [answer(job("queued", 1), 202)]}
    client.submit({})
    client.submit({})
    assert len(set(script.headers("generate", "idempotency-key"))) == 2


def test_a_lost_answer_is_waited_for_while_the_service_is_away_or_still_at_it(
    client: ServiceClient, script: Script
) -> None:
    script.plays = {"generate": [hang_up, problem(503), problem(409), answer(job("queued", 1), 202)]}
    assert client.submit({}).id == JOB_ID


@pytest.mark.parametrize("status", [409, 422, 503])
def test_a_refusal_is_not_asked_again(client: ServiceClient, script: Script, status: int) -> None:
    script.plays = {"generate": [problem(status)]}
    with pytest.raises(ServiceClientError, match=r"^No\.$"):
        client.submit({})
    assert len(script.seen) == 1


def test_no_service_is_told_at_once() -> None:
    with (
        ServiceClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ServiceClientError, match="No service answers"),
    ):
        client.submit({})


def test_patience_ends(client: ServiceClient, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.05)
    script.plays = {"generate": [hang_up]}
    with pytest.raises(ServiceClientError, match="No service answers"):
        client.submit({})


def test_a_queued_job_shows_its_place_and_its_time(client: ServiceClient, script: Script) -> None:
    script.plays = {"job": [answer(job("queued", 1)), answer(job("succeeded", 9))]}
    _, seen = follow(client)
    assert [(now.status, now.position, now.eta_s) for now in seen] == [("queued", 2, 9.5), ("succeeded", None, None)]


def test_a_running_job_is_watched(client: ServiceClient, script: Script) -> None:
    script.plays = {
        "job": [answer(job("running", 2))],
        "events": [stream(": ping\n\n", step(3, 1), step(4, 2), event("succeeded", 5, job("succeeded", 5)))],
    }
    end, seen = follow(client)
    assert (end.status, end.version) == ("succeeded", 5)
    assert [(now.version, now.phase, now.step) for now in seen[1:3]] == [(3, "denoise", 1), (4, "denoise", 2)]
    assert script.headers("events", "last-event-id") == ["2"]


def test_what_is_left_goes_by_the_steps_that_are_seen() -> None:
    seen = Job.from_json(job("running", 2, phase="denoise", step=10, steps=30) | {"eta_seconds": 0.1})
    later = Job.from_json(job("running", 3, phase="denoise", step=20, steps=30))
    # Ten steps took 6 s, and ten are left; the service thought of 0.1 s for twenty.
    assert _eta_s(seen, later, 6.0) == pytest.approx((10 * 6 + 5 * 0.05) / 15)
    assert _eta_s(seen, Job.from_json(job("running", 3, phase="decode")), 0.04) == pytest.approx(0.06)
    assert _eta_s(Job.from_json(job("running", 2)), later, 6.0) is None


def test_a_stream_that_is_cut_is_taken_up_where_it_was(client: ServiceClient, script: Script) -> None:
    script.plays = {
        "job": [answer(job("running", 2)), answer(job("running", 3))],
        "events": [stream(step(3, 1)), stream(step(4, 2), event("failed", 5, job("failed", 5)))],
    }
    end, seen = follow(client)
    assert end.status == "failed"
    assert script.headers("events", "last-event-id") == ["2", "3"]
    assert [now.step for now in seen if now.step] == [1, 2]


@pytest.mark.parametrize("play", [problem(404), problem(503), hang_up, answer({"not": "a stream"})])
def test_what_cannot_be_watched_is_looked_at(client: ServiceClient, script: Script, play: Play) -> None:
    script.plays = {
        "job": [answer(job("running", version)) for version in (2, 3, 4)] + [answer(job("succeeded", 5))],
        "events": [play],
    }
    end, seen = follow(client)
    assert (end.status, [now.version for now in seen]) == ("succeeded", [2, 3, 4, 5])


def test_a_job_that_waits_again_is_looked_at_again(client: ServiceClient, script: Script) -> None:
    back = {"version": 3, "status": "queued", "event": "abandoned", "attempt": 1}
    script.plays = {
        "job": [answer(job("running", 2)), answer(job("queued", 3)), answer(job("succeeded", 5))],
        "events": [stream(event("status", 3, back))],
    }
    _, seen = follow(client)
    assert [now.status for now in seen] == ["running", "queued", "succeeded"]


def test_a_job_that_is_gone_is_told(client: ServiceClient, script: Script) -> None:
    script.plays = {"job": [answer(job("running", 2)), problem(410)], "events": [stream(event("gone", 2, {}))]}
    with pytest.raises(ServiceClientError) as caught:
        follow(client)
    assert caught.value.status == 410


def test_words_may_hold_what_others_take_for_the_end_of_a_line(client: ServiceClient, script: Script) -> None:
    end = job("failed", 3) | {"error": {"detail": "one\u2028two\x85three"}}
    script.plays = {"job": [answer(job("running", 2))], "events": [stream(event("failed", 3, end))]}
    assert follow(client)[0].error == "one\u2028two\x85three"


def generate(client: ServiceClient, folder: Path) -> Result:
    picture = folder / "cat.png"
    Image.new("RGB", (8, 8)).save(picture)
    arguments = ["generate", "-s", f"cat={picture}", "a cat", "-o", str(folder / "o.png"), "--url", client.url]
    return CliRunner().invoke(app, arguments)


def test_who_stops_waiting_is_told_of_the_job(
    client: ServiceClient, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.05)
    script.plays = {"generate": [answer(job("queued", 1), 202)], "job": [problem(503)]}
    result = generate(client, tmp_path)
    assert (result.exit_code, result.stderr.strip()) == (
        1,
        f"msd: No. The job may still be running: {client.url}/jobs/{JOB_ID}",
    )


@pytest.mark.parametrize(
    ("cancel", "says"),
    [
        (answer(job("canceled", 2)), "Canceled."),
        (problem(503), f"Not canceled: No. The job: {{url}}/jobs/{JOB_ID}"),
    ],
)
def test_ctrl_c_tells_whether_the_job_is_canceled(
    client: ServiceClient, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancel: Play, says: str
) -> None:
    def press_ctrl_c(*_: Any) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(ServiceClient, "wait", press_ctrl_c)
    script.plays = {"generate": [answer(job("queued", 1), 202)], "cancel": [cancel]}
    result = generate(client, tmp_path)
    assert (result.exit_code, result.stderr.strip()) == (130, says.format(url=client.url))
