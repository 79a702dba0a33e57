"""Jobs of the live service watched live: nothing missed, nothing doubled, one end."""

from __future__ import annotations

import base64
import io
import random
import threading
import time
from typing import Any

import pytest
import redis
from PIL import Image

from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.event_source import ENDS, Event, watch, watched
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request

RECONNECTS = 20


def logged(service: HttpService, job_id: str) -> list[tuple[int, str]]:
    """Version and event of all transitions of a job, as Redis holds them."""
    with redis.Redis.from_url(service.redis_url, decode_responses=True) as client:
        entries: Any = client.xrange(f"msd:events:local:{job_id}")
    return [(int(entry_id.partition("-")[0]), fields["event"]) for entry_id, fields in entries]


def told(events: list[Event]) -> list[tuple[int | None, str]]:
    """The same, as a client was told."""
    return [
        (event.version, event.data["event"] if event.name == "status" else event.name)
        for event in events
        if event.name != "progress" and event.name != "preview"
    ]


def progress_of(events: list[Event]) -> list[int]:
    return [event.version for event in events if event.name == "progress" and event.version is not None]


def watch_with_breaks(service: HttpService, job_id: str, breaks: random.Random, most: int) -> list[Event]:
    """All events of a job, by a client that hangs up ``most`` times at random moments and comes back."""
    seen: list[Event] = []
    for count in range(most + 1):
        last = seen[-1].version if seen else None
        # The last time it stays to the end.
        take = breaks.randint(0, 3) if count < most else 10**6
        with watched(service.client, job_id, last) as events:
            for _ in range(take):
                event = next(events, None)
                if event is None:
                    return seen
                seen.append(event)
        time.sleep(breaks.uniform(0, 0.05))
    return seen


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_client_that_hangs_up_twenty_times_misses_and_doubles_nothing(service: HttpService, seed: int) -> None:
    service.wait_until_ready()
    request = good_request(width=128, height=128, num_inference_steps=60)
    job = service.submit(request)
    seen = watch_with_breaks(service, job["id"], random.Random(seed), RECONNECTS)
    assert told(seen) == logged(service, job["id"])
    assert progress_of(seen) == sorted(set(progress_of(seen)))
    assert [event.name for event in seen if event.name in ENDS] == ["succeeded"]
    assert seen[-1].name == "succeeded"
    # Few enough steps that none is trimmed before the job ends: there are no gaps.
    steps = [event.data["step"] for event in seen if event.name == "progress" and event.data["phase"] == "denoise"]
    assert steps == list(range(len(steps)))
    assert steps


def test_two_see_the_same(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.submit(good_request(**QUICK))
    others: list[Event] = []
    other = threading.Thread(target=lambda: others.extend(watch(service.client, job["id"])))
    other.start()
    events = watch(service.client, job["id"])
    other.join()
    assert told(events) == told(others) == logged(service, job["id"])


def test_coming_back_after_the_end(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.make(good_request(**QUICK))
    events = watch(service.client, job["id"], 1)
    assert [event.name for event in events] == ["status", "succeeded"]
    # All but the time that it took, which goes by the clock of who asks.
    assert events[-1].data == service.client.get(f"/jobs/{job['id']}").json()
    path, last = f"/jobs/{job['id']}/events", str(events[-1].version)
    assert service.client.get(path, headers={"Last-Event-ID": last}).status_code == 204
    assert service.client.get(path, params={"last_event_id": last}).status_code == 204


def test_a_cancel_is_seen(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.submit(good_request(**LONG))
    with watched(service.client, job["id"]) as events:
        next(event for event in events if event.name == "progress" and event.data["step"])
        assert service.client.post(f"/jobs/{job['id']}/cancel").status_code == 202
        rest = list(events)
    assert [event.data["event"] for event in rest if event.name == "status"] == ["cancel_requested"]
    assert rest[-1].name == "canceled"
    assert rest[-1].data["images"] == []


def test_a_job_that_is_deleted_while_it_runs(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.submit(good_request(**LONG))
    with watched(service.client, job["id"]) as events:
        next(event for event in events if event.name == "progress" and event.data["step"])
        assert service.client.delete(f"/jobs/{job['id']}").status_code == 204
        rest = list(events)
    # Seen at the very moment it may end as canceled; either way that is the end, and there is nothing to come back to.
    assert [event.name for event in rest if event.name in ENDS] == [rest[-1].name]
    assert rest[-1].name in ("canceled", "gone")
    wait_until(lambda: service.client.get(f"/jobs/{job['id']}/events").status_code == 410, "the job to be gone")


def test_previews_are_small_pictures_of_what_comes(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.submit(good_request(width=128, height=64, num_inference_steps=100, previews=True))
    events = watch(service.client, job["id"], preview="true")
    previews = [event.data for event in events if event.name == "preview"]
    assert previews
    for preview in previews:
        content = base64.b64decode(preview["data"])
        assert len(content) <= 6 * 1024
        with Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, picture.size) == ("WEBP", (128, 64))
        assert (preview["index"], preview["content_type"]) == (0, "image/webp")
    assert [preview["step"] for preview in previews] == sorted(preview["step"] for preview in previews)


def test_no_previews_unless_requested(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.submit(good_request(**QUICK))
    events = watch(service.client, job["id"], preview="true")
    assert "preview" not in [event.name for event in events]


def test_a_restart_of_redis_is_survived(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.submit(good_request(width=256, height=256, num_inference_steps=100))
    seen: list[Event] = []
    with watched(service.client, job["id"]) as events:
        seen += [next(events) for _ in range(4)]
        service.kill_redis()
        seen += list(events)
    service.start_redis()
    while seen[-1].name not in ENDS:
        wait_until(lambda: service.client.get(f"/jobs/{job['id']}").status_code == 200, "the service to recover")
        seen += watch(service.client, job["id"], seen[-1].version)
    assert seen[-1].name == "succeeded"
    assert told(seen) == logged(service, job["id"])
    assert progress_of(seen) == sorted(set(progress_of(seen)))
