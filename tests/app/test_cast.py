"""The cast: subjects that are kept under a name, and requests that name them."""

from __future__ import annotations

import json
import secrets
from typing import Any

import jsonschema
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from ms_core.spec import Subject
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from tests.support.played_worker import PlayedWorker
from tests.support.sample_requests import data_uri, decoded, drawing, encoded, good_request, picture_uri

CAT, SIDE = picture_uri(drawing("orange")), picture_uri(drawing("teal"))
REX = {"phrase": "cat", "images": [CAT, SIDE], "cutout": True, "scale": 0.7}
BOX = [0.05, 0.3, 0.45, 0.8]
ORANGE, TEAL, RED = (255, 165, 0), (0, 128, 128), (255, 0, 0)


def put(client: TestClient, name: str = "rex", **changes: Any) -> Any:
    return client.put(f"/cast/{name}", json=REX | changes)


def submit(client: TestClient, *subjects: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    return client.post("/generate", json=good_request(subjects=list(subjects)), headers=headers)


def problem(response: Any) -> tuple[int, str, str]:
    """Status, code and pointer of the first thing that is wrong."""
    answer = response.json()
    first = (answer["errors"] or [{"code": answer["code"], "pointer": ""}])[0]
    return response.status_code, first["code"], first["pointer"]


def stored(response: Any, artifacts: ArtifactStore, store: JobStore) -> Subject:
    """The first subject as the worker will read it."""
    assert response.status_code in (200, 202), response.text
    record = store.get(response.json()["id"])
    assert record is not None
    return artifacts.load_request(record.folder).subjects[0]


def colours(subject: Subject) -> list[Any]:
    return [image.getpixel((4, 4)) for image in subject.images]


# Keep, read, list, delete


def test_a_subject_is_kept_until_it_is_deleted(client: TestClient) -> None:
    first = put(client)
    assert first.status_code == 201
    shown = client.get("/cast/rex").json()
    assert shown == first.json()
    assert (shown["name"], shown["phrase"], shown["cutout"], shown["scale"]) == ("rex", "cat", True, 0.7)
    pictures = [decoded(client.get(picture["url"]).content) for picture in shown["pictures"]]
    assert [picture.getpixel((4, 4)) for picture in pictures] == [ORANGE, TEAL]
    assert client.delete("/cast/rex").status_code == 204
    assert problem(client.get("/cast/rex"))[:2] == (404, "cast_not_found")
    assert problem(client.delete("/cast/rex"))[:2] == (404, "cast_not_found")


def test_what_is_left_out_has_its_default(client: TestClient) -> None:
    response = client.put("/cast/rex", json={"phrase": "cat", "image": CAT})
    assert (response.json()["cutout"], response.json()["scale"]) == (False, None)


def test_a_subject_takes_the_place_of_one_of_its_name(client: TestClient, settings: Settings) -> None:
    put(client)
    response = client.put("/cast/rex", json={"phrase": "dog", "image": SIDE})
    assert response.status_code == 200
    assert (response.json()["phrase"], len(response.json()["pictures"])) == ("dog", 1)
    # The picture, by its shared and its own name, and the document.
    files = [path.name for path in settings.data_dir.rglob("*") if path.is_file()]
    assert len(files) == 3


def test_the_cast_is_listed_in_pages(client: TestClient) -> None:
    for name in ("rex", "Tom", "mimi_2"):
        put(client, name)
    first = client.get("/cast?limit=2").json()
    rest = client.get(first["next"]).json()
    assert [member["name"] for member in first["cast"] + rest["cast"]] == ["mimi_2", "Tom", "rex"]
    assert rest["next"] is None


def test_no_cast_is_an_empty_page(client: TestClient) -> None:
    assert client.get("/cast").json() == {"cast": [], "next_cursor": None, "next": None}


def test_it_is_kept_without_its_asset(client: TestClient) -> None:
    (asset,) = client.post("/assets", json={"image": CAT}).json()["assets"]
    put(client, images=[f"asset:{asset['id']}"])
    client.delete(asset["urls"]["self"])
    (picture,) = client.get("/cast/rex").json()["pictures"]
    assert decoded(client.get(picture["url"]).content).getpixel((4, 4)) == ORANGE


def test_it_may_be_sent_as_a_form(client: TestClient) -> None:
    files = {"request": ("r", json.dumps({"phrase": "cat", "image": "upload:cat"})), "cat": encoded(drawing("red"))}
    assert client.put("/cast/rex", files=files).status_code == 201
    (picture,) = client.get("/cast/rex").json()["pictures"]
    assert decoded(client.get(picture["url"]).content).getpixel((4, 4)) == RED


def test_answers_fit_their_schemas(client: TestClient, document: dict[str, Any]) -> None:
    values = [(REX, "CastMemberRequest"), (put(client).json(), "CastMember"), (client.get("/cast").json(), "CastPage")]
    for value, name in values:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("name", ["a" * 65, "a" * 300, "a%00b", "-rex", "r.ex", "r%20ex", "r%C3%A9x", "rex%0A"])
def test_a_name_of_another_form_is_told(client: TestClient, name: str) -> None:
    assert problem(put(client, name)) == (400, "invalid_parameter", "")
    assert problem(client.get(f"/cast/{name}"))[:2] == (404, "cast_not_found")
    assert problem(client.delete(f"/cast/{name}"))[:2] == (404, "cast_not_found")


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "%2e%2e%2fjobs"])
def test_a_name_with_a_slash_leads_nowhere(client: TestClient, name: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        assert problem(client.request(method, f"/cast/{name}"))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"phrase": ""}, (422, "invalid_input", "/phrase")),
        ({"phrase": None}, (422, "missing_field", "/phrase")),
        ({"images": None}, (422, "missing_field", "/image")),
        ({"images": []}, (422, "invalid_input", "/image")),
        ({"images": [CAT] * 9}, (422, "invalid_input", "/image")),
        ({"images": ["cat.png"]}, (422, "invalid_picture", "/image/0")),
        ({"images": [f"asset:{'0' * 32}"]}, (422, "asset_not_found", "/image/0")),
        ({"scale": 3}, (422, "invalid_input", "/scale")),
        ({"cutout": "yes"}, (422, "bool_type", "/cutout")),
        ({"box": BOX}, (422, "unknown_field", "/box")),
        ({"cast": "tom"}, (422, "unknown_field", "/cast")),
    ],
)
def test_what_cannot_be_kept_is_told_and_nothing_is_stored(
    client: TestClient, settings: Settings, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    status, code, pointer = problem(put(client, **changes))
    # As in a subject, where a list is what ``images`` says.
    assert (status, code, pointer.replace("images", "image")) == expected
    assert [path for path in settings.data_dir.rglob("*") if path.is_file()] == []


def test_there_is_no_picture_beyond_the_last(client: TestClient) -> None:
    put(client)
    assert problem(client.get("/cast/rex/pictures/2"))[:2] == (404, "image_not_found")


# Use


def test_a_subject_of_the_cast_is_what_was_kept(client: TestClient, artifacts: ArtifactStore, store: JobStore) -> None:
    put(client)
    subject = stored(submit(client, {"cast": "rex", "box": BOX}), artifacts, store)
    assert (subject.phrase, subject.cutout, subject.scale, colours(subject)) == ("cat", True, 0.7, [ORANGE, TEAL])


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({"phrase": "teapot"}, "phrase", "teapot"),
        ({"cutout": False}, "cutout", False),
        ({"scale": 0.2}, "scale", 0.2),
        ({"scale": None, "phrase": None, "images": None}, "scale", 0.7),
        ({"feather": 0.1}, "feather", 0.1),
        ({"z_index": 3}, "z_index", 3),
    ],
)
def test_each_field_may_be_another(
    client: TestClient, artifacts: ArtifactStore, store: JobStore, given: dict[str, Any], name: str, expected: Any
) -> None:
    put(client)
    subject = stored(submit(client, {"cast": "rex", "box": BOX, **given}), artifacts, store)
    assert getattr(subject, name) == expected


