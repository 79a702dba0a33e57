"""The list of jobs, page by page; each test has a Redis database of its own, for all jobs of it are listed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.config import Settings
from app.jobs import list as job_list
from app.main import create_app
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.records import JobRecord
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import good_request

DATABASE = 7


@pytest.fixture
def own_redis(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(f"{redis_url}?db={DATABASE}") as client:
        client.flushdb()
        yield client


@pytest.fixture
def listing(settings: Settings, redis_url: str, own_redis: redis.Redis) -> Iterator[TestClient]:
    own = settings.model_copy(update={"redis_url": f"{redis_url}?db={DATABASE}"})
    with TestClient(create_app(own), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def player(own_redis: redis.Redis, artifacts: ArtifactStore) -> PlayedWorker:
    return PlayedWorker(own_redis, JobStore(own_redis), artifacts)


def submit(client: TestClient, count: int) -> list[str]:
    """Ids of new jobs, newest first."""
    return [client.post("/generate", json=good_request()).json()["id"] for _ in range(count)][::-1]


def pages(client: TestClient, address: str) -> Iterator[list[dict[str, Any]]]:
    following: str | None = address
    while following is not None:
        page = client.get(following).json()
        yield page["jobs"]
        following = page["next"]


def ids(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["id"] for job in jobs]


def test_no_jobs_are_an_empty_page(listing: TestClient) -> None:
    assert listing.get("/jobs").json() == {"jobs": [], "next_cursor": None, "next": None}


def test_the_newest_comes_first_and_looks_as_alone(listing: TestClient) -> None:
    made = submit(listing, 3)
    jobs = listing.get("/jobs").json()["jobs"]
    assert ids(jobs) == made
    alone = listing.get(f"/jobs/{made[0]}").json()
    assert {**jobs[0], "timings": None} == {**alone, "timings": None}
    assert [job["position"] for job in jobs] == [2, 1, 0]


@pytest.mark.parametrize(("count", "limit", "sizes"), [(5, 2, [2, 2, 1]), (4, 2, [2, 2]), (3, 100, [3]), (1, 1, [1])])
def test_pages_hold_every_job_once(listing: TestClient, count: int, limit: int, sizes: list[int]) -> None:
    made = submit(listing, count)
    found = list(pages(listing, f"/jobs?limit={limit}"))
    assert [len(page) for page in found] == sizes
    assert [job_id for page in found for job_id in ids(page)] == made


def test_a_page_has_twenty_jobs_unless_asked_for_more(listing: TestClient) -> None:
    submit(listing, 21)
    page = listing.get("/jobs").json()
    assert (len(page["jobs"]), len(listing.get(page["next"]).json()["jobs"])) == (20, 1)


def test_jobs_that_are_added_or_go_meanwhile_move_nothing(listing: TestClient) -> None:
    made = submit(listing, 6)
    first = listing.get("/jobs?limit=2").json()
    submit(listing, 3)
    listing.delete(f"/jobs/{made[1]}")
    listing.delete(f"/jobs/{made[3]}")
    rest = [job_id for page in pages(listing, first["next"]) for job_id in ids(page)]
    assert ids(first["jobs"]) + rest == [job_id for job_id in made if job_id != made[3]]


def test_only_jobs_of_some_states(listing: TestClient, player: PlayedWorker) -> None:
    made = submit(listing, 6)
    player.succeed(made[1])
    player.succeed(made[4])
    player.begin(made[2])
    assert ids(listing.get("/jobs?status=succeeded").json()["jobs"]) == [made[1], made[4]]
    both = [job_id for page in pages(listing, "/jobs?status=succeeded&status=running&limit=2") for job_id in ids(page)]
    assert both == [made[1], made[2], made[4]]


def test_a_search_for_few_jobs_among_many_goes_on_page_by_page(
    listing: TestClient, player: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "MAX_LOOKS", 2)
    monkeypatch.setattr(job_list, "MAX_PAGE", 2)
    made = submit(listing, 7)
    player.succeed(made[6])
    found = list(pages(listing, "/jobs?status=succeeded&limit=1"))
    assert [ids(page) for page in found] == [[], [], [], [made[6]]]


def test_a_job_whose_time_is_over_is_listed_as_it_stands(listing: TestClient, own_redis: redis.Redis) -> None:
    (job_id,) = submit(listing, 1)
    own_redis.hset(f"msd:job:local:{job_id}", "cancel_at", "1.0")
    assert [job["status"] for job in listing.get("/jobs").json()["jobs"]] == ["canceled"]
    assert listing.get("/jobs?status=queued").json()["jobs"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=ten", "status=done", "cursor=nonsense", "cursor=", "limit=-1"]
)
def test_a_query_of_a_wrong_form_is_told(listing: TestClient, query: str) -> None:
    response = listing.get(f"/jobs?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")


def test_the_next_page_is_found_behind_a_proxy(settings: Settings, listing: TestClient, redis_url: str) -> None:
    submit(listing, 2)
    own = settings.model_copy(update={"redis_url": f"{redis_url}?db={DATABASE}"})
    with TestClient(create_app(own), root_path="/msd") as client:
        assert client.get("/jobs?limit=1").json()["next"].startswith("/msd/jobs?limit=1&cursor=")


@given(moments=st.lists(st.integers(0, 3), min_size=1, max_size=12), limit=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_jobs_of_the_same_moment_are_listed_once(
    listing: TestClient, own_redis: redis.Redis, moments: list[int], limit: int
) -> None:
    """As after a clock that was set back."""
    own_redis.flushdb()
    for moment in moments:
        store = JobStore(own_redis, clock=lambda moment=moment: 4e9 + moment)
        job_id = secrets.token_hex(12)
        store.create(JobRecord(id=job_id, model="any", folder=f"{job_id}.00000000", seed=0))
    found = [job_id for page in pages(listing, f"/jobs?limit={limit}") for job_id in ids(page)]
    listed = own_redis.zrevrangebyscore("msd:jobs:local", "+inf", "-inf")
    assert found == [member.decode() for member in listed]
