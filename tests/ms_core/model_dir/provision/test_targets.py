"""A model directory appears when it is whole, replaces only what may be replaced, and is refused where it cannot fit."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ms_core.config import CARD_FILE, ModelCard
from ms_core.errors import ModelNotFoundError, ModelTargetError
from ms_core.model_dir.provision.targets import (
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
        pytest.raises(ModelTargetError, match=r"new cannot be written \(No space left on device\)\. Free some space"),
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


def test_what_killed_processes_left_is_removed(model: Path) -> None:
    for name in (".model.0123abcd.partial", ".model.0123abcd.replaced"):
        (model.parent / name / "unet").mkdir(parents=True)
    (model.parent / ".model.lock").touch()
    (model.parent / ".models.0123abcd.partial").mkdir()
    with new_directory(model):
        pass
    assert names(model.parent) == [".models.0123abcd.partial", "model"]


@pytest.mark.parametrize("interrupted", [1, 2])
def test_an_interruption_between_the_renames_brings_the_model_back(
    model: Path, monkeypatch: pytest.MonkeyPatch, interrupted: int
) -> None:
    done: list[Path] = []
    rename = Path.rename

    def interrupt(path: Path, target: Path) -> Path:
        done.append(path)
        if len(done) == 2 and interrupted == 2:
            raise KeyboardInterrupt
        moved = rename(path, target)
        if len(done) == 1 and interrupted == 1:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt), new_directory(model):
        pass
    assert names(model) == [CARD_FILE]
    assert names(model.parent) == ["model"]


def test_a_model_that_a_killed_process_put_aside_comes_back(model: Path) -> None:
    model.rename(model.with_name(".model.0123abcd.replaced"))
    with pytest.raises(KeyError), new_directory(model):
        raise KeyError
    assert names(model) == [CARD_FILE]
    assert names(model.parent) == ["model"]


def test_a_model_that_was_put_aside_is_replaced_only_by_force(model: Path) -> None:
    model.rename(model.with_name(".model.0123abcd.replaced"))
    with pytest.raises(ModelTargetError, match="model exists already"):
        check_target(model, force=False)
    check_target(model, force=True)


def test_what_was_put_aside_stays_while_nothing_is_in_its_place(tmp_path: Path) -> None:
    aside = tmp_path / ".new.0123abcd.replaced"
    (aside / "loras").mkdir(parents=True)
    with pytest.raises(KeyError), new_directory(tmp_path / "new"):
        raise KeyError
    assert names(tmp_path) == [aside.name]


def test_two_processes_do_not_make_one_model(tmp_path: Path) -> None:
    with (
        new_directory(tmp_path / "new") as directory,
        pytest.raises(ModelTargetError, match=r"Another process is making .*new now; wait for it to end"),
        new_directory(tmp_path / "new"),
    ):
        pass
    assert not directory.exists()
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(model: Path, tmp_path: Path, is_there: bool) -> None:
    link = tmp_path / "links" / "sdxl"
    link.parent.mkdir()
    link.symlink_to(model)
    if not is_there:
        (model / CARD_FILE).unlink()
        model.rmdir()
    check_target(link, force=True)
    with new_directory(link) as directory:
        assert directory.parent == model.parent
        (directory / "file").touch()
    assert link.is_symlink()
    assert names(model) == ["file"]
    assert names(link.parent) == ["sdxl"]


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
        ModelTargetError, match="exists already. Choose another place with --out, or make it again with --force"
    ):
        check_target(model, force=False)
    check_target(model, force=True)


def test_what_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ModelTargetError, match="is not a model directory"):
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


def test_a_model_in_a_read_only_place_is_refused_beforehand(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != model.parent)
    with pytest.raises(ModelTargetError, match=rf"^{model.parent} cannot be written"):
        check_target(model, force=True)


@pytest.mark.skipif(not OTHER_DISK.is_mount(), reason="there is no mounted disk here")
def test_where_a_disk_is_mounted_no_model_can_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(OTHER_DISK)
    for place in (OTHER_DISK, tmp_path / "link"):
        with pytest.raises(ModelTargetError, match=rf"{place} is a mount point.*choose a folder inside it"):
            check_target(place, force=True)


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
    assert told.startswith("There is too little space for this model: disk has 1.0 GB free and needs 5.1 GB.")


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
