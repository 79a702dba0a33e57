from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ms_core.errors import (
    AttemptOverError,
    ImageNotFoundError,
    InvalidInputError,
    JobNotFoundError,
    MSDiffusionError,
    StorageError,
    StorageFullError,
)
from ms_core.spec import WHOLE_PICTURE, GenerationWarning, Subject
from ms_jobs import files as files_module
from ms_jobs.artifacts import ArtifactStore, Manifest
from ms_jobs.job_request import JobRequest
from ms_jobs.records import StoredImage, new_job_id
from ms_jobs.result_files import SUFFIXES
from tests.support.job_helpers import picture_png
from tests.support.known_pictures import KnownPictures

RED, BLUE = picture_png((255, 0, 0)), picture_png((0, 0, 255))
PNG = b"png bytes"


def sha256_of(png: bytes) -> str:
    return hashlib.sha256(png).hexdigest()


PICTURES = KnownPictures(RED, BLUE)


def request_for(*pngs: bytes) -> JobRequest:
    subjects = tuple(Subject("猫", (PICTURES.opened[sha256_of(png)],), WHOLE_PICTURE) for png in pngs)
    return JobRequest("猫", subjects, seed=1, model="mini")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> ArtifactStore:
    return ArtifactStore(root)


def new_job(store: ArtifactStore, *pngs: bytes) -> str:
    """A folder with a request for these pictures."""
    with store.new_folder(new_job_id()) as folder:
        for png in pngs:
            folder.save_picture(png)
        folder.save_request(request_for(*(pngs or (RED,))), PICTURES)
    return folder.name


@pytest.fixture
def folder(store: ArtifactStore) -> str:
    return new_job(store, RED)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def manifest_of(attempt: int, seed: int = 1) -> Manifest:
    image = StoredImage(index=0, sha256="0" * 64, width=8, height=8, seed=seed)
    return Manifest(
        attempt=attempt, images=(image,), warnings=(GenerationWarning(code="c", detail="d"),), references=(1,)
    )


# A new job's folder


def test_a_picture_is_found_under_its_hash(store: ArtifactStore) -> None:
    with store.new_folder(new_job_id()) as folder:
        assert folder.save_picture(RED) == sha256_of(RED)
    assert store.load_picture(folder.name, sha256_of(RED)).getpixel((16, 16)) == (255, 0, 0)


def test_a_picture_is_found_by_its_own_job_only(store: ArtifactStore) -> None:
    other = new_job(store, BLUE)
    new_job(store, RED)
    with pytest.raises(StorageError, match="no longer stored"):
        store.load_picture(other, sha256_of(RED))


def test_the_same_picture_is_kept_once(store: ArtifactStore, root: Path) -> None:
    for _ in range(2):
        new_job(store, RED, RED)
    assert len({path.stat().st_ino for path in root.rglob("*.png")}) == 1


def test_owners_do_not_see_each_other(store: ArtifactStore, folder: str) -> None:
    with pytest.raises(JobNotFoundError):
        store.for_owner("bob").load_request(folder)


def test_owners_share_no_bytes(store: ArtifactStore, root: Path) -> None:
    for owner in ("alice", "bob"):
        new_job(store.for_owner(owner), RED)
    assert len({path.stat().st_ino for path in root.rglob("*.png")}) == 2
    assert sorted(store.owners()) == ["alice", "bob"]


def gif(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [lambda png: png[:40], lambda png: png + b"x", lambda png: BLUE, gif],
    ids=["cut", "longer", "other", "GIF"],
)
def test_a_damaged_picture_is_named(
    store: ArtifactStore, folder: str, root: Path, change: Callable[[bytes], bytes]
) -> None:
    path = next(root.rglob("jobs/**/*.png"))
    path.write_bytes(change(path.read_bytes()))
    for read in (
        lambda: store.load_picture(folder, sha256_of(RED)),
        lambda: store.load_request(folder),
        lambda: store.copy_request(folder, new_job_id()),
    ):
        with pytest.raises(StorageError, match=f"The stored picture {sha256_of(RED)}.png of this job is damaged"):
            read()


def test_a_picture_is_read_by_the_format_that_is_stored(store: ArtifactStore) -> None:
    """Pillow starts a program for some formats."""
    other = gif(RED)
    with store.new_folder(new_job_id()) as new:
        new.save_picture(other)
    with pytest.raises(StorageError, match="damaged"):
        store.load_picture(new.name, sha256_of(other))


