"""``msd-client`` against the live service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

import pytest

from msd_client import (
    AsyncClient,
    Client,
    EndEvent,
    Event,
    InputError,
    Job,
    PreviewEvent,
    ProgressEvent,
    StatusEvent,
    Subject,
)
from tests.e2e.http_service import LONG, QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import drawing, encoded, good_request
from tests.support.socket_proxy import SocketProxy

PROMPT = "a cat and a teapot on the beach"
SUBJECTS = [
    Subject("cat", drawing("orange"), box=(0.05, 0.3, 0.45, 0.8)),
    Subject("teapot", drawing("teal"), box=(0.55, 0.3, 0.95, 0.8)),
]


@pytest.fixture
def client(service: HttpService) -> Iterator[Client]:
    service.wait_until_ready()
    with Client(service.url) as client:
        yield client


@contextmanager
def proxied(service: HttpService) -> Iterator[tuple[SocketProxy, Client]]:
    """A client whose connections can be cut."""
    port = urlsplit(service.url).port
    assert port is not None
    proxy = SocketProxy(port)
    try:
        with Client(f"http://127.0.0.1:{proxy.port}") as client:
            yield proxy, client
    finally:
        proxy.stop()


def jobs_of(service: HttpService) -> set[str]:
    """Ids of the newest jobs."""
    return {job["id"] for job in service.client.get("/jobs?limit=100").json()["jobs"]}


def test_two_subjects_in_their_boxes(client: Client) -> None:
    jobs: list[Job] = []
    previews: list[PreviewEvent] = []
    small = QUICK | {"num_inference_steps": 20}
    result = client.generate(
        PROMPT, SUBJECTS, seed=7, num_images=2, score=True, on_progress=jobs.append, on_preview=previews.append, **small
    )
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert [picture.seed for picture in result.pictures] == [7, 8]
    first = result.pictures[0]
    assert first.recipe is not None
    assert first.recipe["request"]["prompt"] == PROMPT
    assert first.score is not None
    assert [score.subject for score in first.score.subjects] == [0, 1]
    assert first.content == client.image(result.job.id, 0)
    fractions = [job.fraction for job in jobs]
    assert fractions == sorted(fractions)
    assert any(0 < fraction < 1 for fraction in fractions)
    assert jobs[-1].ended
    assert [preview.image.format for preview in previews[-1:]] == ["WEBP"]


def test_the_same_key_gives_the_same_job(client: Client) -> None:
    first, second = (client.generate(PROMPT, SUBJECTS, idempotency_key="key-of-mine", **QUICK) for _ in range(2))
    assert first.job.id == second.job.id
    assert first.pictures[0].content == second.pictures[0].content


def test_a_lost_answer_makes_one_job(service: HttpService) -> None:
    before = jobs_of(service)
    with proxied(service) as (proxy, client):
        proxy.cut_at(b"POST /generate", lose="reply")
        healing = threading.Thread(target=lambda: (proxy.tripped.wait(60), proxy.heal()))
        healing.start()
        job = client.submit(PROMPT, SUBJECTS, **QUICK)
        healing.join()
        assert proxy.tripped.is_set()
        assert client.wait(job.id).status == "succeeded"
    assert jobs_of(service) - before == {job.id}


def test_watching_goes_on_after_a_cut(service: HttpService, client: Client) -> None:
    job = client.submit(PROMPT, SUBJECTS, **QUICK | {"num_inference_steps": 100})
    events: list[Event] = []
    with proxied(service) as (proxy, watching):
        for event in watching.watch(job.id):
            events.append(event)
            if isinstance(event, ProgressEvent) and event.step == 2:
                proxy.cut()
                threading.Timer(0.3, proxy.heal).start()
    assert isinstance(events[-1], EndEvent)
    assert events[-1].job.status == "succeeded"
    assert any(isinstance(event, StatusEvent) for event in events)
    versions = [event.version for event in events if not isinstance(event, PreviewEvent)]
    assert versions == sorted(set(versions))


class Stopped(Exception):
    """By the one who asked."""


def stop_at_first_step(job: Job) -> None:
    if job.step:
        raise Stopped


def newest_job(service: HttpService) -> str:
    return service.client.get("/jobs?limit=1").json()["jobs"][0]["id"]


def assert_newest_is_canceled(service: HttpService) -> None:
    job_id = newest_job(service)
    assert wait_until(lambda: service.job_state(job_id).ended, "the end of the job")
    assert service.job_state(job_id) == "canceled"


def test_who_breaks_off_cancels_the_job(service: HttpService, client: Client) -> None:
    with pytest.raises(Stopped):
        client.generate(PROMPT, SUBJECTS, on_progress=stop_at_first_step, **LONG)
    assert_newest_is_canceled(service)


def test_what_cannot_be_used_is_told_with_its_place(client: Client) -> None:
    wrong = [SUBJECTS[0], Subject("teapot", b"no picture", box=(0.5, 0.5, 2.0, 1.0))]
    with pytest.raises(InputError) as caught:
        client.generate(PROMPT, wrong, width=129)
    error = caught.value
    assert {problem.pointer for problem in error.errors} >= {"/subjects/1/image", "/width"}
    assert all(problem.detail and problem.code for problem in error.errors)
    assert (error.status, error.code) == (422, "invalid_input")
    assert error.request_id


def test_an_upload_that_is_deleted_is_made_again(service: HttpService, client: Client) -> None:
    picture = encoded(drawing("plum"))
    subjects = [Subject("cat", picture, box=(0, 0, 1, 1))]
    first = client.upload(picture)
    assert client.upload(first.reference) == first
    client.submit("a cat", subjects, **QUICK)
    service.client.delete(f"/assets/{first.id}").raise_for_status()
    job = client.submit("a cat", subjects, **QUICK)
    assert client.wait(job.id).status == "succeeded"
    assert service.client.get(f"/assets/{first.id}").status_code == 200


def test_a_subject_of_the_cast_has_its_phrase_and_pictures(service: HttpService, client: Client) -> None:
    kept = {"phrase": "cat", "image": client.upload(drawing("orange")).reference}
    service.client.put("/cast/rex", json=kept).raise_for_status()
    (picture,) = client.generate("a cat", [Subject(cast="rex", box=(0, 0, 1, 1))], **QUICK).pictures
    assert picture.recipe is not None
    assert [subject["phrase"] for subject in picture.recipe["request"]["subjects"]] == ["cat"]


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_a_recipe_travels_in_each_format(client: Client, output_format: Literal["webp", "jpeg"]) -> None:
    (picture,) = client.generate(PROMPT, SUBJECTS, output_format=output_format, **QUICK).pictures
    assert (picture.image.format, picture.content_type) == (output_format.upper(), f"image/{output_format}")
    assert picture.recipe is not None
    assert picture.recipe["request"]["prompt"] == PROMPT


def test_the_models_are_listed(service: HttpService, client: Client) -> None:
    (model,) = client.models()
    assert model.ready
    assert model.abilities is not None
    assert model.abilities["presets"]
    assert client.readiness().is_ready


def test_jobs_by_asyncio(service: HttpService) -> None:
    service.wait_until_ready()

    async def main() -> None:
        async with AsyncClient(service.url) as client:
            first, second = await asyncio.gather(
                client.generate(PROMPT, SUBJECTS, seed=1, **QUICK), client.generate(PROMPT, SUBJECTS, seed=2, **QUICK)
            )
            assert (first.pictures[0].seed, second.pictures[0].seed) == (1, 2)
            events = [event async for event in client.watch(first.job.id)]
            assert isinstance(events[-1], EndEvent)
            with pytest.raises(InputError):
                await client.generate("", SUBJECTS)

    asyncio.run(main())


def test_a_canceled_task_cancels_the_job(service: HttpService) -> None:
    service.wait_until_ready()

    async def main() -> None:
        begun = asyncio.Event()

        def on_progress(job: Job) -> None:
            if job.step:
                begun.set()

        async with AsyncClient(service.url) as client:
            task = asyncio.create_task(client.generate(PROMPT, SUBJECTS, on_progress=on_progress, **LONG))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert_newest_is_canceled(service)
    service.make(good_request(**QUICK))
