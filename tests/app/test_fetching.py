"""Pictures by address: whatever a server, a name or a redirect tries, only public hosts are reached, and not for long."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from app.config import Settings
from app.requests import fetching
from app.requests.fetching import NOT_FETCHED, Fetched, Fetcher
from app.requests.guard import SystemLookup, is_public
from app.service.errors import HTTPProblem
from ms_core.errors import InvalidInputError, PictureNotFetchedError, PictureTooLargeError
from tests.support.hostile_server import PUBLIC, World, answer, endless, redirect, world
from tests.support.sample_requests import drawing, encoded

CAT = encoded(drawing("orange"))
ADDRESS = "https://pictures.example/cat.png"
# For what answers; a busy machine is no reason to fail.
TIMEOUT_S = 20.0
SHORT_S = 0.5


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def outside(authority: trustme.CA) -> Iterator[World]:
    with world(authority) as made:
        made.server.answers["/cat.png"] = answer(CAT)
        yield made


class Limit:
    """Counts up to a limit."""

    def __init__(self, most: int) -> None:
        self.counted = 0
        self._most = most

    def __call__(self, by: int) -> None:
        self.counted += by
        if self.counted > self._most:
            raise PictureTooLargeError("too large")


def fetched(
    outside: World, *texts: str, hosts: str = "*", limit: Limit | None = None, timeout_s: float = TIMEOUT_S
) -> Fetched:
    """What a request that names these addresses gets."""
    fetcher = Fetcher(Settings(fetch_hosts=hosts, fetch_timeout_s=timeout_s))
    fetcher.network = outside.network
    found = fetcher.of_request()
    assert found is not None
    for text in texts:
        with pytest.raises(PictureNotFetchedError):
            found.find(text)
    asyncio.run(fetcher.fetch(found, "local", limit or Limit(1 << 20)))
    return found


def fetch(outside: World, text: str = ADDRESS, **options: Any) -> bytes:
    return fetched(outside, text, **options).find(text)


def refusal(outside: World, text: str = ADDRESS, **options: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        fetch(outside, text, **options)
    return caught.value


def require_not_fetched(outside: World, text: str = ADDRESS, **options: Any) -> None:
    """The same words for whatever stands in the way."""
    error = refusal(outside, text, **options)
    assert (type(error), error.detail) == (PictureNotFetchedError, NOT_FETCHED)


def test_a_picture_is_fetched_from_the_address_that_was_looked_up(outside: World) -> None:
    assert fetch(outside) == CAT
    assert (outside.backend.connected, outside.lookups.asked) == ([(PUBLIC, 443)], ["pictures.example"])


def test_the_next_address_is_tried(outside: World) -> None:
    outside.lookups.answers["pictures.example"] = [["2606:2800:220:1::1", PUBLIC]]
    outside.backend.silent.add("2606:2800:220:1::1")
    assert fetch(outside) == CAT


REFUSED = (
    ["127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"]
    + ["224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.9", "192.0.2.1", "198.18.0.1", "192.88.99.1"]
    + [
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ]
    + [
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
    ]
    + [
        "64:ff9b:1::127.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "2001:0:7f00:1::1",
        "2001:db8::1",
    ]
    + ["3fff::1", "100::1", "5f00::1", "2001:2::1", "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1"]
    + ["localhost", "", "0177.0.0.1", "2130706433"]
)


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::8.8.8.8"])
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("answered", [["127.0.0.1"], ["169.254.169.254"], [PUBLIC, "10.0.0.1"], ["::1", PUBLIC], []])
def test_a_name_with_any_address_inside_is_not_connected_to(outside: World, answered: list[str]) -> None:
    outside.lookups.answers["pictures.example"] = [answered]
    require_not_fetched(outside)
    assert outside.backend.connected == []


def test_a_name_is_looked_up_once_whatever_it_stands_for_later(outside: World) -> None:
    outside.lookups.answers["pictures.example"] = [[PUBLIC], ["127.0.0.1"]]
    outside.server.answers["/moved"] = redirect("/cat.png")
    assert fetch(outside, "https://pictures.example/moved") == CAT
    assert outside.backend.connected == [(PUBLIC, 443)] * 2
    assert outside.lookups.asked == ["pictures.example"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "::ffff:127.0.0.1", "8.8.8.8"])
def test_a_connection_that_ends_elsewhere_is_dropped(outside: World, peer: str) -> None:
    outside.backend.peers[PUBLIC] = peer
    require_not_fetched(outside)
    assert outside.server.asked == []


def test_each_hop_is_looked_at(outside: World) -> None:
    outside.server.answers["/moved"] = redirect("https://other.example/cat.png")
    outside.lookups.answers["other.example"] = [["8.8.8.8"]]
    outside.backend.peers["8.8.8.8"] = "127.0.0.1"
    require_not_fetched(outside, "https://pictures.example/moved")
    assert outside.server.asked == ["/moved"]


@pytest.mark.parametrize(
    "to",
    [
        "https://127.0.0.1/cat.png",
        "https://localhost/cat.png",
        "https://inside.example/cat.png",
        "https://[::1]/cat.png",
    ]
    + ["https://2130706433/cat.png", "https://user@other.example/cat.png", "https://other.example:8443/cat.png"]
    + ["http://other.example/cat.png", "//127.0.0.1/cat.png", "file:///etc/passwd", "https://evil.example/cat.png", ""]
    + ["https://%31.example/", "https://\xff.example/"],
)
def test_a_redirect_leads_nowhere_else(outside: World, to: str) -> None:
    outside.lookups.answers["inside.example"] = [["127.0.0.1"]]
    outside.server.answers["/moved"] = redirect(to)
    hosts = "pictures.example,other.example,inside.example"
    require_not_fetched(outside, "https://pictures.example/moved", hosts=hosts)
    assert set(outside.server.asked) == {"/moved"}


@pytest.mark.parametrize(("redirects", "is_fetched"), [(3, True), (4, False)])
def test_three_redirects_are_followed(outside: World, redirects: int, is_fetched: bool) -> None:
    outside.server.answers |= {f"/{left}": redirect(f"/{left - 1}") for left in range(1, redirects + 1)}
    outside.server.answers["/0"] = answer(CAT)
    start = f"https://pictures.example/{redirects}"
    if is_fetched:
        assert fetch(outside, start) == CAT
    else:
        require_not_fetched(outside, start)


def test_a_loop_of_redirects_ends(outside: World) -> None:
    outside.server.answers["/loop"] = redirect("https://other.example/loop")
    require_not_fetched(outside, "https://pictures.example/loop")
    assert outside.server.asked == ["/loop"] * 4


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "drip",
    [
        endless(OK + b"Content-Length: 1000000\r\n\r\n", b"x", 0.02),
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.02),
        endless(OK, b"a: b\r\n", 0.02),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
        endless(b"", b"", 0.1),
    ],
    ids=["body", "chunks", "headers", "continue", "silence"],
)
def test_a_slow_drip_ends(outside: World, drip: Any) -> None:
    outside.server.answers["/drip"] = drip
    start = time.monotonic()
    require_not_fetched(outside, "https://pictures.example/drip", timeout_s=SHORT_S)
    assert time.monotonic() - start < TIMEOUT_S / 2


def test_all_pictures_of_a_request_have_one_time(outside: World) -> None:
    outside.server.answers |= {f"/{number}": endless(OK + b"\r\n", b"x", 0.02) for number in range(12)}
    texts = [f"https://pictures.example/{number}" for number in range(12)]
    start = time.monotonic()
    found = fetched(outside, *texts, ADDRESS, timeout_s=SHORT_S)
    assert time.monotonic() - start < 2 * SHORT_S + 1
    for text in texts:
        with pytest.raises(PictureNotFetchedError):
            found.find(text)


def test_a_name_server_that_is_silent_ends(outside: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: left.wait(10))
    outside.network.lookup = SystemLookup()
    start = time.monotonic()
    require_not_fetched(outside, timeout_s=SHORT_S)
    assert time.monotonic() - start < TIMEOUT_S / 2
    left.set()


def test_this_machine_looks_names_up(outside: World, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    assert asyncio.run(SystemLookup()("pictures.example", 443)) == [PUBLIC]


@pytest.mark.parametrize("start", [b"Content-Length: 99999999999\r\n\r\n", b"\r\n"], ids=["declared", "undeclared"])
def test_a_huge_body_ends_at_the_limit(outside: World, start: bytes) -> None:
    outside.server.answers["/huge"] = endless(OK + start, b"x" * 65536)
    limit = Limit(200_000)
    error = refusal(outside, "https://pictures.example/huge", limit=limit)
    assert type(error) is PictureTooLargeError
    assert limit.counted <= 200_000 + 65536


def test_pictures_are_counted_together(outside: World) -> None:
    outside.server.answers |= {f"/{number}": answer(b"x" * 1000) for number in range(4)}
    texts = [f"https://pictures.example/{number}" for number in range(4)]
    found = fetched(outside, *texts, limit=Limit(3500))
    lengths: list[int] = []
    for text in texts:
        try:
            lengths.append(len(found.find(text)))
        except PictureTooLargeError:
            lengths.append(0)
    assert sorted(lengths) == [0, 1000, 1000, 1000]


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "gzip, gzip"])
def test_a_compressed_answer_is_not_unpacked(outside: World, encoding: str) -> None:
    outside.server.answers["/bomb"] = answer(gzip.compress(bytes(10_000_000)), content_encoding=encoding)
    require_not_fetched(outside, "https://pictures.example/bomb")


@pytest.mark.parametrize(
    "given",
    [
        answer(CAT, content_length=str(len(CAT) + 1)),
        answer(CAT, content_length="-1"),
        answer(CAT, content_length=f"{len(CAT)}, 7"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"\x00" * 300_000,
        b"a" * 300_000,
        OK + b"a: " + b"b" * 300_000,
        b"",
        answer(CAT, "404 Not Found"),
        answer(CAT, "206 Partial Content"),
        answer(CAT, "101 Switching Protocols", connection="upgrade", upgrade="x"),
        answer(CAT, "500 Oops"),
    ],
)
def test_a_broken_answer_is_no_picture(outside: World, given: bytes) -> None:
    outside.server.answers["/cat.png"] = given
    require_not_fetched(outside)


def test_no_more_is_read_than_was_declared(outside: World) -> None:
    outside.server.answers["/cat.png"] = answer(CAT, content_length="10")
    assert fetch(outside) == CAT[:10]


def test_a_certificate_of_another_host_is_refused(outside: World) -> None:
    require_not_fetched(outside, "https://elsewhere.example/cat.png")
    assert outside.server.asked == []


def test_a_certificate_of_an_unknown_authority_is_refused(outside: World) -> None:
    outside.network.certificates = Fetcher(Settings()).network.certificates
    require_not_fetched(outside)
    assert outside.server.asked == []


def test_proxies_of_the_environment_are_not_used(outside: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert fetch(outside) == CAT
        proxy.settimeout(0.05)
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_what_fails_is_logged_without_the_path(outside: World, caplog: pytest.LogCaptureFixture) -> None:
    outside.lookups.answers["pictures.example"] = [["10.0.0.1"]]
    caplog.set_level("INFO", "app")
    require_not_fetched(outside, f"{ADDRESS}?signature=secret")
    (record,) = (record for record in caplog.records if record.name == "app.requests.fetching")
    assert (record.__dict__["host"], record.__dict__["reason"]) == (
        "pictures.example",
        "RefusedError: addresses 10.0.0.1",
    )
    assert "secret" not in str(record.__dict__)


def test_few_requests_fetch_at_a_time(outside: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MOST_REQUESTS", 0)
    with pytest.raises(HTTPProblem, match="try again"):
        fetch(outside)


def test_whoever_leaves_is_fetched_nothing_further(outside: World) -> None:
    ended = threading.Event()

    def drip(connection: Any) -> None:
        try:
            endless(OK + b"\r\n", b"x", 0.01)(connection)
        finally:
            ended.set()

    outside.server.answers["/drip"] = drip
    fetcher = Fetcher(Settings(fetch_hosts=("*",), fetch_timeout_s=60))
    fetcher.network = outside.network

    async def leave() -> None:
        found = fetcher.of_request()
        assert found is not None
        with pytest.raises(PictureNotFetchedError):
            found.find("https://pictures.example/drip")
        task = asyncio.create_task(fetcher.fetch(found, "local", lambda by: None))
        while not outside.server.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The connection ends, while the process goes on.
        assert await asyncio.to_thread(ended.wait, 5)

    asyncio.run(leave())
