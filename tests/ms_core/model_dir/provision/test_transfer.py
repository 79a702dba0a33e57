"""A big file over HTTP: what is there is not asked for again, and what arrives is what was published."""

from __future__ import annotations

import fcntl
import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from ms_core.errors import DownloadError
from ms_core.model_dir.provision import transfer
from ms_core.model_dir.provision.transfer import Blob, fetch_blob, partial_path
from tests.support.hub_server import Hub, HubServer, Request

DATA = random.Random(0).randbytes(1_000_003)
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = "weights.safetensors"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    hub.publish("a/b", {FILE: DATA})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(transfer, "_CHUNK_BYTES", 64 * 1024)
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    return hub


@pytest.fixture
def blob(hub: Hub) -> Iterator[Blob]:
    with HubServer(hub) as server:
        yield Blob("the weights", f"{server.endpoint}/a/b/resolve/main/{FILE}", len(DATA), SHA256)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return tmp_path / "blobs" / SHA256


def leave(whole: Path, data: bytes) -> None:
    """As an earlier transfer would have left it."""
    whole.parent.mkdir()
    partial_path(whole).write_bytes(data)


def transfers(hub: Hub) -> list[Request]:
    return hub.transfers(FILE)


def test_a_file_arrives_whole(hub: Hub, blob: Blob, whole: Path) -> None:
    counts: list[int] = []
    fetch_blob(blob, whole, counts.append)
    assert whole.read_bytes() == DATA
    assert sum(counts) == len(DATA)
    assert len(counts) > 10
    assert [(request.range, request.sent) for request in transfers(hub)] == [(None, len(DATA))]
    assert not partial_path(whole).exists()


def test_what_an_earlier_transfer_left_is_not_asked_for_again(hub: Hub, blob: Blob, whole: Path) -> None:
    leave(whole, DATA[:400_000])
    counts: list[int] = []
    fetch_blob(blob, whole, counts.append)
    assert whole.read_bytes() == DATA
    assert sum(counts) == len(DATA) - 400_000
    [request] = transfers(hub)
    assert (request.status, request.range, request.sent) == (206, "bytes=400000-", len(DATA) - 400_000)


def test_what_was_left_complete_is_not_asked_for_at_all(hub: Hub, blob: Blob, whole: Path) -> None:
    leave(whole, DATA)
    fetch_blob(blob, whole, lambda count: None)
    assert whole.read_bytes() == DATA
    assert transfers(hub) == []


def test_a_broken_connection_is_taken_up_again(hub: Hub, blob: Blob, whole: Path) -> None:
    hub.broken_off = 500_000
    fetch_blob(blob, whole, lambda count: None)
    assert whole.read_bytes() == DATA
    first, second = transfers(hub)
    assert (first.range, second.status) == (None, 206)
    begin = int(str(second.range).removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= first.sent < len(DATA)


def test_a_transfer_that_ends_short_without_a_word_is_taken_up_again(hub: Hub, blob: Blob, whole: Path) -> None:
    hub.tells_length, hub.broken_off = False, 500_000
    counts: list[int] = []
    fetch_blob(blob, whole, counts.append)
    assert whole.read_bytes() == DATA
    assert sum(counts) == len(DATA)
    first, second = transfers(hub)
    assert (first.range, second.range) == (None, f"bytes={first.sent}-")


@pytest.mark.parametrize("left", [b"", DATA])
def test_a_file_shorter_than_published_is_refused(hub: Hub, blob: Blob, whole: Path, left: bytes) -> None:
    longer = replace(blob, size=len(DATA) + 5)
    leave(whole, left)
    counts: list[int] = []
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch_blob(longer, whole, counts.append)
    assert sum(counts) == -len(left)
    assert list(whole.parent.iterdir()) == []


def test_a_server_without_ranges_sends_all_again(hub: Hub, blob: Blob, whole: Path) -> None:
    hub.knows_ranges = False
    leave(whole, DATA[:400_000])
    counts: list[int] = []
    fetch_blob(blob, whole, counts.append)
    assert whole.read_bytes() == DATA
    assert sum(counts) == len(DATA) - 400_000


@pytest.mark.parametrize("left", [bytes(400_000), bytes(len(DATA)), bytes(len(DATA) + 5)])
def test_something_wrong_that_was_left_is_fetched_anew(hub: Hub, blob: Blob, whole: Path, left: bytes) -> None:
    leave(whole, left)
    fetch_blob(blob, whole, lambda count: None)
    assert whole.read_bytes() == DATA
    assert transfers(hub)[-1].range is None


def test_what_is_not_as_published_is_refused(hub: Hub, blob: Blob, whole: Path) -> None:
    hub.altered.add(FILE)
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch_blob(blob, whole, lambda count: None)
    assert list(whole.parent.iterdir()) == []


def test_two_processes_do_not_write_one_file(blob: Blob, whole: Path) -> None:
    leave(whole, DATA[:10])
    with partial_path(whole).open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="Another process is fetching the weights"):
            fetch_blob(blob, whole, lambda count: None)
    assert partial_path(whole).read_bytes() == DATA[:10]


def test_a_refusal_in_between_is_not_tried_again(hub: Hub, blob: Blob, whole: Path) -> None:
    hub.refusals["a/b"] = (403, "")
    with pytest.raises(HfHubHTTPError, match="403"):
        fetch_blob(blob, whole, lambda count: None)
    assert len(hub.log) == 1


def test_a_hub_that_stumbles_is_asked_again(hub: Hub, blob: Blob, whole: Path) -> None:
    hub.refusals["a/b"] = (503, "")
    with pytest.raises(HfHubHTTPError, match="503"):
        fetch_blob(blob, whole, lambda count: None)
    assert len(hub.log) == 5


def test_a_server_that_is_gone_leaves_what_came(tmp_path: Path, hub: Hub, whole: Path) -> None:
    with HubServer(hub) as server:
        url = f"{server.endpoint}/a/b/resolve/main/{FILE}"
    leave(whole, DATA[:10])
    with pytest.raises(httpx2.ConnectError):
        fetch_blob(Blob("the weights", url, len(DATA), SHA256), whole, lambda count: None)
    assert partial_path(whole).read_bytes() == DATA[:10]
