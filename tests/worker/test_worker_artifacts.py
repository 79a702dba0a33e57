from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from job_helpers import picture_png
from PIL import Image

from ms_core.errors import ImageNotFoundError, JobNotFoundError, StorageError
from worker.artifacts import ArtifactStore, Manifest, png_with_recipe, read_recipe
from worker.contract import JobWarning, StoredImage, StoredRequest, StoredSubject, new_job_id

SHA = "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "root")


def files(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


def test_a_picture_is_found_under_its_hash(store: ArtifactStore) -> None:
    png = picture_png((1, 2, 3))
    sha256 = store.save_picture(png)
    assert sha256 == hashlib.sha256(png).hexdigest()
    assert store.load_picture(sha256).getpixel((0, 0)) == (1, 2, 3)


def test_the_same_picture_is_kept_once(store: ArtifactStore, tmp_path: Path) -> None:
    store.save_picture(picture_png())
    store.save_picture(picture_png())
    assert len(files(tmp_path)) == 1


def test_owners_do_not_see_each_other(tmp_path: Path) -> None:
    sha256 = ArtifactStore(tmp_path, "alice").save_picture(picture_png())
    with pytest.raises(StorageError, match="no longer stored"):
        ArtifactStore(tmp_path, "bob").load_picture(sha256)


def test_a_damaged_picture_is_named_so(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.save_picture(picture_png())
    (path,) = tmp_path.rglob("*.png")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StorageError, match="damaged"):
        store.load_picture(sha256)


def test_a_request_comes_back(store: ArtifactStore) -> None:
    request = StoredRequest(prompt="猫", subjects=(StoredSubject(phrase="猫", images=(SHA,)),), seed=1, model="mini")
    job_id = new_job_id()
    store.save_request(job_id, request)
    assert store.load_request(job_id) == request


def test_the_request_of_an_unknown_job_is_missing(store: ArtifactStore) -> None:
    with pytest.raises(JobNotFoundError):
        store.load_request(new_job_id())


def test_a_manifest_comes_back(store: ArtifactStore) -> None:
    job_id = new_job_id()
    image = StoredImage(index=0, sha256=SHA, width=8, height=8, seed=1)
    manifest = Manifest(images=(image,), warnings=(JobWarning(code="c", detail="d"),))
    assert store.load_manifest(job_id) is None
    store.save_manifest(job_id, manifest)
    assert store.load_manifest(job_id) == manifest


def test_an_image_comes_back(store: ArtifactStore) -> None:
    job_id = new_job_id()
    sha256 = store.save_image(job_id, 0, b"png bytes")
    assert store.load_image(job_id, 0) == b"png bytes"
    assert sha256 == hashlib.sha256(b"png bytes").hexdigest()


@pytest.mark.parametrize("index", [-1, 1, 8, 10**9])
def test_an_image_that_is_not_there_is_named_so(store: ArtifactStore, index: int) -> None:
    job_id = new_job_id()
    store.save_image(job_id, 0, b"png bytes")
    with pytest.raises(ImageNotFoundError):
        store.load_image(job_id, index)


def test_a_reference_comes_back(store: ArtifactStore) -> None:
    job_id = new_job_id()
    store.save_reference(job_id, 15, b"png bytes")
    assert store.load_reference(job_id, 15) == b"png bytes"


@pytest.mark.parametrize("subject", [-1, 1, 16, 10**9])
def test_a_reference_that_is_not_there_is_named_so(store: ArtifactStore, subject: int) -> None:
    job_id = new_job_id()
    store.save_reference(job_id, 0, b"png bytes")
    with pytest.raises(ImageNotFoundError):
        store.load_reference(job_id, subject)


def test_a_manifest_of_an_older_version_is_read(store: ArtifactStore, tmp_path: Path) -> None:
    job_id = new_job_id()
    store.save_manifest(job_id, Manifest(images=()))
    (path,) = tmp_path.rglob("manifest.json")
    path.write_text('{"images": [], "warnings": []}')
    assert store.load_manifest(job_id) == Manifest(images=())


@pytest.mark.parametrize("job_id", ["../../../../../etc/passwd", "a/b/c/d/e/f/g/h/i/j", "..", "", "a" * 16 + "\0"])
def test_no_job_id_leaves_the_root(store: ArtifactStore, tmp_path: Path, job_id: str) -> None:
    with pytest.raises(JobNotFoundError):
        store.save_image(job_id, 0, b"x")
    assert files(tmp_path) == []


@pytest.mark.parametrize("sha256", ["../" * 21 + "x", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_no_hash_leaves_the_root(store: ArtifactStore, sha256: str) -> None:
    with pytest.raises(StorageError, match="hexadecimal"):
        store.load_picture(sha256)


@pytest.mark.parametrize("owner", ["../x", "", "A", "a/b"])
def test_no_owner_leaves_the_root(tmp_path: Path, owner: str) -> None:
    with pytest.raises(StorageError):
        ArtifactStore(tmp_path, owner)


def test_a_write_that_fails_leaves_nothing(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        store.save_picture(picture_png())
    assert str(tmp_path) not in caught.value.detail
    assert files(tmp_path) == []


def test_a_png_carries_its_recipe() -> None:
    recipe = {"request": {"prompt": "猫 \N{CAT FACE}" * 5000}, "seed": 2**53 - 1}
    assert read_recipe(png_with_recipe(Image.new("RGB", (8, 8)), recipe)) == recipe


def test_a_png_without_recipe_has_none() -> None:
    assert read_recipe(picture_png()) is None
