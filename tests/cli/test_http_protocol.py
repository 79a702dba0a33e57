"""uvicorn with limits before the body, behind a real port."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn

from cli import http_protocol
from cli.http_protocol import GuardedProtocol, most_connections
from ms_core.errors import StartupError
from msd_client._connection import answer_of
from msd_client._flow import refusal
from tests.support.job_helpers import wait_until

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body and answers with its length; waits before it answers to ``/slow``."""
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more and scope["path"] != "/unread":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    text = str(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@contextmanager
def served(limit: int | None = None) -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(
        echo, port=0, log_level="error", http=GuardedProtocol, limit_concurrency=limit, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server", 20)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(http_protocol, "HEAD_TIME_S", 0.5)
    monkeypatch.setattr(http_protocol, "PERIOD_S", 0.5)
    monkeypatch.setattr(http_protocol, "BODY_TIME_S", 2.0)
    monkeypatch.setattr(http_protocol, "LEAST_BYTES_PER_PERIOD", 1000)
    with served() as address:
        yield address


def answer(address: tuple[str, int], *parts: bytes, pause_s: float = 0) -> bytes:
    """All that comes back until the server hangs up or says nothing for a while."""
    with socket.create_connection(address, timeout=5) as client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break
            time.sleep(pause_s)
        return read(client)


def read(client: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := client.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def test_a_request_is_answered(address: tuple[str, int]) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\n"
    assert answer(address, head + b"12345").endswith(b"\r\n\r\n5")


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 8000])
def test_an_endless_head_is_cut_off(address: tuple[str, int], start: bytes) -> None:
    sent = 0
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(start)
        try:
            for _ in range(1000):
                sent += client.send(b"a" * 16384)
        except OSError:
            pass
        assert sent < 8_000_000
    begun = time.monotonic()
    assert b"200 OK" in answer(address, GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000, 431, "The request's headers are too large."),
        (b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n", 408, "The request arrived too slowly; send it again."),
    ],
)
def test_who_is_hung_up_on_gets_a_problem_that_our_client_reads(
    address: tuple[str, int], sent: bytes, status: int, detail: str
) -> None:
    head, _, body = answer(address, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-length: %d" % len(body) in head
    headers = {"content-type": "application/problem+json"} if b"application/problem+json" in head else {}
    request = httpx2.Request("POST", "http://localhost/generate")
    response = httpx2.Response(status, headers=headers, content=body, request=request)
    told = refusal(answer_of(response, body))
    assert (str(told), told.status) == (detail, status)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /v1/models?a=b HTTP/1.1\r\nx: " + b"a" * 70_000, 431, "headers_too_large"),
        (b"POST /v1/images/edits HTTP/1.1\r\ncontent-length: 9\r\n\r\n", 408, "request_timeout"),
        (b"GET /v1/models HTTP/1.1\r\nno header\r\n\r\n", 400, "bad_request"),
    ],
)
def test_clients_of_openais_interface_are_told_in_its_form(
    address: tuple[str, int], sent: bytes, status: int, code: str
) -> None:
    head, _, body = answer(address, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)


def test_others_who_do_not_speak_http_hear_uvicorns_words(address: tuple[str, int]) -> None:
    assert answer(address, b"GET /models HTTP/1.1\r\nno header\r\n\r\n").endswith(b"Invalid HTTP request received.")


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GET / HT"],
        [b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 20],
        [b"\r\n"] * 20,
        [GET, *[b"\r\n"] * 20],
        [GET, *[b"G", b"E", b"T", b" "], *[b"/"] * 20],
    ],
    ids=["silent", "half a head", "slow headers", "empty lines", "empty lines between", "a slow second head"],
)
def test_a_head_that_is_too_slow_is_hung_up_on(address: tuple[str, int], parts: list[bytes]) -> None:
    with socket.create_connection(address, timeout=8) as client:
        begun = time.monotonic()

        def drip() -> None:
            for part in parts:
                try:
                    client.sendall(part)
                except OSError:
                    return
                time.sleep(0.2)

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        read(client)
        assert time.monotonic() - begun < 3.5
        dripping.join()