@pytest.mark.parametrize(
    "given", [{"image": data_uri(encoded(drawing("red")))}, {"images": [picture_uri(drawing("red"))]}]
)
def test_its_pictures_may_be_others(
    client: TestClient, artifacts: ArtifactStore, store: JobStore, given: dict[str, Any]
) -> None:
    put(client)
    assert colours(stored(submit(client, {"cast": "rex", "box": BOX, **given}), artifacts, store)) == [RED]


def test_a_request_that_names_it_is_the_one_that_says_it_all(client: TestClient) -> None:
    put(client)
    headers = {"Idempotency-Key": secrets.token_hex()}
    assert submit(client, REX | {"box": BOX}, headers=headers).status_code == 202
    response = submit(client, {"cast": "rex", "box": BOX}, headers=headers)
    assert response.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("name", ["nobody", "", "a/b", "a\0b", "x" * 300, "../jobs", "rex\n"])
def test_who_is_not_in_the_cast_is_told(client: TestClient, name: str) -> None:
    put(client)
    response = submit(client, {"cast": "rex", "box": BOX}, {"cast": name, "box": BOX})
    assert problem(response) == (422, "cast_not_found", "/subjects/1/cast")


@pytest.mark.parametrize("name", [3, ["rex"], True])
def test_a_name_that_is_no_text_is_told(client: TestClient, name: Any) -> None:
    assert problem(submit(client, {"cast": name, "box": BOX})) == (422, "string_type", "/subjects/0/cast")


