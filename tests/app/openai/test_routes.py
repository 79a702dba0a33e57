"""OpenAI's interface with a played worker: answers, streams, errors, and retries that run once."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import redis
from starlette.requests import Request
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.openai.retries import is_retry
from app.openai.subjects import NO_BOXES
from ms_jobs.job_store import JobStore
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobError, JobRecord, JobState
from tests.support.job_helpers import wait_until
from tests.support.played_worker import PNG, PlayedWorker
from tests.support.sample_requests import drawing, encoded, good_request

CAT, TEAPOT = encoded(drawing("orange")), encoded(drawing("teal"))
FILES = [("image[]", ("cat.png", CAT)), ("image[]", ("blob", TEAPOT, "application/octet-stream"))]
SUBJECTS = json.dumps(
    [{"phrase": "cat", "box": [0.05, 0.3, 0.45, 0.8]}, {"phrase": "teapot", "box": [0.55, 0.3, 0.95, 0.8]}]
)
FIELDS = {"prompt": "a cat and a teapot", "subjects": SUBJECTS}
RETRY = {"x-stainless-retry-count": "1"}
EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"retry_window_s": 1.0})


@pytest.fixture
def queue(redis_client: redis.Redis, settings: Settings) -> JobQueue:
    return JobQueue(redis_client, settings.model)


class Working:
    """A worker that ends each job soon after it is queued."""

    def __init__(self, worker: PlayedWorker, queue: JobQueue) -> None:
        self.worker = worker
        self._queue = queue
        self.error: JobError | None = None
        self.done: list[str] = []

    def waiting(self) -> JobRecord | None:
        return next(iter(self._queue.waiting()), None)

    def next(self) -> JobRecord:
        """The next job in the queue."""
        return wait_until(self.waiting, "a job", 20)

    def end(self, job: JobRecord) -> None:
        self.done.append(job.id)
        if self.error is None:
            self.worker.succeed(job.id)
        else:
            self.worker.fail(job.id, self.error)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        is_over = threading.Event()

        def work() -> None:
            while not is_over.wait(0.02):
                if (job := self.waiting()) is not None:
                    self.end(job)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@pytest.fixture
def working(worker: PlayedWorker, queue: JobQueue) -> Working:
    return Working(worker, queue)


def edit(client: TestClient, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
    return client.post(EDITS, data=FIELDS | fields, files=FILES, headers=headers)


def error(response: httpx2.Response) -> tuple[int, str | None, str]:
    found = response.json()["error"]
    return response.status_code, found["param"], found["code"]


def test_edits_answer_with_the_pictures(client: TestClient, working: Working, settings: Settings) -> None:
    with working.going_on():
        response = edit(client, {"Authorization": "Bearer nonsense"}, model=settings.model, user="ann", seed="7")
    answer = response.json()
    (image,) = answer["data"]
    assert (response.status_code, base64.b64decode(image["b64_json"]), image["seed"]) == (200, PNG, 7)
    assert (answer["size"], answer["output_format"], answer["job"]) == ("16x8", "png", working.done[0])
    assert (response.headers["msd-job"], response.headers["msd-warning"]) == (working.done[0], "ignored: user")
    request = working.worker.request(working.done[0])
    assert [subject.phrase for subject in request.subjects] == ["cat", "teapot"]
    assert request.subjects[0].box.as_tuple() == (0.05, 0.3, 0.45, 0.8)
    assert len(working.worker.picture_names(working.done[0])) == 2


def test_generations_answer_with_the_pictures(client: TestClient, working: Working) -> None:
    body = good_request(n=1, response_format="b64_json")
    with working.going_on():
        response = client.post(GENERATIONS, json=body)
    assert base64.b64decode(response.json()["data"][0]["b64_json"]) == PNG
    assert "msd-warning" not in response.headers


def test_without_boxes_a_header_says_where_subjects_stand(client: TestClient, working: Working) -> None:
    with working.going_on():
        response = edit(client, subjects='[{"phrase": "cat"}, {"phrase": "teapot"}]')
    assert response.headers["msd-warning"] == NO_BOXES


def events(response: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block and not block.startswith(":")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@pytest.mark.parametrize(("partial_images", "expected"), [("0", 0), ("1", 1), ("2", 2), ("3", 3)])
def test_streams_have_previews_and_the_picture(
    client: TestClient, working: Working, partial_images: str, expected: int
) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(edit, client, stream="true", partial_images=partial_images, size="16x8")
        job = working.next()
        working.worker.begin(job.id)
        for step in range(1, 7):
            working.worker.progress(job.id, step=step, steps=6, preview=b"preview %d" % step)
            time.sleep(0.15)
        manifest = working.worker.store(job.id)
        working.worker.finish(job.id, JobState.SUCCEEDED, images=manifest.images, result_attempt=manifest.attempt)
        found = events(waiting.result(20))
    names = [name for name, _ in found]
    assert names == ["image_edit.partial_image"] * expected + ["image_edit.completed"]
    assert [data["partial_image_index"] for _, data in found[:-1]] == list(range(expected))
    assert [data["type"] for _, data in found] == names
    assert all(base64.b64decode(data["b64_json"]).startswith(b"preview") for _, data in found[:-1])
    last = found[-1][1]
    assert base64.b64decode(last["b64_json"]) == PNG
    assert last["usage"]["total_tokens"] == 0
    assert {data["size"] for _, data in found} == {"16x8"}
    if expected == 3:
        # Spread over the steps: not the first three.
        assert base64.b64decode(found[-2][1]["b64_json"]) >= b"preview 4"


def test_a_job_that_fails_is_an_error(client: TestClient, working: Working) -> None:
    working.error = JobError(code="unfit_lora", detail="Another base.")
    with working.going_on():
        assert error(edit(client)) == (422, None, "unfit_lora")
        ((name, data),) = events(edit(client, stream="true"))
    assert (name, data["error"]["code"], data["error"]["message"]) == ("error", "unfit_lora", "Another base.")
    assert len(working.done) == 2


def test_a_job_that_somebody_cancels_is_an_error(client: TestClient, working: Working) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(edit, client)
        client.post(f"/jobs/{working.next().id}/cancel")
        assert error(waiting.result(20)) == (410, None, "job_gone")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"size": "63x64"}, (422, "size", "invalid_input")),
        ({"size": "big"}, (422, "size", "invalid_input")),
        ({"n": "0"}, (422, "n", "invalid_input")),
        ({"n": "many"}, (422, "n", "int_type")),
        ({"output_compression": "101", "output_format": "webp"}, (422, "output_compression", "invalid_input")),
        ({"output_format": "gif"}, (422, "output_format", "literal_error")),
        ({"model": "gpt-image-1"}, (404, "model", "model_not_found")),
        ({"subjects": "[object Object]"}, (400, "subjects", "malformed_field")),
        ({"subjects": "{"}, (400, "subjects", "malformed_field")),
        ({"subjects": "[{}, {}]"}, (422, "subjects[0].phrase", "missing_field")),
        ({"subjects": '[{"phrase": "cat"}]'}, (422, "image", "invalid_picture")),
        (
            {"subjects": '[{"phrase": "a"}, {"phrase": "b"}, {"phrase": "c"}]'},
            (422, "subjects[2].image", "invalid_picture"),
        ),
        ({"seed": "-1"}, (422, "seed", "invalid_input")),
        ({"prompt": ""}, (422, "prompt", "invalid_input")),
        ({"odd": "1"}, (422, None, "upload_unused")),
        ({"start": '{"image": "upload:odd"}'}, (422, "start.image", "upload_not_found")),
    ],
)
def test_bad_input(client: TestClient, fields: dict[str, str], expected: tuple[int, str | None, str]) -> None:
    assert error(edit(client, **fields)) == expected


def test_all_errors_are_told_in_one_message(client: TestClient) -> None:
    """For there is no list below ``/v1``."""
    message = edit(client, size="4096x4097", seed="-1").json()["error"]["message"]
    assert re.match(r"2 errors\. ", message)
    for named in ("/size", "/seed"):
        assert message.count(f"{named}: ") == 1


def test_bad_flat_input_is_told_by_the_names_that_were_sent(client: TestClient) -> None:
    fields = {"prompt": "a cat", "phrases[]": ["cat", "teapot"], "boxes[]": ["0,0,1,1", "0,0,2,1"]}
    assert error(client.post(EDITS, data=fields, files=FILES)) == (422, "boxes[1]", "invalid_box")
    fields = {"prompt": "a cat", "phrases[]": ["cat", ""]}
    assert error(client.post(EDITS, data=fields, files=FILES)) == (422, "phrases[1]", "invalid_input")
    broken = [("image[]", ("cat.png", CAT)), ("image[]", ("x", b"x"))]
    assert error(client.post(EDITS, data={"prompt": "a"}, files=broken)) == (422, "image[1]", "invalid_picture")


def test_bodies_of_other_kinds(client: TestClient) -> None:
    assert error(client.post(EDITS, json={})) == (415, None, "unsupported_media_type")
    assert error(client.post(GENERATIONS, data=FIELDS, files=FILES)) == (415, None, "unsupported_media_type")
    assert error(client.post(EDITS, content=b"x", headers={"content-type": "text/plain"}))[0] == 415
    assert error(client.get(EDITS)) == (405, None, "method_not_allowed")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert error(client.post(EDITS, content=b"--b\r\n", headers=headers)) == (400, None, "malformed_multipart")
    for body in (b"{", b"[]", b"[" * 40_000, b'{"subjects": '):
        response = client.post(GENERATIONS, content=body, headers={"content-type": "application/json"})
        assert error(response) == (400, None, "malformed_json")
    many = client.post(GENERATIONS, content=b"[" * 60_000, headers={"content-type": "application/json"})
    assert error(many) == (413, None, "body_too_large")
    assert error(edit(client, subjects="[" + "0," * 60_000 + "0]")) == (413, None, "body_too_large")
    assert error(client.post(GENERATIONS, json={"prompt": "a cat"})) == (422, "image", "invalid_picture")
    assert error(client.post(GENERATIONS, json=good_request(odd=1))) == (422, "odd", "unknown_field")


def test_a_body_over_the_limit(settings: Settings) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_body_bytes": 1000}))) as client:
        assert error(edit(client, prompt="a" * 1000)) == (413, None, "body_too_large")


def test_models(client: TestClient, settings: Settings) -> None:
    listed = client.get("/v1/models").json()
    model = {"id": settings.model, "object": "model", "created": 0, "owned_by": "msd"}
    assert listed == {"object": "list", "data": [model]}
    assert client.get(f"/v1/models/{settings.model}").json() == model
    assert error(client.get("/v1/models/gpt-image-1")) == (404, None, "model_not_found")


# Retries


@contextmanager
def closing(settings: Settings) -> Iterator[Any]:
    """Post to an API of its own, as a client that may close its connection; yields ``send(headers, **fields)``.

    It returns the answer to come, and how to close the connection.
    """
    app = create_app(settings)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    state: dict[str, Any] = {}
    body = httpx2.Request("POST", "http://testserver", data=FIELDS, files=FILES)
    content = body.read()

    async def start() -> Any:
        lifespan = app.router.lifespan_context(app)
        state.update(await lifespan.__aenter__())
        return lifespan

    async def call(headers: dict[str, str], closed: asyncio.Event) -> tuple[int, bytes] | None:
        sent: list[dict[str, Any]] = []
        first = True

        async def receive() -> dict[str, Any]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": content}
            await closed.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        names = {"host": "testserver", "content-type": body.headers["content-type"], **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": EDITS,
            "raw_path": EDITS.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in names.items()],
            "client": ("10.0.0.1", 1),
            "server": ("testserver", 80),
            "state": dict(state),
        }
        await app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent)
        return (sent[0]["status"], text) if sent else None

    def post(headers: dict[str, str] | None = None) -> tuple[Future[tuple[int, bytes] | None], Any]:
        closed = asyncio.Event()
        future = asyncio.run_coroutine_threadsafe(call(headers or {}, closed), loop)
        return future, lambda: loop.call_soon_threadsafe(closed.set)

    lifespan = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield post
    finally:
        asyncio.run_coroutine_threadsafe(lifespan.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ids(queue: JobQueue) -> list[str]:
    return [job.id for job in queue.waiting()]


def is_left(store: JobStore, job_id: str) -> bool:
    record = store.get(job_id)
    return record is not None and record.cancel_at is not None


@pytest.mark.parametrize("headers", [{}, RETRY], ids=["silent", "stainless"])
def test_who_lost_the_connection_joins_its_job(
    settings: Settings, working: Working, queue: JobQueue, store: JobStore, headers: dict[str, str]
) -> None:
    with closing(settings) as post:
        first, close = post()
        job = working.next()
        close()
        first.result(20)
        assert is_left(store, job.id)
        second, _ = post(headers)
        wait_until(lambda: not is_left(store, job.id), "somebody who waits", 20)
        assert ids(queue) == [job.id]
        time.sleep(settings.retry_window_s + 0.2)
        working.end(job)
        assert second.result(20)[0] == 200


def test_a_retry_joins_though_the_first_connection_seems_alive(
    settings: Settings, working: Working, queue: JobQueue
) -> None:
    with closing(settings) as post:
        first, _ = post()
        job = working.next()
        second, _ = post(RETRY)
        time.sleep(0.5)
        assert ids(queue) == [job.id]
        working.end(job)
        assert [each.result(20)[0] for each in (first, second)] == [200, 200]


def test_other_equal_requests_are_jobs_of_their_own(settings: Settings, working: Working, queue: JobQueue) -> None:
    with closing(settings) as post:
        waiting = [post() for _ in range(2)]
        wait_until(lambda: len(ids(queue)) == 2, "two jobs", 20)
        # Another client, which says that it retries.
        waiting.append(post({**RETRY, "authorization": "Bearer other"}))
        wait_until(lambda: len(ids(queue)) == 3, "three jobs", 20)
        with working.going_on():
            assert [future.result(20)[0] for future, _ in waiting] == [200, 200, 200]


def test_a_closed_connection_cancels_the_job_after_the_window(
    settings: Settings, working: Working, store: JobStore
) -> None:
    with closing(settings) as post:
        first, close = post()
        job = working.next()
        close()
        first.result(20)
        time.sleep(settings.retry_window_s + 0.1)
        assert store.pass_time(job.id) == (JobState.CANCELED, False)


def test_a_closed_stream_cancels_the_job_after_the_window(
    settings: Settings, working: Working, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FIELDS, "stream", "true")
    with closing(settings) as post:
        first, close = post()
        job = working.next()
        time.sleep(0.3)
        close()
        first.result(20)
        wait_until(lambda: is_left(store, job.id), "the end of the stream", 20)
        time.sleep(settings.retry_window_s + 0.1)
        assert store.pass_time(job.id) == (JobState.CANCELED, False)


def test_after_a_5xx_the_same_request_joins_the_job(client: TestClient, working: Working) -> None:
    working.error = JobError(code="device_out_of_memory", detail="Ask for less.")
    with working.going_on():
        answers = [error(edit(client)) for _ in range(3)]
        assert len(working.done) == 1
        # Whoever chooses a key chooses the job.
        edit(client, {"Idempotency-Key": "another"})
    assert answers == [(503, None, "device_out_of_memory")] * 3
    assert len(working.done) == 2


def test_after_an_answer_the_same_request_is_a_new_job_unless_it_says_that_it_retries(
    client: TestClient, working: Working
) -> None:
    with working.going_on():
        assert [edit(client, headers).status_code for headers in ({}, RETRY, {})] == [200, 200, 200]
    assert len(working.done) == 2


def test_an_idempotency_key_makes_one_job_and_stands_for_one_request(client: TestClient, working: Working) -> None:
    key = {"Idempotency-Key": "order-1"}
    with working.going_on():
        assert [edit(client, key).status_code for _ in range(2)] == [200, 200]
        assert len(working.done) == 1
        assert error(edit(client, key, seed="8")) == (422, None, "request_mismatch")
        assert client.post("/generate", json=good_request(), headers=key).status_code == 202
        assert error(edit(client, {"Idempotency-Key": "two words"})) == (400, None, "invalid_header")


@pytest.mark.parametrize(
    ("count", "expected"), [("1", True), ("00", False), ("", False), ("-1", False), ("9" * 5000, True)]
)
def test_which_count_says_that_it_is_a_retry(count: str, expected: bool) -> None:
    request = Request({"type": "http", "headers": [(b"x-stainless-retry-count", count.encode())]})
    assert is_retry(request) is expected
