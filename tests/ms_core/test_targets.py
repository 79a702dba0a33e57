"""A model directory appears when it is whole, replaces only what may be replaced, and is refused where it cannot fit."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ms_core.config import CARD_FILE, ModelCard
from ms_core.errors import ModelNotFoundError, ModelTargetError
from ms_core.provision.targets import (
    Room,
    bytes_to_copy,
    check_target,
    existing_folder,
    file_size,
    measure_room,
    new_directory,
)

OTHER_DISK = Path("/dev/shm")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory, as far as its place is concerned."""
    directory = tmp_path / "model"
    directory.mkdir()
    ModelCard().save(directory)
    return directory


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "new"
    with new_directory(target) as directory:
        (directory / "file").write_text("content")
        assert not target.exists()
    assert (target / "file").read_text() == "content"
    assert names(target.parent) == ["new"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with new_directory(tmp_path / "new") as directory:
            (directory / "file").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert names(tmp_path) == []


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelTargetError, match=r"new cannot be written \(No space left on device\)\. Make room"),
        new_directory(tmp_path / "new"),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"content")
    assert names(tmp_path) == []


def test_a_failure_leaves_the_model_that_was_to_be_replaced(model: Path) -> None:
    with pytest.raises(KeyError), new_directory(model):
        raise KeyError
    assert names(model) == [CARD_FILE]
    assert names(model.parent) == ["model"]


def test_a_model_is_replaced_as_a_whole(model: Path) -> None:
    with new_directory(model) as directory:
        (directory / "file").touch()
        assert names(model) == [CARD_FILE]
    assert names(model) == ["file"]
    assert names(model.parent) == ["model"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    for name in (".new.0123abcd.partial", ".new.0123abcd.replaced"):
        (tmp_path / name / "unet").mkdir(parents=True)
    (tmp_path / ".newer.0123abcd.partial").mkdir()
    with new_directory(tmp_path / "new"):
        pass
    assert names(tmp_path) == [".newer.0123abcd.partial", "new"]


def test_what_another_process_makes_now_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".new.0123abcd.partial"
    other.mkdir()
    handle = os.open(other, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with new_directory(tmp_path / "new"):
        pass
    os.close(handle)
    assert names(tmp_path) == [other.name, "new"]


def test_a_model_that_exists_is_replaced_only_by_force(model: Path) -> None:
    with pytest.raises(
        ModelTargetError, match="exists already. Choose another place with --out, or make it anew with --force"
    ):
        check_target(model, force=False)
    check_target(model, force=True)


def test_what_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ModelTargetError, match="is no model directory"):
        check_target(tmp_path, force=True)


def test_an_empty_folder_may_become_a_model(tmp_path: Path) -> None:
    check_target(tmp_path, force=False)
    with new_directory(tmp_path) as directory:
        (directory / "file").touch()
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelTargetError, match="is a file"):
        check_target(tmp_path / "file", force)


def test_a_place_below_a_file_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelTargetError, match=r"file cannot be written; choose another place"):
        check_target(tmp_path / "file" / "model", force=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir(mode=0o555)
    with pytest.raises(ModelTargetError, match=r"models cannot be written; choose another place"):
        check_target(tmp_path / "models" / "new", force=False)


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="there is no file system here in which nobody makes folders"
)
def test_a_place_where_nothing_can_be_made_is_a_sentence() -> None:
    with pytest.raises(ModelTargetError, match=r"/proc/model cannot be written"), new_directory(Path("/proc/model")):
        pass


@pytest.mark.parametrize(("needed", "free", "fits"), [(0, 0, True), (10**9, 10**9, False), (10**9, 2 * 10**9, True)])
def test_what_fits_leaves_a_reserve(needed: int, free: int, fits: bool) -> None:
    assert Room(Path("disk"), needed, free).is_enough == fits


def test_too_little_room_is_told_in_numbers() -> None:
    told = Room(Path("disk"), 5 * 10**9, 10**9).describe("this model")
    assert told.startswith("There is too little room for this model: disk has 1.0 GB free and needs 5.1 GB.")


def test_room_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    room = measure_room(tmp_path / "not" / "there", 5)
    assert room.needed == 5
    assert room.free > 0
    assert existing_folder(tmp_path / "not" / "there") == tmp_path


def test_what_can_be_linked_needs_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    assert bytes_to_copy([tmp_path / "file"], tmp_path / "model") == 0


@pytest.mark.skipif(not os.access(OTHER_DISK, os.W_OK), reason="there is no second disk here")
def test_what_lies_on_another_disk_needs_room(tmp_path: Path) -> None:
    if OTHER_DISK.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    (tmp_path / "file").write_bytes(bytes(100))
    assert bytes_to_copy([tmp_path / "file"], OTHER_DISK / "model") == 100


def test_a_missing_file_has_no_size(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no file"):
        file_size(tmp_path / "nothing")
