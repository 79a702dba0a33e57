"""Requests decode their pictures in turns, within a total, and only while their clients are there."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.requests import pictures
from app.requests.body import SMALL_BODY_BYTES, THREADS, Uploads
from app.requests.decoding import PictureLimits
from app.requests.intake import measure_request, parse_request
from app.requests.pictures import SentPictures
from app.requests.sizes import pixels_of
from app.requests.turns import ClientLeftError, Turn, Turns
from app.service.errors import HTTPProblem, InvalidRequestError
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import data_uri, good_request, good_subject, png_with_header

LARGE = 5000
PICTURE = good_subject()["image"]


def large_request(images: int) -> dict[str, Any]:
    """Its pictures claim to be large; none can be decoded."""
    uri = data_uri(png_with_header(LARGE, LARGE, b""))
    return good_request(subjects=[good_subject(image=None, images=[uri] * images)])


def test_too_many_pixels_together_are_refused_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pictures, "decode", fail)
    body = json.dumps(large_request(3)).encode()
    with pytest.raises(InvalidRequestError, match="75000000 pixels together") as caught:
        measure_request(body, PictureLimits(max_total=3 * LARGE**2 - 1))
    assert caught.value.errors[0].code == "picture_too_large"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_total_holds_however_the_body_is_written(encoding: str) -> None:
    with pytest.raises(InvalidRequestError, match="together"):
        measure_request(json.dumps(large_request(3)).encode(encoding), PictureLimits(max_total=3 * LARGE**2 - 1))


def test_pictures_within_the_total_are_read() -> None:
    body, limits = json.dumps(good_request()).encode(), PictureLimits(max_total=2 * 8 * 8)
    assert measure_request(body, limits) == 2 * 8 * 8
    assert len(parse_request(body, limits).request.subjects) == 2


def test_a_picture_that_is_too_large_alone_is_told_alone() -> None:
    body = json.dumps(large_request(1)).encode()
    limits = PictureLimits(max_pixels=100, max_total=100)
    assert measure_request(body, limits) == 0
    with pytest.raises(InvalidRequestError, match="larger than the limit of 100 pixels"):
        parse_request(body, limits)


def test_the_total_is_a_setting(settings: Settings) -> None:
    small = settings.model_copy(update={"max_request_pixels": 100})
    with TestClient(create_app(small)) as client:
        response = client.post("/generate", json=good_request())
    assert (response.status_code, response.json()["code"]) == (413, "picture_too_large")


@pytest.mark.parametrize(("served_before", "picture"), [(1000, 1), (0, 1000)])
def test_who_was_served_least_goes_first(served_before: int, picture: int) -> None:
    """The picture that would be decoded next counts too: a large one does not go before a small one that came later."""
    turns = Turns(at_once=1)
    served: list[str] = []
    large, small = Turn(turns), Turn(turns)
    large.pixels = served_before
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with Turn(turns).take(1):
            is_held.set()
            may_end.wait(10)

    def take(turn: Turn, name: str, pixels: int = 1) -> None:
        with turn.take(pixels):
            served.append(name)

    with ThreadPoolExecutor(3) as pool:
        pool.submit(hold)
        is_held.wait(10)
        first = pool.submit(take, large, "large", picture)
        wait_until(lambda: turns.waiting == 1, "the large request to wait")
        second = pool.submit(take, small, "small")
        wait_until(lambda: turns.waiting == 2, "the small request to wait")
        may_end.set()
        first.result(), second.result()
    assert served == ["small", "large"]


def test_new_small_requests_do_not_hold_up_a_large_one_for_ever() -> None:
    """There is always a new small request that waits."""
    turns = Turns(at_once=1)
    served: list[str] = []

    def take(name: str, pixels: int) -> None:
        with Turn(turns).take(pixels):
            served.append(name)
            if name == "small" and len(served) < 100:
                waiting = turns.waiting
                pool.submit(take, "small", 10)
                wait_until(lambda: turns.waiting > waiting, "the next small request to wait")

    with ThreadPoolExecutor(8) as pool:
        with Turn(turns).take(10):
            large = pool.submit(take, "large", 50)
            wait_until(lambda: turns.waiting == 1, "the large request to wait")
            pool.submit(take, "small", 10)
            wait_until(lambda: turns.waiting == 2, "the small request to wait")
        large.result()
        assert served.index("large") <= 5


def test_no_more_are_decoded_at_once_than_allowed() -> None:
    turns = Turns(at_once=2)
    at_work, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal at_work, most
        with Turn(turns).take(1):
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.02)
            with lock:
                at_work -= 1

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(16)]:
            future.result()
    assert most == 2


def test_a_turn_that_failed_is_free_again() -> None:
    turns = Turns(at_once=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), Turn(turns).take(1):
            raise ValueError("broken")


def test_a_request_is_charged_for_its_pictures() -> None:
    turn = Turn()
    sent = SentPictures(PictureLimits(), turn)
    sent.read(PICTURE, "shown")
    once = turn.pixels
    sent.read(PICTURE, "shown")
    assert (once > 0, turn.pixels) == (True, 2 * once)


def test_who_has_left_is_not_decoded() -> None:
    turn = Turn()
    turn.leave()
    with pytest.raises(ClientLeftError):
        SentPictures(PictureLimits(), turn).read(PICTURE, "shown")
    with pytest.raises(ClientLeftError):
        parse_request(b"{}", PictureLimits(), turn)


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """Of the API behind a real port."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the API")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_memory_for_bodies_is_shared() -> None:
    uploads = Uploads(SMALL_BODY_BYTES * 4)
    with uploads.open("ann") as large:
        uploads.grow(large, SMALL_BODY_BYTES * 4)
        with uploads.open("ann") as other, pytest.raises(HTTPProblem) as caught:
            uploads.grow(other, SMALL_BODY_BYTES + 1)
        assert caught.value.problem.code == "too_many_uploads"
        with uploads.open("ann") as small:
            uploads.grow(small, SMALL_BODY_BYTES)
    with uploads.open("ann") as later:
        uploads.grow(later, SMALL_BODY_BYTES * 4)


