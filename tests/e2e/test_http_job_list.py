"""The list of jobs of the live service."""

from __future__ import annotations

from tests.e2e.http_service import QUICK, HttpService
from tests.support.sample_requests import good_request


def test_all_jobs_page_by_page_while_others_are_added(service: HttpService) -> None:
    service.wait_until_ready()
    made = [service.submit(good_request(**QUICK))["id"] for _ in range(5)]
    first = service.client.get("/jobs?limit=2").json()
    service.submit(good_request(**QUICK))
    second = service.client.get(first["next"]).json()
    third = service.client.get("/jobs", params={"limit": 2, "cursor": second["next_cursor"]}).json()
    found = [job["id"] for page in (first, second, third) for job in page["jobs"]]
    assert found[:5] == made[::-1]


def test_only_those_that_ended_well(service: HttpService) -> None:
    service.wait_until_ready()
    job = service.make(good_request(**QUICK))
    listed = service.client.get("/jobs?status=succeeded&limit=1").json()["jobs"]
    assert [found["id"] for found in listed] == [job["id"]]
    assert listed == [service.client.get(job["urls"]["self"]).json()]
    assert all(found["status"] == "failed" for found in service.client.get("/jobs?status=failed").json()["jobs"])


def test_a_cursor_of_ones_own_making_is_refused(service: HttpService) -> None:
    response = service.client.get("/jobs?cursor=abc")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")