def test_what_is_wrong_beside_the_cast_is_told_too(client: TestClient) -> None:
    put(client)
    response = submit(client, {"cast": "rex", "box": [0, 0, 1]}, {"cast": "nobody", "box": BOX})
    assert [error["pointer"] for error in response.json()["errors"]] == ["/subjects/0/box", "/subjects/1/cast"]


def test_a_picture_of_the_cast_cannot_be_named_by_its_hash(client: TestClient) -> None:
    sha256 = put(client).json()["pictures"][0]["sha256"]
    assert problem(submit(client, {"phrase": "cat", "box": BOX, "image": sha256}))[1] == "invalid_picture"


def test_a_submit_of_the_cast_decodes_no_picture(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    put(client)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *arguments: pytest.fail("decoded"))
    assert submit(client, {"cast": "rex", "box": BOX}).status_code == 202


def test_a_job_keeps_what_the_cast_was(
    client: TestClient, artifacts: ArtifactStore, store: JobStore, worker: PlayedWorker
) -> None:
    put(client)
    response = submit(client, {"cast": "rex", "box": BOX})
    put(client, phrase="dog", images=[SIDE])
    client.delete("/cast/rex")
    assert colours(stored(response, artifacts, store)) == [ORANGE, TEAL]
    job_id = response.json()["id"]
    (subject,) = client.get(f"/jobs/{job_id}/request").json()["request"]["subjects"]
    assert (subject["phrase"], len(subject["images"]), "cast" in subject) == ("cat", 2, False)
    worker.succeed(job_id)
    retried = client.post(f"/jobs/{job_id}/retry")
    assert colours(stored(retried, artifacts, store)) == [ORANGE, TEAL]


def test_a_warning_of_its_pictures_comes_with_the_job(client: TestClient) -> None:
    put(client, images=[picture_uri(Image.new("RGB", (16, 16), "white"))])
    warnings = submit(client, {"cast": "rex", "box": BOX}).json()["warnings"]
    assert [warning["code"] for warning in warnings] == ["one_colour"]


