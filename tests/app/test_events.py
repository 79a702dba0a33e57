"""A job watched live: the API in this process behind a real port, a real Redis, and tests that play the worker."""

from __future__ import annotations

import base64
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import fastapi.routing
import httpx2
import jsonschema
import pytest
import uvicorn

from app.config import Settings
from app.jobs.event_log import EventLog
from app.jobs.watch import DATA_OF_EVENT
from app.main import create_app
from ms_jobs.job_store import PROGRESS_ENTRIES
from ms_jobs.outcomes import Gone, Requeue
from ms_jobs.records import JobError, JobState
from tests.support.event_source import Event, read_events, watch, watched
from tests.support.job_helpers import Desk, wait_until
from worker.redis_server import RedisServer

WEBP = b"RIFF....WEBP"


@contextmanager
def served(settings: Settings) -> Generator[tuple[httpx2.Client, EventLog]]:
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the API")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client, app.state.event_log
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def service(settings: Settings) -> Iterator[tuple[httpx2.Client, EventLog]]:
    with served(settings) as service:
        yield service


@pytest.fixture
def client(service: tuple[httpx2.Client, EventLog]) -> httpx2.Client:
    return service[0]


@pytest.fixture
def event_log(service: tuple[httpx2.Client, EventLog]) -> EventLog:
    return service[1]


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    desk = Desk.open(settings.redis_url, settings.data_dir, settings.model)
    yield desk
    desk.client.close()


def advance(desk: Desk, job_id: str, step: int, preview: bytes = b"") -> None:
    desk.jobs.progress(job_id, desk.get(job_id).attempt, preview, phase="denoise", step=step, steps=4)