def test_no_link_is_followed_and_no_pipe_waited_for(store: ArtifactStore, folder: str, root: Path) -> None:
    path = next(root.rglob("jobs/**/*.png"))
    kept = path.rename(root / "kept.png")
    path.symlink_to(kept)
    with pytest.raises(StorageError, match="cannot be read"):
        store.load_picture(folder, sha256_of(RED))
    store.open_attempt(folder, 1)
    store.save_image(folder, 1, 0, PNG)
    image = next(root.rglob("image-0.png"))
    for make in (lambda: image.symlink_to(kept), lambda: os.mkfifo(image)):
        image.unlink()
        make()
        with pytest.raises(StorageError, match="cannot be read"):
            store.load_image(folder, 1, 0)


def test_a_request_comes_back(store: ArtifactStore, folder: str) -> None:
    assert store.load_request(folder) == request_for(RED)


def test_a_request_that_cannot_be_read_is_named_so(store: ArtifactStore, folder: str, root: Path) -> None:
    next(root.rglob("request.json")).write_text("{")
    with pytest.raises(StorageError, match="cannot be read"):
        store.load_request(folder)


def rewrite_request(root: Path, **changes: Any) -> None:
    path = next(root.rglob("request.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_stored_value_that_is_out_of_range_is_named(store: ArtifactStore, folder: str, root: Path) -> None:
    """An older version may have accepted it; the job fails with what its client can mend."""
    rewrite_request(root, num_inference_steps=100_000)
    with pytest.raises(InvalidInputError) as caught:
        store.load_request(folder)
    assert caught.value.pointer == "/num_inference_steps"


def test_a_stored_value_of_a_wrong_type_is_damage(store: ArtifactStore, folder: str, root: Path) -> None:
    rewrite_request(root, num_inference_steps="many")
    with pytest.raises(StorageError, match="send it again"):
        store.load_request(folder)


def test_a_folder_that_could_not_be_filled_is_removed(store: ArtifactStore, root: Path) -> None:
    with pytest.raises(ZeroDivisionError), store.new_folder(new_job_id()) as folder:  # noqa: PT012 - this is the point
        folder.save_picture(RED)
        raise ZeroDivisionError
    assert files(root) == []
    assert list((root / "local" / "jobs").iterdir()) == []


def test_two_folders_for_one_job_are_two(store: ArtifactStore) -> None:
    job_id = new_job_id()
    with store.new_folder(job_id) as first, store.new_folder(job_id) as second:
        first.save_picture(RED)
        first.save_request(request_for(RED), PICTURES)
        second.save_picture(BLUE)
        second.save_request(request_for(BLUE), PICTURES)
    assert store.load_request(first.name) == request_for(RED)
    assert store.load_request(second.name) == request_for(BLUE)


def test_a_request_is_copied_with_its_pictures(store: ArtifactStore) -> None:
    first = new_job(store, RED, BLUE)
    copy = store.copy_request(first, new_job_id())
    store.remove(first)
    assert store.load_request(copy) == request_for(RED, BLUE)
    for png in (RED, BLUE):
        store.load_picture(copy, sha256_of(png))


def test_what_is_gone_is_not_copied(store: ArtifactStore, folder: str, root: Path) -> None:
    store.remove(folder)
    with pytest.raises(JobNotFoundError):
        store.copy_request(folder, new_job_id())
    assert files(root) == []


def test_a_job_that_is_removed_while_it_is_filled_is_told(store: ArtifactStore) -> None:
    with pytest.raises(StorageError, match="deleted while it was submitted"), store.new_folder(new_job_id()) as folder:  # noqa: PT012 - this is the point
        store.remove(folder.name)
        folder.save_picture(RED)


# Pictures that jobs share


def test_a_picture_stays_while_another_job_needs_it(store: ArtifactStore, root: Path) -> None:
    first, second = new_job(store, RED, BLUE), new_job(store, RED)
    store.remove(first)
    store.load_picture(second, sha256_of(RED))
    assert sorted(path.name for path in (root / "local" / "pictures").iterdir()) == [f"{sha256_of(RED)}.png"]


def test_a_picture_goes_with_the_last_job_that_needs_it(store: ArtifactStore, root: Path) -> None:
    folders = [new_job(store, RED) for _ in range(3)]
    for folder in folders:
        store.remove(folder)
    assert files(root) == []


def test_a_picture_that_is_removed_before_it_is_shared_is_kept_all_the_same(
    store: ArtifactStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_too_late(source: Path, target: Path) -> None:
        store.remove(folder)
        link(source, target)

    monkeypatch.setattr(os, "link", link_too_late)
    late = new_job(store, RED)
    store.load_picture(late, sha256_of(RED))


def test_pictures_survive_jobs_that_come_and_go_at_once(store: ArtifactStore) -> None:
    failures: list[Exception] = []

    def come_and_go() -> None:
        try:
            for _ in range(25):
                folder = new_job(store, RED, BLUE)
                store.load_picture(folder, sha256_of(RED))
                store.load_picture(folder, sha256_of(BLUE))
                store.remove(folder)
        except Exception as error:
            failures.append(error)

    in_parallel([come_and_go] * 4)
    assert failures == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
def test_a_volume_without_links_keeps_copies(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, root: Path, number: int
) -> None:
    monkeypatch.setattr(os, "link", failing_with(number))
    first, second = new_job(store, RED), new_job(store, RED)
    store.remove(first)
    store.load_picture(second, sha256_of(RED))
    third = store.copy_request(second, new_job_id())
    store.remove(second)
    store.load_picture(third, sha256_of(RED))
    store.remove(third)
    assert files(root) == []


# What an attempt makes


def test_an_image_comes_back(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 1)
    assert store.save_image(folder, 1, 0, PNG) == sha256_of(PNG)
    assert store.load_image(folder, 1, 0) == PNG


def test_a_picture_is_stored_under_the_suffix_of_its_format(store: ArtifactStore, folder: str, root: Path) -> None:
    store.open_attempt(folder, 1)
    for index, (media_type, suffix) in enumerate(SUFFIXES.items()):
        encoded = media_type.encode()
        assert store.save_image(folder, 1, index, encoded, media_type) == sha256_of(encoded)
        assert store.load_image(folder, 1, index, media_type) == encoded
        assert next(root.glob(f"local/jobs/{folder}/attempts/*/image-{index}{suffix}")).read_bytes() == encoded
    with pytest.raises(ImageNotFoundError):
        store.load_image(folder, 1, 1)
    with pytest.raises(StorageError, match="image/avif"):
        store.load_image(folder, 1, 0, "image/avif")


@pytest.mark.parametrize("index", [-1, 1, 8, 10**9])
def test_an_image_that_is_not_there_is_named_so(store: ArtifactStore, folder: str, index: int) -> None:
    store.open_attempt(folder, 1)
    store.save_image(folder, 1, 0, PNG)
    with pytest.raises(ImageNotFoundError):
        store.load_image(folder, 1, index)


def test_a_reference_comes_back(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 1)
    store.save_reference(folder, 1, 15, PNG)
    assert store.load_reference(folder, 1, 15) == PNG


@pytest.mark.parametrize("subject", [-1, 1, 16, 10**9])
def test_a_reference_that_is_not_there_is_named_so(store: ArtifactStore, folder: str, subject: int) -> None:
    store.open_attempt(folder, 1)
    store.save_reference(folder, 1, 0, PNG)
    with pytest.raises(ImageNotFoundError):
        store.load_reference(folder, 1, subject)


def test_a_manifest_comes_back(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 1)
    assert store.load_manifest(folder, 1) is None
    assert not store.has_result(folder)
    store.save_manifest(folder, manifest_of(1))
    assert store.load_manifest(folder, 1) == manifest_of(1)
    assert store.has_result(folder)


def test_a_manifest_that_cannot_be_read_is_named_so(store: ArtifactStore, folder: str, root: Path) -> None:
    store.open_attempt(folder, 1)
    store.save_manifest(folder, manifest_of(1))
    next(root.rglob("manifest.json")).write_text("{}")
    with pytest.raises(StorageError, match="cannot be read"):
        store.load_manifest(folder, 1)


def test_nothing_is_written_before_the_attempt_is_opened(store: ArtifactStore, folder: str) -> None:
    with pytest.raises(AttemptOverError):
        store.save_image(folder, 1, 0, PNG)


# The fence between attempts

Write = Callable[[ArtifactStore, str, int], object]
WRITES: list[Write] = [
    lambda store, folder, attempt: store.save_image(folder, attempt, 0, PNG),
    lambda store, folder, attempt: store.save_reference(folder, attempt, 0, PNG),
    lambda store, folder, attempt: store.save_manifest(folder, manifest_of(attempt)),
]


@pytest.mark.parametrize("write", WRITES)
def test_an_older_attempt_writes_nothing(store: ArtifactStore, folder: str, root: Path, write: Write) -> None:
    store.open_attempt(folder, 1)
    store.save_image(folder, 1, 0, b"half of the work")
    store.open_attempt(folder, 2)
    before = files(root)
    with pytest.raises(AttemptOverError):
        write(store, folder, 1)
    assert files(root) == before
    assert not any("half" in path.read_text() for path in root.rglob("image-*"))


@pytest.mark.parametrize("write", WRITES)
def test_an_attempt_at_a_removed_job_writes_nothing(
    store: ArtifactStore, folder: str, root: Path, write: Write
) -> None:
    store.open_attempt(folder, 1)
    store.remove(folder)
    with pytest.raises(AttemptOverError):
        write(store, folder, 1)
    assert files(root) == []


def test_an_attempt_that_opens_late_is_over(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 2)
    store.save_image(folder, 2, 0, PNG)
    with pytest.raises(AttemptOverError):
        store.open_attempt(folder, 1)
    assert store.load_image(folder, 2, 0) == PNG
    with pytest.raises(AttemptOverError):
        store.save_image(folder, 1, 0, b"late")


def test_an_attempt_that_was_ended_before_it_opened_is_over(store: ArtifactStore, folder: str) -> None:
    assert store.end_attempts(folder, 2) is None
    for attempt in (1, 2):
        with pytest.raises(AttemptOverError):
            store.open_attempt(folder, attempt)
    assert store.open_attempt(folder, 3) is None


def test_a_job_that_was_removed_cannot_be_opened(store: ArtifactStore, folder: str, root: Path) -> None:
    store.remove(folder)
    for call in (store.open_attempt, store.end_attempts):
        with pytest.raises(JobNotFoundError):
            call(folder, 1)
    assert files(root) == []


def test_an_attempt_that_asks_twice_keeps_its_files(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 1)
    store.save_image(folder, 1, 0, PNG)
    assert store.open_attempt(folder, 1) is None
    assert store.load_image(folder, 1, 0) == PNG


@pytest.mark.parametrize("latest", [1, 2, 5])
def test_what_an_earlier_attempt_finished_is_adopted(store: ArtifactStore, folder: str, latest: int) -> None:
    store.open_attempt(folder, 1)
    store.save_image(folder, 1, 0, PNG)
    store.save_manifest(folder, manifest_of(1))
    for attempt in range(2, latest + 1):
        assert store.open_attempt(folder, attempt) == manifest_of(1)
    assert store.open_attempt(folder, latest + 1) == manifest_of(1)
    assert store.load_image(folder, 1, 0) == PNG
    assert store.load_manifest(folder, 1) == manifest_of(1)
    assert store.has_result(folder)


def test_what_is_finished_is_told_when_the_attempts_are_ended(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 1)
    store.save_manifest(folder, manifest_of(1))
    assert store.end_attempts(folder, 1) == manifest_of(1)
    assert store.end_attempts(folder, 1) == manifest_of(1)


def test_a_manifest_that_appears_while_its_attempt_is_ended_is_adopted(
    store: ArtifactStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open_attempt(folder, 1)
    rename = Path.rename

    def rename_late(path: Path, target: Path) -> Path:
        if path.name == "1":
            monkeypatch.setattr(Path, "rename", rename)
            store.save_manifest(folder, manifest_of(1))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_late)
    assert store.open_attempt(folder, 2) == manifest_of(1)


class Crash(BaseException):
    """As if the process were killed at this very moment."""


def test_a_manifest_that_was_there_when_its_attempt_ended_is_kept(
    store: ArtifactStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open_attempt(folder, 1)
    sync_folder = files_module.sync_folder

    def end_first(path: Path) -> None:
        assert store.end_attempts(folder, 1) == manifest_of(1)
        sync_folder(path)

    monkeypatch.setattr(files_module, "sync_folder", end_first)
    store.save_manifest(folder, manifest_of(1))
    assert store.load_manifest(folder, 1) == manifest_of(1)


STEPS = ["mkdir", "rename", "unlink"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_crash_while_attempts_are_ended_loses_nothing(
    store: ArtifactStore, folder: str, monkeypatch: pytest.MonkeyPatch, step: str, is_done: bool, after: bool
) -> None:
    store.open_attempt(folder, 1)
    store.save_image(folder, 1, 0, PNG)
    if is_done:
        store.save_manifest(folder, manifest_of(1))
    original = getattr(Path, step)

    def crash(path: Path, *args: Any, **options: Any) -> None:
        if after:
            original(path, *args, **options)
        raise Crash

    with monkeypatch.context() as patch, suppress(Crash):  # not every step is taken in every case
        patch.setattr(Path, step, crash)
        store.open_attempt(folder, 2)
    assert store.open_attempt(folder, 3) == (manifest_of(1) if is_done else None)
    with pytest.raises(AttemptOverError):
        store.save_image(folder, 1, 0, PNG)
    if is_done:
        assert store.load_image(folder, 1, 0) == PNG


def test_of_attempts_that_open_at_once_only_the_latest_writes(store: ArtifactStore) -> None:
    for _ in range(20):
        folder = new_job(store)
        writers: list[int] = []

        def attempt(number: int, folder: str = folder, writers: list[int] = writers) -> None:
            try:
                store.open_attempt(folder, number)
            except AttemptOverError:
                return
            writers.append(number)

        in_parallel([lambda number=number: attempt(number) for number in (1, 2, 3, 4)])
        assert 4 in writers
        for number in (1, 2, 3):
            with pytest.raises(AttemptOverError):
                store.save_image(folder, number, 0, PNG)
        store.save_image(folder, 4, 0, PNG)


def test_several_may_end_an_attempt_at_once(store: ArtifactStore) -> None:
    for _ in range(20):
        folder = new_job(store)
        store.open_attempt(folder, 1)
        store.save_manifest(folder, manifest_of(1))
        found: list[Manifest | None] = []

        def end(folder: str = folder, found: list[Manifest | None] = found) -> None:
            found.append(store.end_attempts(folder, 1))

        in_parallel([end] * 4)
        assert found == [manifest_of(1)] * 4


def test_a_picture_can_be_read_while_its_attempt_is_ended(store: ArtifactStore) -> None:
    for _ in range(20):
        folder = new_job(store)
        store.open_attempt(folder, 1)
        store.save_image(folder, 1, 0, PNG)
        store.save_manifest(folder, manifest_of(1))
        read: list[bytes] = []

        def look(folder: str = folder, read: list[bytes] = read) -> None:
            read.extend(store.load_image(folder, 1, 0) for _ in range(20))

        in_parallel([look, lambda folder=folder: store.open_attempt(folder, 2)])
        assert read == [PNG] * 20


# Removing


def test_nothing_is_left_of_a_removed_job(store: ArtifactStore, folder: str, root: Path) -> None:
    store.open_attempt(folder, 1)
    store.save_manifest(folder, manifest_of(1))
    store.remove(folder)
    store.remove(folder)
    assert files(root) == []
    assert list((root / "local" / "jobs").iterdir()) == []


def test_a_job_is_removed_at_once_or_not_at_all(
    store: ArtifactStore, folder: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: Any, **options: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", crash)
        with pytest.raises(Crash):
            store.remove(folder)
    with pytest.raises(JobNotFoundError):
        store.load_request(folder)
    with pytest.raises(JobNotFoundError):
        store.open_attempt(folder, 1)
    assert list(store.clear_leftovers(lambda name, age: True, age_s=0)) != []
    assert files(root) == []


def test_leftovers_are_cleared_and_what_is_kept_is_kept(store: ArtifactStore, root: Path) -> None:
    kept, orphan = new_job(store, RED), new_job(store, BLUE)
    half = root / "local" / "pictures" / ".half.part"
    half.write_bytes(b"half")
    removed = {name for name in store.clear_leftovers(lambda name, age: name == kept, age_s=0) if name is not None}
    assert removed == {orphan, half.name}
    store.load_picture(kept, sha256_of(RED))


def test_what_is_young_is_no_leftover(store: ArtifactStore, folder: str) -> None:
    assert set(store.clear_leftovers(lambda name, age: False, age_s=3600)) == {None}
    assert store.load_request(folder) == request_for(RED)


# Names that lead nowhere

LEADING_OUT = ["../../../../../etc/passwd", "a/b/c/d/e/f/g/h/i/j", "..", "", "a" * 16 + "\0", "a" * 16, "a" * 16 + ".."]


@pytest.mark.parametrize("job_id", [name for name in LEADING_OUT if name != "a" * 16])
def test_no_job_id_leaves_the_root(store: ArtifactStore, root: Path, job_id: str) -> None:
    with pytest.raises(JobNotFoundError), store.new_folder(job_id):
        pass
    assert not root.exists()


def outside(store: ArtifactStore, name: str) -> Iterator[Callable[[], object]]:
    """Everything that can be asked of a folder with this name."""
    yield lambda: store.load_request(name)
    yield lambda: store.load_picture(name, "0" * 64)
    yield lambda: store.open_attempt(name, 1)
    yield lambda: store.end_attempts(name, 1)
    yield lambda: store.save_image(name, 1, 0, PNG)
    yield lambda: store.load_image(name, 1, 0)
    yield lambda: store.save_reference(name, 1, 0, PNG)
    yield lambda: store.load_reference(name, 1, 0)
    yield lambda: store.save_manifest(name, manifest_of(1))
    yield lambda: store.load_manifest(name, 1)
    yield lambda: store.remove(name)
    yield lambda: store.has_result(name)
    yield lambda: store.copy_request(name, new_job_id())


@pytest.mark.parametrize("name", LEADING_OUT)
def test_no_folder_leaves_the_root(store: ArtifactStore, root: Path, name: str) -> None:
    for ask in outside(store, name):
        with pytest.raises(JobNotFoundError):
            ask()
    assert not root.exists()


@given(name=st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("./\\\0\n-_aA0"), max_size=80))
def test_a_folder_has_the_form_of_our_own_names_or_is_refused(name: str) -> None:
    store = ArtifactStore(Path("/nowhere/that/exists"))
    job_id, _, token = name.partition(".")
    try:
        store.remove(name)
    except JobNotFoundError:
        return
    assert job_id.replace("-", "").replace("_", "").isascii()
    assert len(token) == 8
    assert "/" not in name
    assert "\0" not in name


@pytest.mark.parametrize("sha256", ["../" * 21 + "x", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_no_hash_leaves_the_root(store: ArtifactStore, folder: str, sha256: str) -> None:
    with pytest.raises(StorageError, match="hexadecimal"):
        store.load_picture(folder, sha256)


@pytest.mark.parametrize("owner", ["../x", "", "A", "a/b"])
def test_no_owner_leaves_the_root(root: Path, owner: str) -> None:
    with pytest.raises(StorageError):
        ArtifactStore(root, owner)


# Faults of the volume


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("write", WRITES)
def test_a_full_volume_is_told_and_leaves_nothing(
    store: ArtifactStore, folder: str, root: Path, monkeypatch: pytest.MonkeyPatch, write: Write, number: int
) -> None:
    store.open_attempt(folder, 1)
    before = files(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_with(number))
        with pytest.raises(StorageFullError, match="try again when some have expired") as caught:
            write(store, folder, 1)
    assert str(root) not in caught.value.detail
    assert files(root) == before
    write(store, folder, 1)
    assert len(files(root)) == len(before) + 1


def test_a_request_that_finds_no_room_leaves_nothing(
    store: ArtifactStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing_with(errno.ENOSPC))
    with pytest.raises(StorageFullError):
        new_job(store, RED)
    assert files(root) == []


def test_a_volume_on_which_no_folder_can_be_made_is_full(
    store: ArtifactStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", failing_with(errno.ENOSPC))
    with pytest.raises(StorageFullError):
        store.open_attempt(folder, 1)


def test_a_write_that_fails_is_told_without_the_path(
    store: ArtifactStore, folder: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open_attempt(folder, 1)
    monkeypatch.setattr(os, "fsync", failing_with(errno.EIO))
    with pytest.raises(StorageError, match="cannot be written: Input/output error") as caught:
        store.save_image(folder, 1, 0, PNG)
    assert str(root) not in caught.value.detail
    assert not isinstance(caught.value, StorageFullError)


def test_a_read_that_fails_is_told_without_the_path(
    store: ArtifactStore, folder: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdopen", failing_with(errno.EIO))
    with pytest.raises(StorageError, match="cannot be read: Input/output error") as caught:
        store.load_request(folder)
    assert str(root) not in caught.value.detail


def test_a_write_that_was_interrupted_is_never_visible(
    store: ArtifactStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open_attempt(folder, 1)

    def crash(*args: Any) -> None:
        raise Crash

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(Crash):
        store.save_image(folder, 1, 0, PNG)
    with pytest.raises(ImageNotFoundError):
        store.load_image(folder, 1, 0)


def test_what_is_replaced_is_never_half_there(store: ArtifactStore, folder: str) -> None:
    store.open_attempt(folder, 1)
    contents = {bytes([number]) * 200_000 for number in range(8)}
    store.save_image(folder, 1, 0, min(contents))
    seen: set[bytes] = set()
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.add(store.load_image(folder, 1, 0))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for content in sorted(contents):
            store.save_image(folder, 1, 0, content)
    finally:
        is_over.set()
        reader.join()
    assert seen
    assert seen <= contents


def test_room_is_asked_for_before_there_is_a_folder(store: ArtifactStore, root: Path) -> None:
    assert store.free_bytes() > 0
    store.require_room(1)
    with pytest.raises(StorageFullError):
        store.require_room(2**63)
    assert not root.exists()


def test_no_error_of_the_store_tells_its_path(store: ArtifactStore, root: Path) -> None:
    root.write_text("a file where a folder should be")
    details = [detail_of(ask) for ask in outside(store, f"{new_job_id()}.00000000")]
    told = [detail for detail in details if detail is not None]
    assert len(told) >= 10
    assert not any(str(root) in detail for detail in told)


def detail_of(ask: Callable[[], object]) -> str | None:
    """What an error of ours says; any other passes through."""
    try:
        ask()
    except MSDiffusionError as error:
        return error.detail
    return None


def failing_with(number: int) -> Callable[..., None]:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def in_parallel(calls: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_shared_picture_that_is_damaged_is_stored_again(store: ArtifactStore, root: Path) -> None:
    png = picture_png()
    with store.new_folder("0123456789abcdef") as first:
        sha256 = first.save_picture(png)
    shared = root / "local" / "pictures" / f"{sha256}.png"
    shared.write_bytes(png[:20])
    with store.new_folder("0123456789abcdef") as second:
        second.save_picture(png)
    assert shared.read_bytes() == png
    assert (root / "local" / "jobs" / second.name / "pictures" / shared.name).read_bytes() == png


def test_a_link_among_the_jobs_is_removed_and_what_it_leads_to_stays(store: ArtifactStore, root: Path) -> None:
    kept = root / "elsewhere"
    kept.mkdir(parents=True)
    (kept / "file").write_text("")
    jobs = root / "local" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "0123456789abcdef.00000000").symlink_to(kept)
    (jobs / ".0123456789abcdef.00000000.1234").symlink_to(kept / "nothing")
    removed = [name for name in store.clear_leftovers(lambda name, age: False, age_s=-1) if name is not None]
    assert len(removed) == 2
    assert (list(jobs.iterdir()), (kept / "file").exists()) == ([], True)
    assert list(store.clear_leftovers(lambda name, age: False, age_s=-1)) == []


def test_a_shared_picture_that_cannot_be_read_is_stored_again(store: ArtifactStore, root: Path) -> None:
    png = picture_png()
    with store.new_folder("0123456789abcdef") as first:
        sha256 = first.save_picture(png)
    shared = root / "local" / "pictures" / f"{sha256}.png"
    (root / "same size").write_bytes(b"x" * len(png))
    shared.unlink()
    shared.symlink_to("x" * len(png))
    with store.new_folder("0123456789abcdef") as second:
        second.save_picture(png)
    assert shared.read_bytes() == png


@pytest.mark.parametrize("asked", [b"[]", b'{"subjects": [{"images": null}]}', b'{"subjects": {}, "start": 1}', b"{"])
def test_a_damaged_request_as_asked_for_is_named(store: ArtifactStore, folder: str, root: Path, asked: bytes) -> None:
    next(root.rglob("request.json")).with_name("asked.json").write_bytes(asked)
    with pytest.raises(StorageError, match="send it again"):
        store.asked(folder)


def test_a_request_has_no_pictures_but_its_own(store: ArtifactStore, folder: str, root: Path) -> None:
    assert store.request_picture(folder, sha256_of(RED)) == store.request_picture(folder, sha256_of(RED))
    with pytest.raises(ImageNotFoundError):
        store.request_picture(folder, "0" * 64)
    shutil.rmtree(next(root.rglob("jobs/*/pictures")))
    with pytest.raises(JobNotFoundError):
        store.request_picture(folder, sha256_of(RED))
