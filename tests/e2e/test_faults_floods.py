"""One owner sends all that it can: the requests of others are still accepted in time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx2
import pytest
from PIL import Image

from ms_jobs.api_keys import ApiKeyStore, Scope
from tests.e2e.fault_service import SMALL, FaultService
from tests.support.sample_requests import good_request, good_subject, picture_uri

pytestmark = [pytest.mark.alone, pytest.mark.slow]

ACCEPTED_WITHIN_S = 5
CONNECTIONS = 16


@pytest.fixture(scope="module")
def service() -> Iterator[FaultService]:
    """With keys, and no worker: jobs wait."""
    with FaultService(MSD_AUTH="on", MSD_MAX_ASSET_MB="1") as service:
        service.start_redis()
        ApiKeyStore(service.client).create("first", "first")
        service.start_api()
        yield service


def key_of(service: FaultService, owner: str) -> dict[str, str]:
    text, _ = ApiKeyStore(service.client).create(owner, owner, (Scope.READ, Scope.GENERATE))
    return {"Authorization": f"Bearer {text}"}


def seconds_until_accepted(service: FaultService, key: dict[str, str], **changes: Any) -> float:
    begun = time.monotonic()
    answer = service.http.post("/generate", json=good_request(**{**SMALL, **changes}), headers=key)
    assert answer.status_code == 202, answer.text
    return time.monotonic() - begun


def test_while_one_owner_floods_the_decoders(service: FaultService) -> None:
    flood, other, is_over = key_of(service, "flood"), key_of(service, "other"), Event()
    huge, large = (picture_uri(Image.new("RGB", size, "teal")) for size in ((7000, 7000), (4000, 3000)))
    body = good_request(subjects=[good_subject(image=None, images=[huge] * 4)])

    def send() -> None:
        with httpx2.Client(base_url=service.http.base_url, timeout=None, trust_env=False) as client:
            while not is_over.is_set():
                try:
                    client.post("/generate", json=body, headers=flood, timeout=4)
                except httpx2.TimeoutException:
                    continue

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        senders = [pool.submit(send) for _ in range(CONNECTIONS)]
        try:
            time.sleep(2)
            assert seconds_until_accepted(service, other) < ACCEPTED_WITHIN_S
            subjects = [good_subject(image=large)]
            assert seconds_until_accepted(service, other, subjects=subjects) < ACCEPTED_WITHIN_S
        finally:
            is_over.set()
        assert [sender.result() for sender in senders] == [None] * CONNECTIONS


def test_while_one_owner_has_filled_its_room(service: FaultService) -> None:
    hoarder, other = key_of(service, "hoarder"), key_of(service, "neighbour")

    def upload(key: dict[str, str]) -> httpx2.Response:
        noise = Image.frombytes("RGB", (300, 300), os.urandom(270_000))
        return service.http.post("/assets", json={"image": picture_uri(noise)}, headers=key)

    answers = [upload(hoarder) for _ in range(8)]
    assert answers[0].status_code == 201
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "assets_full")
    assert seconds_until_accepted(service, other) < ACCEPTED_WITHIN_S
    assert upload(other).status_code == 201