def finish(desk: Desk, job_id: str, state: JobState = JobState.SUCCEEDED) -> None:
    desk.jobs.finish(job_id, desk.get(job_id).attempt, state)


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def test_the_whole_life_of_a_job(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    with watched(client, job_id) as events:
        queued, running = next(events), next(events)
        advance(desk, job_id, 1)
        progress = next(events)
        finish(desk, job_id)
        [end] = events
    assert (queued.name, queued.data["event"], queued.data["status"]) == ("status", "queued", "queued")
    assert (running.data["status"], running.data["attempt"]) == ("running", 1)
    assert progress == Event("progress", 3, {"phase": "denoise", "step": 1, "steps": 4, "fraction": 0.25})
    assert [queued.version, running.version, end.version] == [1, 2, 4]
    assert end.name == "succeeded"


def test_the_last_event_carries_the_whole_job(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    finish(desk, job_id)
    shown = client.get(f"/jobs/{job_id}").json()
    assert watch(client, job_id)[-1].data == shown


@pytest.mark.parametrize("state", ["failed", "canceled", "expired"])
def test_the_last_event_is_called_as_the_state(client: httpx2.Client, desk: Desk, state: str) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    finish(desk, job_id, JobState(state))
    assert names(watch(client, job_id)) == ["status", "status", state]


def test_a_cancel_is_seen_before_the_end(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    with watched(client, job_id, last_event_id=2) as events:
        client.post(f"/jobs/{job_id}/cancel")
        asked = next(events)
        finish(desk, job_id)
        [end] = events
    assert (asked.data["event"], asked.data["status"], asked.data["cancel_requested"]) == (
        "cancel_requested",
        "running",
        True,
    )
    assert end.name == "canceled"


def test_a_second_attempt_is_told(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    desk.jobs.requeue(job_id, 1, Requeue.ABANDONED, JobError(code="abandoned", detail="Gone."))
    desk.begin(job_id, "w2")
    finish(desk, job_id)
    told = [(event.data["event"], event.data["attempt"]) for event in watch(client, job_id)[:-1]]
    assert told == [("queued", 0), ("running", 1), ("abandoned", 1), ("running", 2)]


def test_coming_back_misses_and_doubles_nothing(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    advance(desk, job_id, 1)
    advance(desk, job_id, 2)
    with watched(client, job_id, last_event_id=3) as events:
        assert next(events).version == 4


def test_the_parameter_does_what_the_header_does(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    finish(desk, job_id)
    response = client.get(f"/jobs/{job_id}/events?last_event_id=2")
    assert [event.version for event in read_events(response.text.splitlines())] == [3]


def test_the_header_wins(client: httpx2.Client, desk: Desk) -> None:
    """A browser that comes back asks the same address with a new header."""
    job_id = desk.submit()
    desk.begin(job_id)
    finish(desk, job_id)
    response = client.get(f"/jobs/{job_id}/events?last_event_id=1", headers={"Last-Event-ID": "2"})
    assert "id: 2" not in response.text


@pytest.mark.parametrize("last_event_id", ["", "x", "-1", "1e3", "99", "9" * 400])
def test_an_id_of_no_event_begins_anew(client: httpx2.Client, desk: Desk, last_event_id: str) -> None:
    job_id = desk.submit()
    client.post(f"/jobs/{job_id}/cancel")
    response = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": last_event_id})
    assert "id: 1\n" in response.text


def test_after_the_last_event_there_is_nothing(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    client.post(f"/jobs/{job_id}/cancel")
    last = watch(client, job_id)[-1].version
    response = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)})
    assert (response.status_code, response.content) == (204, b"")


def test_old_progress_is_trimmed_and_nothing_else(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    for step in range(100):
        advance(desk, job_id, step % 4)
    with watched(client, job_id) as events:
        seen = [next(events) for _ in range(2 + PROGRESS_ENTRIES)]
    assert names(seen) == ["status"] * 2 + ["progress"] * PROGRESS_ENTRIES
    assert [event.version for event in seen[2:]] == list(range(103 - PROGRESS_ENTRIES, 103))


def test_previews_are_sent_to_those_who_ask(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    advance(desk, job_id, 1, WEBP)
    with watched(client, job_id, 2, preview="true") as events:
        progress, preview = next(events), next(events)
    assert (progress.name, progress.data["step"]) == ("progress", 1)
    data = {"index": 0, "step": 1, "content_type": "image/webp", "data": base64.b64encode(WEBP).decode()}
    assert preview == Event("preview", 3, data)


def test_previews_are_not_sent_to_others(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    advance(desk, job_id, 1, WEBP)
    with watched(client, job_id, 2) as events:
        progress = next(events)
        finish(desk, job_id)
        assert [progress.name, *names(list(events))] == ["progress", "succeeded"]


def test_only_the_newest_preview_is_sent(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    advance(desk, job_id, 1, b"old")
    advance(desk, job_id, 2, b"new")
    with watched(client, job_id, 2, preview="true") as events:
        seen = [next(events) for _ in range(3)]
    assert names(seen) == ["progress", "progress", "preview"]
    assert base64.b64decode(seen[2].data["data"]) == b"new"


def test_events_are_as_they_are_documented(client: httpx2.Client, desk: Desk, document: dict[str, Any]) -> None:
    components = document["components"]
    job_id, other_id = desk.submit(), desk.submit()
    desk.begin(job_id)
    advance(desk, job_id, 1, WEBP)
    with watched(client, job_id, preview="true") as events:
        seen = [next(events) for _ in range(4)]
        finish(desk, job_id)
        seen += events
    with watched(client, other_id) as events:
        next(events)
        desk.jobs.erase(other_id, Gone.DELETED)
        seen += events
    assert names(seen) == ["status", "status", "progress", "preview", "succeeded", "gone"]
    for event in seen:
        schema = {"$ref": f"#/components/schemas/{DATA_OF_EVENT[event.name].__name__}", "components": components}
        jsonschema.Draft202012Validator(schema).validate(event.data)


def test_an_unknown_job(client: httpx2.Client) -> None:
    response = client.get("/jobs/0123456789abcdef0123/events")
    assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


def test_a_job_that_is_gone(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    desk.jobs.erase(job_id, Gone.DELETED)
    response = client.get(f"/jobs/{job_id}/events")
    assert (response.status_code, response.json()["code"]) == (410, "job_gone")


def test_a_job_that_goes_while_it_is_watched(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    with watched(client, job_id) as events:
        next(events)
        desk.jobs.erase(job_id, Gone.DELETED)
        [end] = events
    assert (end.name, end.version, end.data["code"]) == ("gone", None, "job_gone")


def test_a_client_is_told_when_to_come_back(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    client.post(f"/jobs/{job_id}/cancel")
    assert client.get(f"/jobs/{job_id}/events").text.startswith("retry: 1000\n\n")


def test_the_line_is_kept_alive(client: httpx2.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    job_id = desk.submit()
    with client.stream("GET", f"/jobs/{job_id}/events", headers={"Last-Event-ID": "1"}) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(3)] == ["retry: 1000", "", ": ping"]


def test_a_client_that_hangs_up_frees_its_place(client: httpx2.Client, desk: Desk, event_log: EventLog) -> None:
    job_id = desk.submit()
    with watched(client, job_id) as events:
        next(events)
        assert event_log.watchers == 1
        before = desk.client.info("clients")["connected_clients"]
    wait_until(lambda: event_log.watchers == 0, "the place to be free", patience_s=10)
    wait_until(lambda: desk.client.info("clients")["connected_clients"] < before, "its connection to close", 10)


def test_a_client_that_hangs_up_amid_events_is_no_mistake_of_ours(
    client: httpx2.Client, desk: Desk, event_log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = desk.submit()
    desk.begin(job_id)
    for step in range(60):
        advance(desk, job_id, step)
    for _ in range(20):
        with watched(client, job_id) as events:
            next(events)
        wait_until(lambda: event_log.watchers == 0, "the end of the stream")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert 'route="/jobs/{job_id}/events",status="500"' not in client.get("/metrics").text


def test_too_many_watchers(settings: Settings, desk: Desk) -> None:
    job_id = desk.submit()
    with served(settings.model_copy(update={"max_watchers": 1})) as (client, event_log):
        with watched(client, job_id) as events:
            next(events)
            response = client.get(f"/jobs/{job_id}/events")
        assert (response.status_code, response.json()["code"]) == (503, "too_many_watchers")
        assert "retry-after" in response.headers
        wait_until(lambda: event_log.watchers == 0, "the place to be free", patience_s=10)
        with watched(client, job_id) as events:
            assert next(events).name == "status"


def test_a_process_that_ends_lets_its_watchers_go(client: httpx2.Client, desk: Desk, event_log: EventLog) -> None:
    job_id = desk.submit()
    with watched(client, job_id) as events:
        next(events)
        event_log.is_stopping = True
        assert list(events) == []


def test_two_watch_one_job(client: httpx2.Client, desk: Desk) -> None:
    job_id = desk.submit()
    with watched(client, job_id) as first, watched(client, job_id) as second:
        desk.begin(job_id)
        finish(desk, job_id)
        assert list(first) == list(second)


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("own-redis")
    server = RedisServer(folder, log_file=folder / "redis.log")
    server.start()
    yield server
    server.stop()


def test_redis_is_away_at_the_start(settings: Settings, own_redis: RedisServer) -> None:
    with served(settings.model_copy(update={"redis_url": own_redis.url})) as (client, _):
        own_redis.stop()
        response = client.get("/jobs/0123456789abcdef0123/events")
    assert (response.status_code, response.json()["code"]) == (503, "queue_unavailable")
    assert "retry-after" in response.headers


def test_redis_goes_away_while_a_job_is_watched(settings: Settings, own_redis: RedisServer) -> None:
    settings = settings.model_copy(update={"redis_url": own_redis.url})
    desk = Desk.open(own_redis.url, settings.data_dir, settings.model)
    job_id = desk.submit()
    with served(settings) as (client, event_log):
        with watched(client, job_id) as events:
            next(events)
            own_redis.stop()
            # The stream ends as a whole answer does: without an error, and without a last event.
            assert list(events) == []
        wait_until(lambda: event_log.watchers == 0, "the place to be free", patience_s=10)


def test_redis_comes_back(settings: Settings, own_redis: RedisServer) -> None:
    settings = settings.model_copy(update={"redis_url": own_redis.url})
    desk = Desk.open(own_redis.url, settings.data_dir, settings.model)
    job_id = desk.submit()
    with served(settings) as (client, _):
        with watched(client, job_id) as events:
            seen = next(events).version
            own_redis.stop()
            list(events)
        own_redis.start()
        desk.begin(job_id)
        finish(desk, job_id)
        assert [event.version for event in watch(client, job_id, seen)] == [2, 3]
