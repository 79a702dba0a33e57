"""The cast on the volume: each change is whole, and leaves nothing behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ms_core.errors import CastNotFoundError, StorageError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.cast import CastStore, NewPicture, Traits
from ms_jobs.kept_pictures import Variant
from ms_jobs.pictures import SharedPictures
from ms_jobs.records import new_job_id
from tests.support.job_helpers import picture_png

RED, BLUE = picture_png((255, 0, 0)), picture_png((0, 0, 255))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def artifacts(root: Path) -> ArtifactStore:
    return ArtifactStore(root)


@pytest.fixture
def cast(artifacts: ArtifactStore) -> CastStore:
    return artifacts.cast()


def put(cast: CastStore, tmp_path: Path, *pngs: bytes, name: str = "rex") -> bool:
    shared = SharedPictures(tmp_path / "other")
    shared.make()
    (tmp_path / "hashes").mkdir(exist_ok=True)
    pictures = [
        NewPicture(png, Variant(sha256=shared.save(tmp_path / "hashes", png), width=32, height=32)) for png in pngs
    ]
    return cast.put(name, Traits(phrase="cat"), pictures)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def make_old(path: Path, age_s: float) -> None:
    then = time.time() - age_s
    os.utime(path, (then, then))


def test_the_same_picture_twice_is_kept_once(cast: CastStore, tmp_path: Path) -> None:
    assert put(cast, tmp_path, RED, RED)
    member = cast.find("rex")
    assert (member.png(0), member.png(1)) == (RED, RED)


def test_owners_have_their_own_cast(artifacts: ArtifactStore, cast: CastStore, tmp_path: Path) -> None:
    put(cast, tmp_path, RED)
    with pytest.raises(CastNotFoundError):
        artifacts.for_owner("alice").cast().find("rex")
    put(artifacts.for_owner("alice").cast(), tmp_path, BLUE)
    assert cast.find("rex").png(0) == RED
    assert sorted(artifacts.owners()) == ["alice", "local"]


def test_a_change_that_fails_leaves_what_was(
    cast: CastStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cast, tmp_path, RED)
    before = files(root)
    with monkeypatch.context() as patch:
        patch.setattr("ms_jobs.cast.write_file", lambda *arguments: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError):
            put(cast, tmp_path, BLUE)
    assert files(root) == before
    assert cast.find("rex").png(0) == RED


def test_who_reads_while_it_changes_is_told_to_read_again(cast: CastStore, tmp_path: Path) -> None:
    put(cast, tmp_path, RED)
    member = cast.find("rex")
    put(cast, tmp_path, BLUE)
    with pytest.raises(StorageError, match="just now"):
        member.png(0)
    with pytest.raises(StorageError, match="just now"):
        member.kept[0].open()


def test_a_job_keeps_a_picture_of_the_cast(
    artifacts: ArtifactStore, cast: CastStore, root: Path, tmp_path: Path
) -> None:
    put(cast, tmp_path, RED)
    kept = cast.find("rex").kept[0]
    with artifacts.new_folder(new_job_id()) as folder:
        folder.link_picture(kept.path)
    cast.remove("rex")
    assert artifacts.load_picture(folder.name, kept.variant.sha256).getpixel((16, 16)) == (255, 0, 0)
    artifacts.remove(folder.name)
    assert files(root) == []


def test_a_damaged_document_is_nobody_and_can_be_replaced_or_deleted(
    cast: CastStore, root: Path, tmp_path: Path
) -> None:
    put(cast, tmp_path, RED)
    document = root / "local" / "cast" / "rex.json"
    document.write_bytes(b"{")
    with pytest.raises(CastNotFoundError):
        cast.find("rex")
    assert cast.page(10, None) == ([], False)
    put(cast, tmp_path, BLUE)
    assert cast.find("rex").png(0) == BLUE
    document.write_bytes(b'{"phrase": "cat", "pictures": [], "folder": "../../jobs"}')
    with pytest.raises(CastNotFoundError):
        cast.find("rex")
    cast.remove("rex")
    assert not document.exists()


def test_what_nobody_has_is_removed_when_it_is_old(cast: CastStore, root: Path, tmp_path: Path) -> None:
    put(cast, tmp_path, RED)
    put(cast, tmp_path, BLUE, name="tom")
    folder = root / "local" / "cast"
    (folder / "tom.json").unlink()
    (folder / ".x.part").write_bytes(b"half")
    (folder / "notes.txt").write_bytes(b"somebody's")
    assert [name for name in cast.clear(600) if name] == []
    for path in folder.iterdir():
        make_old(path, 601)
    removed = {name.partition(".")[0] for name in cast.clear(600) if name}
    assert removed == {"", "tom"}
    assert cast.find("rex").png(0) == RED
    assert (folder / "notes.txt").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "a\0b", "a" * 65, "rex\n", "é", "-rex"])
def test_a_name_of_another_form_leads_nowhere(cast: CastStore, name: str) -> None:
    for ask in (cast.find, cast.remove, lambda name: cast.put(name, Traits(phrase="cat"), [])):
        with pytest.raises(CastNotFoundError, match="64 letters"):
            ask(name)


def test_every_file_of_the_cast_is_synced(
    cast: CastStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Path] = []
    fsync = os.fsync

    def count(handle: int) -> None:
        paths.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", count)
    put(cast, tmp_path, RED)
    folder = root / "local" / "cast"
    (pictures,) = (path for path in folder.iterdir() if path.is_dir())
    # The picture, its name, the document, and the names of both; the tests' own file is elsewhere.
    own = [path for path in paths if path.is_relative_to(root)]
    assert [path for path in own if not path.name.endswith(".part")] == [pictures, folder]
    assert len(own) == 4


@pytest.mark.parametrize("kind", ["a folder", "a link"])
def test_what_cannot_be_read_costs_no_other_member(cast: CastStore, root: Path, tmp_path: Path, kind: str) -> None:
    put(cast, tmp_path, RED)
    strange = root / "local" / "cast" / "max.json"
    if kind == "a folder":
        strange.mkdir()
    else:
        strange.symlink_to("/etc/hostname")
    assert [member.name for member in cast.page(10, None)[0]] == ["rex"]
