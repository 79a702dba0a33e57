"""Each owner sees what is theirs; what is another's answers exactly like what does not exist."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.requests.turns import Turn, Turns
from ms_jobs.api_keys import Scope
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.queue import JobQueue
from ms_jobs.result_files import encode
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import drawing, encoded, good_request, picture_uri

Headers = dict[str, str]
KeyOf = Callable[..., Headers]

CHOSEN = "chosen-by-two-owners"


@pytest.fixture
def ann(key_of: KeyOf, owner: str) -> Headers:
    return key_of(owner)


@pytest.fixture
def bob(key_of: KeyOf, other: str) -> Headers:
    return key_of(other)


@pytest.fixture
def admin(key_of: KeyOf) -> Headers:
    return key_of("ops", Scope.ADMIN)


@pytest.fixture
def anns_worker(redis_client: redis.Redis, settings: Settings, owner: str) -> PlayedWorker:
    """Does to Ann's jobs what a worker does."""
    return PlayedWorker(redis_client, JobStore(redis_client, owner), ArtifactStore(settings.data_dir, owner))


def submit(client: TestClient, headers: Headers, **changes: Any) -> dict[str, Any]:
    answer = client.post("/generate", json=good_request(**changes), headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_pictures_are_decoded_in_the_turns_of_their_owner(
    client: TestClient, ann: Headers, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners, take = set[str](), Turns.take

    def note(turns: Turns, request: Turn, pixels: int) -> Any:
        owners.add(request.owner)
        return take(turns, request, pixels)

    monkeypatch.setattr(Turns, "take", note)
    submit(client, ann)
    assert owners == {owner}


def listed(client: TestClient, headers: Headers, query: str = "") -> list[str]:
    return [job["id"] for job in client.get(f"/jobs{query}", headers=headers).json()["jobs"]]


def told(answer: Any, *names: str) -> dict[str, Any]:
    """What an answer says, without what names this request."""
    text = answer.text
    for name in names:
        text = text.replace(name, "NAME")
    return {"status": answer.status_code, "headers": set(answer.headers), **json.loads(text), "request_id": ""}


PLACES = [
    ("GET", ""),
    ("GET", "/events"),
    ("GET", "/images/0"),
    ("GET", "/references/0"),
    ("GET", "/request"),
    ("GET", f"/pictures/{'0' * 64}"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("DELETE", ""),
]


@pytest.mark.parametrize(("method", "place"), PLACES)
def test_anothers_job_is_none(client: TestClient, ann: Headers, bob: Headers, method: str, place: str) -> None:
    job_id, none = submit(client, ann)["id"], "no-such-job-01234567"
    theirs = client.request(method, f"/jobs/{job_id}{place}", headers=bob)
    missing = client.request(method, f"/jobs/{none}{place}", headers=bob)
    assert theirs.status_code == 404
    assert told(theirs, job_id) == told(missing, none)
    assert client.get(f"/jobs/{job_id}", headers=ann).json()["status"] == "queued"


def test_no_endpoint_of_jobs_is_left_out(guarded: Any) -> None:
    prefix = "/jobs/{job_id}"
    samples = {"{index}": "0", "{subject}": "0", "{sha256}": "0" * 64}
    found: set[tuple[str, str]] = set()
    for route in (route for route in guarded.routes if isinstance(route, APIRoute) and route.path.startswith(prefix)):
        place = route.path.removeprefix(prefix)
        for name, sample in samples.items():
            place = place.replace(name, sample)
        found |= {(method, place) for method in route.methods or ()}
    # An id may be chosen by two.
    assert found - {("PUT", "")} == set(PLACES)


def test_a_deleted_job_of_another_is_none_either(client: TestClient, ann: Headers, bob: Headers) -> None:
    job_id = submit(client, ann)["id"]
    client.delete(f"/jobs/{job_id}", headers=ann)
    assert client.get(f"/jobs/{job_id}", headers=ann).status_code == 410
    assert client.get(f"/jobs/{job_id}", headers=bob).status_code == 404


def test_two_owners_may_choose_one_id_and_one_idempotency_key(
    client: TestClient, ann: Headers, bob: Headers, owner: str, other: str
) -> None:
    for headers, whose in ((ann, owner), (bob, other)):
        answer = client.put(f"/jobs/{CHOSEN}", json=good_request(prompt=f"a cat of {whose}"), headers=headers)
        assert (answer.status_code, answer.json()["owner"]) == (202, whose)
    first = client.post("/generate", json=good_request(), headers={**ann, "Idempotency-Key": "once"}).json()["id"]
    second = client.post("/generate", json=good_request(), headers={**bob, "Idempotency-Key": "once"})
    assert second.json()["id"] != first
    assert "idempotency-replayed" not in second.headers


def test_the_entry_in_the_queue_names_the_owner(
    client: TestClient, redis_client: redis.Redis, settings: Settings, ann: Headers, owner: str
) -> None:
    job_id = submit(client, ann)["id"]
    assert JobQueue(redis_client, settings.model).waiting() == {JobKey(owner, job_id)}


def test_lists_hold_ones_own(client: TestClient, ann: Headers, bob: Headers) -> None:
    anns, bobs = [submit(client, ann)["id"] for _ in range(2)], submit(client, bob)["id"]
    assert listed(client, ann) == anns[::-1]
    assert listed(client, bob) == [bobs]


def test_a_cursor_of_another_shows_nothing_of_theirs(client: TestClient, ann: Headers, bob: Headers) -> None:
    for _ in range(3):
        submit(client, ann)
    cursor = client.get("/jobs?limit=1", headers=ann).json()["next_cursor"]
    mine = submit(client, bob)["id"]
    assert listed(client, bob, f"?cursor={cursor}") in ([], [mine])
    assert listed(client, bob) == [mine]


def test_assets_and_cast_are_ones_own(client: TestClient, ann: Headers, bob: Headers) -> None:
    files = {"one": encoded(drawing("red"))}
    asset = client.post("/assets", files=files, headers=ann).json()["assets"][0]
    member = {"phrase": "dog", "images": [picture_uri(drawing("red"))]}
    assert client.put("/cast/rex", json=member, headers=ann).status_code == 201
    for path in (f"/assets/{asset['id']}", f"/assets/{asset['id']}/picture", "/cast/rex", "/cast/rex/pictures/0"):
        assert client.get(path, headers=ann).status_code == 200
        assert client.get(path, headers=bob).status_code == 404
    assert client.get("/assets", headers=bob).json()["assets"] == client.get("/cast", headers=bob).json()["cast"] == []
    assert client.delete(f"/assets/{asset['id']}", headers=bob).status_code == 404
    assert client.delete("/cast/rex", headers=bob).status_code == 404
    for picture in (f"asset:{asset['id']}", f"sha256:{asset['sha256']}"):
        subjects = [{"phrase": "cat", "image": picture, "box": [0.1, 0.1, 0.6, 0.9]}]
        request = good_request() | {"subjects": subjects}
        assert client.post("/validate", json=request, headers=ann).status_code == 200
        assert client.post("/validate", json=request, headers=bob).status_code == 422


ASSET_PLACES = [
    ("GET", ""),
    ("HEAD", ""),
    ("GET", "/picture"),
    ("HEAD", "/picture"),
    ("GET", "/cutout"),
    ("DELETE", ""),
]
CAST_PLACES = [("GET", ""), ("HEAD", ""), ("GET", "/pictures/0"), ("HEAD", "/pictures/0"), ("DELETE", "")]


def upload(client: TestClient, headers: Headers, colour: str = "red") -> dict[str, Any]:
    return client.post("/assets", files={"one": encoded(drawing(colour))}, headers=headers).json()["assets"][0]


@pytest.mark.parametrize(("method", "place"), ASSET_PLACES)
def test_anothers_asset_is_none(client: TestClient, ann: Headers, bob: Headers, method: str, place: str) -> None:
    asset, none = upload(client, ann), "0" * 32
    for name in (asset["id"], asset["sha256"]):
        theirs = client.request(method, f"/assets/{name}{place}", headers=bob)
        missing = client.request(method, f"/assets/{none if name == asset['id'] else '0' * 64}{place}", headers=bob)
        assert theirs.status_code == missing.status_code
        assert theirs.status_code in (404, 422)
        assert set(theirs.headers) == set(missing.headers)
        assert len(theirs.text) == len(missing.text)
    assert client.get(f"/assets/{asset['id']}/picture", headers=ann).status_code == 200


@pytest.mark.parametrize(("method", "place"), CAST_PLACES)
def test_anothers_cast_is_none(client: TestClient, ann: Headers, bob: Headers, method: str, place: str) -> None:
    member = {"phrase": "dog", "images": [picture_uri(drawing("red"))]}
    client.put("/cast/rex", json=member, headers=ann)
    theirs = client.request(method, f"/cast/rex{place}", headers=bob)
    missing = client.request(method, f"/cast/max{place}", headers=bob)
    assert theirs.status_code == missing.status_code == 404
    assert theirs.text.replace("rex", "max").split("request_id")[0] == missing.text.split("request_id")[0]
    assert client.get("/cast/rex", headers=ann).json()["phrase"] == "dog"


@pytest.mark.parametrize("path", ["/generate", "/validate"])
def test_what_is_anothers_makes_no_picture(client: TestClient, ann: Headers, bob: Headers, path: str) -> None:
    asset = upload(client, ann)
    client.put("/cast/rex", json={"phrase": "dog", "images": [picture_uri(drawing("red"))]}, headers=ann)
    box = {"box": [0.1, 0.1, 0.6, 0.9]}
    for subject in (
        {"phrase": "cat", "image": f"asset:{asset['id']}"},
        {"phrase": "cat", "image": f"sha256:{asset['sha256']}"},
        {"cast": "rex"},
    ):
        request = good_request(subjects=[subject | box])
        assert client.post(path, json=request, headers=bob).status_code in (400, 404, 422)
    for field in ("start", "controls"):
        picture = {"image": f"sha256:{asset['sha256']}"}
        request = good_request() | {field: picture if field == "start" else [picture | {"name": "canny"}]}
        assert client.post(path, json=request, headers=bob).status_code in (400, 404, 422)
    assert listed(client, bob) == []


def test_a_cast_of_ones_own_cannot_take_anothers_pictures(client: TestClient, ann: Headers, bob: Headers) -> None:
    asset = upload(client, ann)
    for picture in (f"asset:{asset['id']}", f"sha256:{asset['sha256']}"):
        kept = client.put("/cast/rex", json={"phrase": "dog", "images": [picture]}, headers=bob)
        assert (kept.status_code, asset["id"] in client.get("/cast", headers=bob).text) == (422, False)


def test_a_recipe_of_another_gives_none_of_its_pictures_away(client: TestClient, ann: Headers, bob: Headers) -> None:
    """It lies in the picture, so whoever has it may read it; but what it names is not theirs."""
    asset = upload(client, ann)
    document = {
        "prompt": "a cat",
        "subjects": [{"phrase": "cat", "images": [asset["sha256"]], "box": [0.1, 0.1, 0.6, 0.9]}],
    }
    recipe = {
        "request": document,
        "image_index": 0,
        "seed": 9,
        "model": {"name": "mini", "card": "mini"},
        "values": {},
        "versions": {"ms-diffusion-service": "0.1.0", "torch": "2.13.0"},
    }
    file = encode(drawing("teal"), recipe, "png")
    to_ann, to_bob = (
        client.post("/inspect", content=file, headers={**headers, "Content-Type": "image/png"}).json()
        for headers in (ann, bob)
    )
    assert to_ann["recipe"] is not None, to_ann["detail"]
    assert (to_ann["missing"], to_bob["missing"]) == ([], [asset["sha256"]])
    assert to_bob["recipe"] == to_ann["recipe"]
    assert client.post("/generate", json=to_bob["recipe"], headers=bob).status_code == 422


def test_an_owner_gets_the_pictures_of_a_worker(
    client: TestClient, ann: Headers, bob: Headers, anns_worker: PlayedWorker
) -> None:
    job_id = submit(client, ann)["id"]
    anns_worker.succeed(job_id)
    assert client.get(f"/jobs/{job_id}?wait=5", headers=ann).json()["status"] == "succeeded"
    picture = client.get(f"/jobs/{job_id}/images/0", headers=ann)
    assert (picture.status_code, picture.headers["vary"]) == (200, "Authorization, X-API-Key, Cookie, Origin")
    assert client.get(f"/jobs/{job_id}/images/0", headers=bob).status_code == 404
    assert "event: succeeded" in client.get(f"/jobs/{job_id}/events", headers=ann).text


def test_keys_of_one_owner_share_what_it_has(client: TestClient, key_of: KeyOf, ann: Headers, owner: str) -> None:
    job_id = submit(client, ann)["id"]
    assert client.get(f"/jobs/{job_id}", headers=key_of(owner, Scope.READ)).status_code == 200


def test_the_owner_local_has_what_was_made_before_keys(
    client: TestClient, settings: Settings, key_of: KeyOf, owner: str
) -> None:
    with TestClient(create_app(settings)) as before:
        job_id = before.post("/generate", json=good_request()).json()["id"]
    assert client.get(f"/jobs/{job_id}", headers=key_of("local")).status_code == 200
    assert client.get(f"/jobs/{job_id}", headers=key_of(owner)).status_code == 404


def test_admin_sees_and_ends_the_jobs_of_all(
    client: TestClient, ann: Headers, bob: Headers, admin: Headers, owner: str, other: str
) -> None:
    anns, bobs = submit(client, ann)["id"], submit(client, bob)["id"]
    page = client.get("/jobs?limit=1", headers=admin).json()
    rest = client.get(f"/jobs?cursor={page['next_cursor']}", headers=admin).json()
    assert [(job["id"], job["owner"]) for job in page["jobs"] + rest["jobs"]] == [(bobs, other), (anns, owner)]
    assert client.get(f"/jobs/{anns}", headers=admin).json()["owner"] == owner
    assert client.post(f"/jobs/{anns}/cancel", headers=admin).status_code == 200
    assert client.delete(f"/jobs/{bobs}", headers=admin).status_code == 204
    assert client.get(f"/jobs/{bobs}", headers=admin).status_code == 410
    assert client.get(f"/jobs/{anns}", headers=ann).json()["status"] == "canceled"


def test_an_id_that_admin_chooses_is_a_job_of_its_own(client: TestClient, ann: Headers, admin: Headers) -> None:
    client.put(f"/jobs/{CHOSEN}", json=good_request(prompt="a cat of Ann"), headers=ann)
    answer = client.put(f"/jobs/{CHOSEN}", json=good_request(), headers=admin)
    assert (answer.status_code, answer.json()["owner"]) == (202, "ops")
