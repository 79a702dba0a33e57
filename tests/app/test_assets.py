"""Assets: pictures that are uploaded once and named in many requests."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from tests.support.sample_requests import (
    data_uri,
    decoded,
    drawing,
    encoded,
    good_request,
    good_subject,
    picture_uri,
    png_chunk,
    png_with_header,
)

CAT, TEAPOT = encoded(drawing("orange")), encoded(drawing("teal"))
UNKNOWN = "0" * 32


def upload(client: TestClient, *pictures: bytes) -> list[dict[str, Any]]:
    response = client.post("/assets", files=[("file", (f"{n}.png", png)) for n, png in enumerate(pictures)])
    assert response.status_code == 201, response.text
    return response.json()["assets"]


def named(asset: dict[str, Any]) -> str:
    return f"asset:{asset['id']}"


def submit(client: TestClient, **changes: Any) -> Any:
    return client.post("/generate", json=good_request(**changes))


def submit_cat(client: TestClient, image: str) -> Any:
    return submit(client, subjects=[good_subject(image=image)])


def test_a_black_mask_is_refused_however_large_its_file_is(client: TestClient) -> None:
    # Transparency is no paint, and compresses badly.
    alpha = Image.frombytes("L", (64, 64), random.Random(0).randbytes(64 * 64))
    mask = Image.new("RGBA", alpha.size)
    mask.putalpha(alpha)
    (asset,) = upload(client, encoded(mask))
    for path in ("/validate", "/generate"):
        response = client.post(path, json=good_request(subjects=[good_subject(box=None, mask=named(asset))]))
        problems = response.json()["errors"]
        assert [(item["pointer"], item["code"]) for item in problems] == [("/subjects/0/mask", "invalid_box")], path


def folder_of(settings: Settings, asset: dict[str, Any]) -> Path:
    return settings.data_dir / "local" / "assets" / asset["id"]


def problem(response: Any) -> tuple[int, str, str]:
    """Status, code and pointer of the first thing that is wrong."""
    answer = response.json()
    first = (answer["errors"] or [{"code": answer["code"], "pointer": ""}])[0]
    return response.status_code, first["code"], first["pointer"]


# Upload


def test_an_upload_gives_an_asset_for_each_file_in_their_order(client: TestClient) -> None:
    cat, teapot = upload(client, CAT, TEAPOT)
    assert (cat["width"], cat["height"], cat["has_alpha"]) == (8, 8, False)
    assert cat["id"] != teapot["id"]
    assert upload(client, TEAPOT)[0]["id"] == teapot["id"]


def test_a_data_uri_gives_an_asset_too(client: TestClient) -> None:
    response = client.post("/assets", json={"image": data_uri(CAT)})
    assert response.status_code == 201
    assert response.json()["assets"][0]["id"] == upload(client, CAT)[0]["id"]


def test_the_same_pixels_have_the_same_id_in_whatever_file(client: TestClient) -> None:
    one, other = upload(client, CAT, encoded(drawing("orange"), "WEBP", lossless=True))
    assert one["id"] == other["id"]
    assert len(client.get("/assets").json()["assets"]) == 1


def test_its_picture_is_the_clean_png_of_its_hash(client: TestClient) -> None:
    (asset,) = upload(client, encoded(drawing("orange"), "JPEG", quality=95))
    response = client.get(asset["urls"]["picture"])
    assert response.headers["content-type"] == "image/png"
    assert hashlib.sha256(response.content).hexdigest() == asset["sha256"]
    assert asset["sha256"].startswith(asset["id"])


@pytest.mark.parametrize(("alpha", "expected"), [(255, False), (254, True)])
def test_an_alpha_that_hides_nothing_does_not_count(client: TestClient, alpha: int, expected: bool) -> None:
    picture = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, alpha))
    assert upload(client, encoded(picture))[0]["has_alpha"] is expected


def test_a_large_picture_is_shown_reduced(client: TestClient) -> None:
    (asset,) = upload(client, encoded(Image.effect_noise((2100, 100), 90)))
    assert (asset["width"], asset["height"]) == (2048, 98)
    assert decoded(client.get(asset["urls"]["picture"]).content).size == (2048, 98)


def test_an_asset_can_be_read_alone_also_by_its_head(client: TestClient) -> None:
    (asset,) = upload(client, CAT)
    assert client.get(asset["urls"]["self"]).json() == asset
    assert client.head(asset["urls"]["self"]).status_code == 200
    assert client.head(asset["urls"]["picture"]).headers["content-length"]


def test_answers_fit_their_schemas(client: TestClient, document: dict[str, Any]) -> None:
    (asset,) = upload(client, CAT)
    for value, name in ((asset, "Asset"), (client.get("/assets").json(), "AssetsPage")):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"not a picture", "invalid_picture"), (b"", "invalid_picture"), (CAT[:60], "invalid_picture")],
)
def test_what_is_no_picture_is_told_at_its_place_and_nothing_is_stored(
    client: TestClient, settings: Settings, content: bytes, code: str
) -> None:
    response = client.post("/assets", files=[("file", CAT), ("file", content)])
    assert problem(response) == (422, code, "/1")
    assert client.get("/assets").json()["assets"] == []
    assert [path for path in settings.data_dir.rglob("*") if path.is_file()] == []


def test_an_upload_of_nothing_is_told(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/assets", content=b"--b--\r\n", headers=headers)
    assert problem(response) == (422, "missing_field", "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "missing_field", "/image")),
        ({"image": 3}, (422, "string_type", "/image")),
        ({"image": "cat.png"}, (422, "invalid_picture", "/image")),
        ({"image": "asset:" + UNKNOWN}, (422, "invalid_picture", "/image")),
        ({"image": data_uri(CAT), "name": "cat"}, (422, "unknown_field", "/name")),
        ([], (422, "model_type", "")),
    ],
)
def test_json_that_is_no_upload_is_told(client: TestClient, body: Any, expected: tuple[int, str, str]) -> None:
    response = client.post("/assets", json=body)
    assert problem(response) == expected
    assert response.json()["detail"].endswith(".")


def test_broken_json_is_told(client: TestClient) -> None:
    response = client.post("/assets", content=b"{", headers={"content-type": "application/json"})
    assert problem(response) == (400, "malformed_json", "")


def test_too_many_pixels_at_once_are_refused_before_any_is_decoded(settings: Settings) -> None:
    small = settings.model_copy(update={"max_request_pixels": 2 * 5000 * 5000 - 1})
    files = [("file", png_with_header(5000, 5000, b""))] * 2
    with TestClient(create_app(small)) as client:
        assert problem(client.post("/assets", files=files)) == (413, "picture_too_large", "")


def test_a_full_volume_takes_no_upload(settings: Settings) -> None:
    full = settings.model_copy(update={"min_free_disk_mb": 10**9})
    with TestClient(create_app(full)) as client:
        response = client.post("/assets", files=[("file", CAT)])
    assert problem(response) == (503, "storage_full", "")


# Lists


def test_assets_are_listed_newest_first_in_pages(client: TestClient) -> None:
    ids = []
    for colour in ("red", "green", "blue"):
        ids += [asset["id"] for asset in upload(client, encoded(drawing(colour)))]
        time.sleep(0.01)
    first = client.get("/assets?limit=2").json()
    rest = client.get(first["next"]).json()
    assert [asset["id"] for asset in first["assets"] + rest["assets"]] == ids[::-1]
    assert (rest["next"], rest["next_cursor"]) == (None, None)


def test_no_assets_are_an_empty_page(client: TestClient) -> None:
    assert client.get("/assets").json() == {"assets": [], "next_cursor": None, "next": None}


def test_a_cursor_of_jobs_is_none_of_assets(client: TestClient) -> None:
    for seed in (1, 2):
        submit(client, seed=seed)
    cursor = client.get("/jobs?limit=1").json()["next_cursor"]
    assert problem(client.get(f"/assets?cursor={cursor}")) == (400, "invalid_parameter", "")


# Unknown, expired, another owner's


@pytest.mark.parametrize("asset_id", [UNKNOWN, "0" * 31, "A" * 32, "%2e%2e%2fjobs", "x" * 300, "a%00b"])
def test_an_unknown_asset_is_told(client: TestClient, asset_id: str) -> None:
    for method in ("GET", "DELETE"):
        status, code, _ = problem(client.request(method, f"/assets/{asset_id}"))
        assert (status, code) in ((404, "asset_not_found"), (404, "not_found"))
    assert client.get(f"/assets/{asset_id}/picture").status_code == 404


@pytest.mark.parametrize("asset_id", [UNKNOWN, "", "0" * 31, "A" * 32, "../jobs", "x" * 300, UNKNOWN + "\n"])
def test_a_request_that_names_an_unknown_asset_is_told_its_place(client: TestClient, asset_id: str) -> None:
    assert problem(submit_cat(client, f"asset:{asset_id}")) == (422, "asset_not_found", "/subjects/0/image")


def test_an_asset_of_another_owner_is_unknown(client: TestClient, settings: Settings, artifacts: ArtifactStore) -> None:
    (asset,) = upload(client, CAT)
    theirs = settings.data_dir / "alice" / "assets"
    theirs.parent.mkdir()
    folder_of(settings, asset).parent.rename(theirs)
    assert problem(client.get(asset["urls"]["self"]))[:2] == (404, "asset_not_found")
    assert problem(submit_cat(client, named(asset))) == (422, "asset_not_found", "/subjects/0/image")
    assert client.get("/assets").json()["assets"] == []


@pytest.fixture
def forgetful(settings: Settings) -> Iterator[TestClient]:
    """An API that keeps assets for 100 s."""
    with TestClient(create_app(settings.model_copy(update={"asset_lifetime_s": 100}))) as client:
        yield client


def make_unused(settings: Settings, asset: dict[str, Any], seconds: float) -> None:
    then = time.time() - seconds
    for name in ("used", "asset.json"):
        os.utime(folder_of(settings, asset) / name, (then, then))


def test_an_asset_that_was_not_used_for_its_lifetime_is_gone(forgetful: TestClient, settings: Settings) -> None:
    (asset,) = upload(forgetful, CAT)
    make_unused(settings, asset, 101)
    assert problem(forgetful.get(asset["urls"]["self"]))[:2] == (404, "asset_not_found")
    assert problem(submit_cat(forgetful, named(asset)))[:2] == (422, "asset_not_found")
    assert forgetful.get("/assets").json()["assets"] == []


def test_to_use_or_to_upload_an_asset_keeps_it_and_to_read_it_does_not(
    forgetful: TestClient, settings: Settings
) -> None:
    (asset,) = upload(forgetful, CAT)
    for use in (lambda: submit_cat(forgetful, named(asset)), lambda: upload(forgetful, CAT)):
        make_unused(settings, asset, 99)
        before = forgetful.get(asset["urls"]["self"]).json()["expires_at"]
        use()
        after = forgetful.get(asset["urls"]["self"]).json()["expires_at"]
        assert after > before


def test_an_expired_asset_that_is_uploaded_again_is_there_again(forgetful: TestClient, settings: Settings) -> None:
    (asset,) = upload(forgetful, CAT)
    make_unused(settings, asset, 101)
    assert upload(forgetful, CAT)[0]["id"] == asset["id"]
    assert submit_cat(forgetful, named(asset)).status_code == 202


def test_a_damaged_asset_is_gone_and_made_whole_by_an_upload(client: TestClient, settings: Settings) -> None:
    (asset,) = upload(client, CAT)
    (folder_of(settings, asset) / "asset.json").write_bytes(b"{")
    assert problem(client.get(asset["urls"]["self"]))[:2] == (404, "asset_not_found")
    assert client.get("/assets").json()["assets"] == []
    upload(client, CAT)
    assert client.get(asset["urls"]["picture"]).status_code == 200


# Use


def test_an_asset_stands_wherever_a_picture_does(client: TestClient, artifacts: ArtifactStore, store: JobStore) -> None:
    mask = Image.new("L", (256, 128))
    mask.paste(255, (64, 32, 128, 128))
    cat, teapot, edges, painted = upload(
        client, CAT, TEAPOT, encoded(Image.effect_noise((256, 128), 90)), encoded(mask)
    )
    subjects = [
        {"phrase": "cat", "images": [named(cat), named(teapot)], "mask": named(painted)},
        good_subject(image=picture_uri(drawing("red"))),
    ]
    controls = [{"name": "canny", "image": named(edges)}]
    sizes = {"width": 256, "height": 128}
    response = submit(client, subjects=subjects, controls=controls, start={"image": named(teapot)}, **sizes)
    assert response.status_code == 202, response.text
    record = store.get(response.json()["id"])
    assert record is not None
    request = artifacts.load_request(record.folder)
    subject = request.subjects[0]
    assert [image.getpixel((4, 4)) for image in subject.images] == [(255, 165, 0), (0, 128, 128)]
    assert subject.mask is not None
    assert subject.mask.getpixel((65, 33)) == (255, 255, 255)
    assert request.controls[0].image.size == (256, 128)
    assert request.start is not None
    assert request.start.image.getpixel((4, 4)) == (0, 128, 128)


def same_request(client: TestClient, picture: bytes, **places: Any) -> bool:
    """Whether a request with the asset is the same as one with the data URI, in all its places."""
    (asset,) = upload(client, picture)

    def request(image: str) -> dict[str, Any]:
        mask = {"mask": image} if places.get("mask") else {}
        controls = {"controls": [{"name": "canny", "image": image}]} if places.get("control") else {}
        return good_request(subjects=[good_subject(image=image, **mask)], start={"image": image}, **controls)

    headers = {"Idempotency-Key": hashlib.sha256(picture).hexdigest()}
    first = client.post("/generate", json=request(data_uri(picture)), headers=headers)
    second = client.post("/generate", json=request(named(asset)), headers=headers)
    assert (first.status_code, second.status_code) == (202, 202), second.text
    assert first.json()["warnings"] == second.json()["warnings"]
    return second.headers.get("idempotency-replayed") == "true"


def pictures_in_every_form() -> dict[str, bytes]:
    ramp = Image.linear_gradient("L").convert("RGB")
    gamma = encoded(ramp)
    # A gAMA chunk right behind the header: the colours are not sRGB's, the numbers of a mask stay.
    gamma = gamma[:33] + png_chunk(b"gAMA", (100_000).to_bytes(4, "big")) + gamma[33:]
    large = Image.linear_gradient("L").resize((2200, 300)).convert("RGB")
    return {
        "plain": encoded(ramp),
        "one colour": encoded(Image.new("RGB", (16, 16), "white")),
        "with another gamma": gamma,
        "a large JPEG": encoded(large, "JPEG"),
        "large, with alpha": encoded(large.convert("RGBA")),
        "with a broken chunk": CAT[:33] + png_chunk(b"tRNS", b"x") + CAT[33:],
    }


@pytest.mark.parametrize("name", pictures_in_every_form())
def test_a_request_with_an_asset_is_the_one_with_its_data_uri(client: TestClient, name: str) -> None:
    assert same_request(client, pictures_in_every_form()[name], mask=True, control=True)


def test_pictures_that_differ_as_masks_alone_are_two_assets(client: TestClient) -> None:
    pictures = pictures_in_every_form()
    (other,) = upload(client, pictures["with another gamma"])
    shown = client.get(other["urls"]["picture"]).content
    (plain,) = upload(client, shown)
    assert plain["sha256"] == other["sha256"]
    assert plain["id"] != other["id"]


def test_a_submit_with_assets_decodes_and_encodes_no_picture(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = Image.new("L", (8, 8))
    mask.paste(255, (2, 2, 6, 6))
    cat, painted = upload(client, CAT, encoded(mask))

    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError("decoded or encoded")

    subject = good_subject(image=named(cat), mask=named(painted))
    request = good_request(subjects=[subject], start={"image": named(cat)})
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    monkeypatch.setattr("PIL.Image.Image.save", fail)
    assert client.post("/generate", json=request).status_code == 202


def test_jobs_and_assets_share_the_bytes_of_their_pictures(client: TestClient, settings: Settings) -> None:
    (asset,) = upload(client, CAT)
    submit_cat(client, named(asset))
    submit_cat(client, data_uri(CAT))
    assert len({path.stat().st_ino for path in settings.data_dir.rglob("*.png")}) == 1


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of what is synced from now on."""
    paths: list[str] = []
    fsync = os.fsync

    def count(handle: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", count)
    return paths


def test_every_file_of_a_submit_with_assets_is_synced(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asset,) = upload(client, CAT)
    paths = synced(monkeypatch)
    assert submit_cat(client, named(asset)).status_code == 202
    (job,) = (settings.data_dir / "local" / "jobs").iterdir()
    folders = [path for path in paths if not path.endswith(".part")]
    # The names of the picture, of the two documents, and of the job; and the two documents, each under its first name.
    assert sorted(folders) == sorted(map(str, (job / "pictures", job, job.parent)))
    assert len(paths) == 5


def test_every_file_of_an_upload_is_synced(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = synced(monkeypatch)
    (asset,) = upload(client, CAT)
    assets = folder_of(settings, asset).parent
    first = [path for path in paths if path.endswith(".part")]
    # The picture, what is known of it, their names, and the asset's own.
    assert len(first) == 2
    assert (len(paths), paths[-1]) == (4, str(assets))
    assert Path(paths[-2]).parent == assets


def test_pixels_of_assets_count_in_the_form_that_is_used(settings: Settings) -> None:
    large = encoded(Image.effect_noise((2200, 100), 90))
    shown, exact = 2048 * 93, 2200 * 100
    limit = settings.model_copy(update={"max_request_pixels": shown + exact - 1})
    with TestClient(create_app(settings)) as client:
        (asset,) = upload(client, large)
    control = {"name": "canny", "image": named(asset)}
    with TestClient(create_app(limit)) as client:
        assert submit_cat(client, named(asset)).status_code == 202
        response = submit(client, subjects=[good_subject(image=named(asset))], controls=[control])
    assert problem(response) == (413, "picture_too_large", "")


# Erasure


def test_an_erased_asset_stays_for_the_jobs_that_name_it(
    client: TestClient, artifacts: ArtifactStore, store: JobStore
) -> None:
    (asset,) = upload(client, CAT)
    job_id = submit_cat(client, named(asset)).json()["id"]
    assert client.delete(asset["urls"]["self"]).status_code == 204
    assert problem(client.delete(asset["urls"]["self"]))[:2] == (404, "asset_not_found")
    assert problem(submit_cat(client, named(asset)))[:2] == (422, "asset_not_found")
    record = store.get(job_id)
    assert record is not None
    assert artifacts.load_request(record.folder).subjects[0].images[0].getpixel((4, 4)) == (255, 165, 0)


def test_to_delete_a_job_leaves_its_assets(client: TestClient) -> None:
    (asset,) = upload(client, CAT)
    job_id = submit_cat(client, named(asset)).json()["id"]
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert client.get(asset["urls"]["picture"]).status_code == 200


def test_an_erased_asset_leaves_no_bytes(client: TestClient, settings: Settings) -> None:
    (asset,) = upload(client, encoded(Image.effect_noise((2200, 100), 90)))
    client.delete(asset["urls"]["self"])
    assert [path for path in settings.data_dir.rglob("*") if path.is_file()] == []


def test_an_asset_whose_file_is_a_link_is_not_followed(client: TestClient, settings: Settings, tmp_path: Path) -> None:
    (asset,) = upload(client, CAT)
    secret = tmp_path / "secret.json"
    document = folder_of(settings, asset) / "asset.json"
    secret.write_bytes(document.read_bytes())
    document.unlink()
    document.symlink_to(secret)
    assert client.get(asset["urls"]["self"]).status_code == 503


def test_the_request_of_a_job_names_no_asset(client: TestClient) -> None:
    """It stays true when the asset is gone."""
    (asset,) = upload(client, CAT)
    job_id = submit_cat(client, named(asset)).json()["id"]
    request = client.get(f"/jobs/{job_id}/request").json()
    assert asset["id"] not in json.dumps(request).replace(asset["sha256"], "")
    assert client.get(request["request"]["subjects"][0]["image"]).status_code == 200