@pytest.mark.parametrize(
    ("subject", "fits"),
    [
        ({"cast": "rex", "box": BOX}, True),
        ({"cast": "rex", "phrase": None, "image": CAT, "images": None, "box": BOX}, True),
        ({"cast": None, "phrase": "cat", "image": CAT, "box": BOX}, True),
        ({"cast": "rex", "image": CAT, "images": [CAT], "box": BOX}, False),
        ({"cast": None, "box": BOX}, False),
        ({"cast": None, "phrase": "cat", "box": BOX}, False),
        ({"phrase": "cat", "prompt": "a cat", "box": BOX}, True),
        ({"cast": "rex", "prompt": "a wet cat", "box": BOX}, True),
        ({"phrase": "cat", "image": CAT, "prompt": "a wet cat", "box": BOX}, True),
        ({"phrase": "cat", "image": CAT, "images": [CAT], "prompt": "a cat", "box": BOX}, False),
        ({"phrase": "cat", "prompt": None, "box": BOX}, False),
        ({"prompt": "a cat", "box": BOX}, False),
        ({"cast": "rex/", "box": BOX}, False),
        ({"cast": 3, "box": BOX}, False),
    ],
)
def test_the_schema_says_what_is_taken(
    client: TestClient, document: dict[str, Any], subject: dict[str, Any], fits: bool
) -> None:
    put(client)
    schema = {"$ref": "#/components/schemas/Subject", "components": document["components"]}
    assert jsonschema.Draft202012Validator(schema).is_valid(subject) is fits
    assert submit(client, subject).status_code == (202 if fits else 422)


# Repeats


def forget(client: TestClient) -> str:
    """An asset that is gone, as a text."""
    (asset,) = client.post("/assets", json={"image": SIDE}).json()["assets"]
    return f"asset:{asset['id']}"


@pytest.mark.parametrize("by", ["key", "id"])
def test_a_repeat_is_answered_although_cast_and_asset_are_gone_or_others(client: TestClient, by: str) -> None:
    put(client)
    asset = forget(client)
    request = good_request(subjects=[{"cast": "rex", "box": BOX}, {"phrase": "teapot", "image": asset, "box": BOX}])
    token = secrets.token_hex(16)

    def send(body: dict[str, Any]) -> Any:
        if by == "id":
            return client.put(f"/jobs/{token}", json=body)
        return client.post("/generate", json=body, headers={"Idempotency-Key": token})

    first = send(request)
    assert first.status_code == 202, first.text
    put(client, phrase="dog")
    assert send(request).json()["id"] == first.json()["id"]
    client.delete("/cast/rex")
    client.delete(f"/assets/{asset.removeprefix('asset:')}")
    again = send(request)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["idempotency-replayed"] == "true"
    assert problem(send(request | {"prompt": "a dog"}))[:2] == (422, "request_mismatch")
    assert problem(client.post("/generate", json=request))[:2] == (422, "cast_not_found")


def test_a_form_is_repeated_only_with_the_same_parts(client: TestClient) -> None:
    asset = forget(client)
    subjects = [{"phrase": "cat", "image": "upload:cat", "box": BOX}, {"phrase": "teapot", "image": asset, "box": BOX}]
    headers = {"Idempotency-Key": secrets.token_hex()}

    def send(colour: str) -> Any:
        request = json.dumps(good_request(subjects=subjects))
        files = {"request": ("r", request), "cat": encoded(drawing(colour))}
        return client.post("/generate", files=files, headers=headers)

    assert send("red").status_code == 202
    client.delete(f"/assets/{asset.removeprefix('asset:')}")
    assert send("red").status_code == 202
    assert problem(send("blue"))[:2] == (422, "request_mismatch")


def test_what_else_is_wrong_is_told_before_a_repeat_is_looked_for(client: TestClient) -> None:
    request = good_request(subjects=[{"cast": "nobody", "box": BOX}], seed=-1)
    response = client.post("/generate", json=request, headers={"Idempotency-Key": secrets.token_hex()})
    assert {error["code"] for error in response.json()["errors"]} == {"cast_not_found", "invalid_input"}