@pytest.mark.parametrize("path", [b"/", b"/unread"])
@pytest.mark.parametrize("kind", [b"content-length: 100000", b"transfer-encoding: chunked"])
def test_a_body_that_is_too_slow_is_hung_up_on(address: tuple[str, int], path: bytes, kind: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nhost: localhost\r\n" + kind + b"\r\n\r\n"
    begun = time.monotonic()
    received = answer(address, head, *[b"1\r\na\r\n"] * 10, pause_s=0.2)
    assert time.monotonic() - begun < 4.5
    assert b"408" in received or path == b"/unread"


def test_a_body_has_an_end_in_time_however_fast_it_is(address: tuple[str, int]) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\n"
    assert b" 408 " in answer(address, head, *[b"a" * 2000] * 30, pause_s=0.1)


def test_an_answer_may_take_its_time(address: tuple[str, int]) -> None:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 3000\r\n\r\n"
    parts = [b"a" * 1000] * 3
    assert answer(address, head, *parts, pause_s=0.4).endswith(b"3000")


def test_the_silent_make_room_for_those_who_ask() -> None:
    with served(limit=20) as address, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(address, timeout=5))
        for _ in range(5):
            assert b"200 OK" in answer(address, GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))


def test_who_was_answered_last_stays_before_who_has_only_connected() -> None:
    """Though its request began before the other one connected."""
    with served(limit=3) as address, ExitStack() as stack:
        asking = stack.enter_context(socket.create_connection(address, timeout=5))
        asking.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n")
        time.sleep(0.1)
        silent = stack.enter_context(socket.create_connection(address, timeout=5))
        time.sleep(0.1)
        asking.sendall(b"1")
        assert b"200 OK" in asking.recv(65536)
        stack.enter_context(socket.create_connection(address, timeout=5))
        assert silent.recv(1) == b""
        asking.sendall(GET)
        assert b"200 OK" in asking.recv(65536)


Limit = tuple[int, int]


@pytest.mark.parametrize(
    ("limit", "raised", "connections"),
    [
        ((1024, 1 << 20), 5500, 5000),
        ((1024, 4096), 4096, 3596),
        ((1024, 1024), 1024, 524),
        ((256, 501), 501, 1),
        ((1 << 20, 1 << 20), 1 << 20, 5000),
    ],
)
def test_as_many_files_as_are_needed_may_be_open(
    monkeypatch: pytest.MonkeyPatch, limit: Limit, raised: int, connections: int
) -> None:
    state = [limit]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: state[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: state.append(limits))
    assert most_connections(400) == connections
    assert state[-1][0] == raised


def test_too_few_files_for_any_connection_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (500, 500))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    with pytest.raises(StartupError, match=r"500 files.* 500 with MSD_MAX_WATCHERS=400.*ulimit -n"):
        most_connections(400)


def post(address: tuple[str, int], path: bytes, size: int) -> float:
    """Seconds until a body is sent and the connection has answered what comes after it."""
    begun = time.monotonic()
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (path, size))
        client.sendall(bytes(size))
        client.sendall(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert read(client).count(b"200 OK") == 2
    return time.monotonic() - begun


def test_bodies_that_nobody_waits_for_are_read_slowly_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would take the time of all other connections."""
    monkeypatch.setattr(http_protocol, "UNWANTED_BYTES_PER_S", 10_000_000)
    with served() as address, ThreadPoolExecutor(2) as pool:
        assert max(pool.map(lambda _: post(address, b"/unread", 10_000_000), range(2))) > 1.5
        # Others are not, nor do they count.
        assert post(address, b"/", 60_000_000) < 4
        assert post(address, b"/unread", 1_000_000) < 4