def test_a_process_that_stops_while_it_decodes_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(settings)

    def stop(*arguments: Any) -> Any:
        app.state.event_log.is_stopping = True
        time.sleep(2)
        raise AssertionError("answered too late")

    monkeypatch.setattr(pictures, "decode", stop)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.post("/generate", json=good_request())
    assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
    assert "retry-after" in response.headers


def test_what_a_client_that_left_had_sent_is_decoded_no_further(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, decoded = pictures.decode, []

    def decode_slowly(*arguments: Any) -> Any:
        decoded.append(time.monotonic())
        time.sleep(0.4)
        return decode(*arguments)

    monkeypatch.setattr(pictures, "decode", decode_slowly)
    request = good_request(subjects=[good_subject(image=None, images=[PICTURE] * 8)])

    async def leave() -> None:
        async with httpx2.AsyncClient(trust_env=False) as client:
            await asyncio.wait_for(client.post(f"{address}/generate", json=request), 0.3)

    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    time.sleep(3)
    assert 1 <= len(decoded) <= 5


def test_a_small_request_does_not_wait_for_all_of_large_ones(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = pictures.decode

    def decode_slowly(*arguments: Any) -> Any:
        time.sleep(0.2)
        return decode(*arguments)

    monkeypatch.setattr(pictures, "decode", decode_slowly)
    large = good_request(
        subjects=[good_subject(phrase=name, image=None, images=[PICTURE] * 8) for name in ("cat", "teapot")]
    )
    with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(client.post, "/generate", json=large) for _ in range(4)]
        time.sleep(0.7)
        begun = time.monotonic()
        assert client.post("/generate", json=good_request()).status_code == 202
        assert time.monotonic() - begun < 2
        assert not all(future.done() for future in futures)
        assert [future.result().status_code for future in futures] == [202] * 4


def test_a_small_request_waits_for_none_of_as_many_large_ones_as_there_are_threads(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, may_end = pictures.decode, threading.Event()

    def decode_when_told(encoded: bytes, *arguments: Any) -> Any:
        assert pixels_of(encoded) < LARGE**2 or may_end.wait(60)
        return decode(encoded, *arguments)

    monkeypatch.setattr(pictures, "decode", decode_when_told)
    count = THREADS + 8
    with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client, ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(client.post, "/generate", json=large_request(1)) for _ in range(count)]
        time.sleep(2)
        try:
            assert client.post("/generate", json=good_request(), timeout=10).status_code == 202
            assert not any(future.done() for future in futures)
        finally:
            may_end.set()
        assert [future.result().status_code for future in futures] == [422] * count
