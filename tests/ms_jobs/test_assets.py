"""Assets on the volume: whole or not there, shared with jobs, removed when their time is over."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from ms_core.errors import AssetNotFoundError, StorageError
from ms_core.spec.picture_notes import dump_notes, note_ignored, note_painted, note_visible, restore_notes
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.asset_variants import Asset, NewVariant
from ms_jobs.assets import AssetStore
from ms_jobs.records import new_job_id
from tests.support.job_helpers import picture_png

RED, BLUE = picture_png((255, 0, 0)), picture_png((0, 0, 255))
LIFETIME_S = 100.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def artifacts(root: Path) -> ArtifactStore:
    return ArtifactStore(root)


@pytest.fixture
def assets(artifacts: ArtifactStore) -> AssetStore:
    return artifacts.assets(LIFETIME_S)


def add(assets: AssetStore, *pngs: bytes, exact: bytes | None = None) -> list[Asset]:
    with assets.adding() as new:
        for png in pngs:
            variant = NewVariant(png, 32, 32, {})
            new.add(False, {"shown": variant, "mask": variant, "exact": variant._replace(png=exact or png)})
        return assets.publish(new)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def make_old(path: Path, age_s: float) -> None:
    then = time.time() - age_s
    os.utime(path, (then, then))


def folder_of(root: Path, asset: Asset) -> Path:
    return root / "local" / "assets" / asset.id


def make_unused(root: Path, asset: Asset, age_s: float) -> None:
    for name in ("used", "asset.json"):
        make_old(folder_of(root, asset) / name, age_s)


def test_nothing_of_assets_is_there_until_all_are(assets: AssetStore, root: Path) -> None:
    variant = NewVariant(RED, 32, 32, {})
    broken = variant._replace(notes={"of what": object()})
    with assets.adding() as new:
        new.add(False, {"shown": variant, "mask": variant, "exact": variant})
        assert assets.page(10, None) == ([], False)
        with pytest.raises(ValueError, match="serialize"):
            new.add(False, {"shown": broken, "mask": broken, "exact": broken})
        new.discard()
    assert files(root) == []


def test_assets_that_were_there_stay_as_they_were_made(assets: AssetStore) -> None:
    (first,) = add(assets, RED)
    (again,) = add(assets, RED)
    assert (again.id, again.created_at) == (first.id, first.created_at)


def test_the_same_picture_twice_in_one_upload_is_one_asset(assets: AssetStore, root: Path) -> None:
    one, other, blue = add(assets, RED, RED, BLUE)
    assert one.id == other.id != blue.id
    assert len([name for name in files(root) if name.endswith("asset.json")]) == 2


def test_pictures_that_differ_in_one_variant_are_two_assets(assets: AssetStore) -> None:
    (one,), (other,) = add(assets, RED), add(assets, RED, exact=BLUE)
    assert one.id != other.id
    assert assets.find(other.id).kept("exact").open().size == (32, 32)


def test_a_damaged_picture_is_told_and_an_upload_mends_it(assets: AssetStore, root: Path) -> None:
    (asset,) = add(assets, RED)
    asset.kept("shown").path.unlink()
    asset.kept("shown").path.write_bytes(BLUE)
    with pytest.raises(StorageError, match="damaged"):
        assets.picture(asset.id)
    add(assets, RED)
    assert assets.picture(asset.id) == RED


def test_owners_share_no_assets(artifacts: ArtifactStore, assets: AssetStore, root: Path) -> None:
    (asset,) = add(assets, RED)
    theirs = artifacts.for_owner("alice").assets(LIFETIME_S)
    with pytest.raises(AssetNotFoundError):
        theirs.find(asset.id)
    add(theirs, RED)
    assert len({path.stat().st_ino for path in root.rglob("*.png")}) == 2
    assert sorted(artifacts.owners()) == ["alice", "local"]


@pytest.mark.parametrize("asset_id", ["", "..", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 31 + "\n", "٠" * 32])
def test_an_id_of_another_shape_leads_nowhere(assets: AssetStore, asset_id: str) -> None:
    for ask in (assets.find, assets.use, assets.picture, assets.remove):
        with pytest.raises(AssetNotFoundError, match="32 digits"):
            ask(asset_id)


def test_a_job_keeps_the_picture_of_an_asset(artifacts: ArtifactStore, assets: AssetStore, root: Path) -> None:
    (asset,) = add(assets, RED)
    with artifacts.new_folder(new_job_id()) as folder:
        folder.link_picture(asset.kept("shown").path)
    assets.remove(asset.id)
    assert artifacts.load_picture(folder.name, asset.variants["shown"].sha256).getpixel((16, 16)) == (255, 0, 0)
    artifacts.remove(folder.name)
    assert files(root) == []


def test_a_job_without_hard_links_has_its_own_copy(
    artifacts: ArtifactStore, assets: AssetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(38, "not implemented")

    monkeypatch.setattr(os, "link", refuse)
    (asset,) = add(assets, RED)
    with artifacts.new_folder(new_job_id()) as folder:
        folder.link_picture(asset.kept("shown").path)
    assert artifacts.load_picture(folder.name, asset.variants["shown"].sha256).getpixel((16, 16)) == (255, 0, 0)


def test_an_asset_that_goes_while_it_is_submitted_is_told(artifacts: ArtifactStore, assets: AssetStore) -> None:
    (asset,) = add(assets, RED)
    assets.remove(asset.id)
    with (
        pytest.raises(StorageError, match="erased just now"),
        artifacts.new_folder(new_job_id()) as folder,
    ):
        folder.link_picture(asset.kept("shown").path)


def test_what_expired_is_removed_and_what_is_used_stays(assets: AssetStore, root: Path) -> None:
    red, blue = add(assets, RED, BLUE)
    make_unused(root, red, LIFETIME_S + 1)
    make_unused(root, blue, LIFETIME_S - 10)
    assert [name for name in assets.clear(0) if name] == [red.id]
    assert [asset.id for asset in assets.page(10, None)[0]] == [blue.id]
    assert len(list(root.rglob("*.png"))) == 2


def test_an_asset_without_a_note_of_its_use_counts_from_when_it_was_made(assets: AssetStore, root: Path) -> None:
    (asset,) = add(assets, RED)
    (folder_of(root, asset) / "used").unlink()
    assert list(assets.clear(0)) == [None]
    make_old(folder_of(root, asset) / "asset.json", LIFETIME_S + 1)
    assert list(assets.clear(0)) == [asset.id]


def test_what_a_dead_process_left_is_removed_when_it_is_old(assets: AssetStore, root: Path) -> None:
    (asset,) = add(assets, RED)
    left = folder_of(root, asset).with_name(".0123456789abcdef")
    folder_of(root, asset).rename(left)
    assert list(assets.clear(600)) == [None]
    make_old(left, 601)
    assert list(assets.clear(600)) == [left.name]
    assert files(root) == []


def test_a_folder_that_lost_its_document_is_removed_after_the_lifetime(assets: AssetStore, root: Path) -> None:
    (asset,) = add(assets, RED)
    for name in ("used", "asset.json"):
        (folder_of(root, asset) / name).unlink()
    assert list(assets.clear(0)) == [None]
    make_old(folder_of(root, asset), LIFETIME_S + 1)
    assert list(assets.clear(0)) == [asset.id]


def test_a_page_goes_on_behind_an_asset_that_was_erased(assets: AssetStore) -> None:
    made = []
    for number in range(4):
        made += add(assets, picture_png((number, 0, 0)))
        time.sleep(0.01)
    page, more = assets.page(2, None)
    assert ([asset.id for asset in page], more) == ([made[3].id, made[2].id], True)
    assets.remove(made[2].id)
    page, more = assets.page(2, (made[2].created_at, made[2].id))
    assert ([asset.id for asset in page], more) == ([made[1].id, made[0].id], False)


def test_notes_survive_their_way_through_a_file() -> None:
    picture = Image.new("RGB", (8, 8), "white")
    note_visible(picture)
    note_ignored(picture, {"tRNS": "transparency"})
    note_painted(picture, (1, 2, 3, 4))
    restored = Image.new("RGB", (8, 8))
    restore_notes(restored, dump_notes(picture))
    assert restored.info == picture.info


def test_an_asset_whose_picture_is_gone_is_none(assets: AssetStore) -> None:
    (asset,) = add(assets, RED)
    (asset.kept("shown").path).unlink()
    with pytest.raises(AssetNotFoundError):
        assets.find(asset.id)
    assert assets.page(10, None) == ([], False)
    assert [found.id for found in add(assets, RED)] == [asset.id]


@pytest.mark.parametrize("kind", ["a file", "a folder for a document", "a link for a document"])
def test_what_cannot_be_read_costs_no_other_asset(assets: AssetStore, root: Path, kind: str) -> None:
    (asset,) = add(assets, RED)
    strange = root / "local" / "assets" / ("0" * 32)
    if kind == "a file":
        strange.write_bytes(b"")
    elif kind == "a folder for a document":
        (strange / "asset.json").mkdir(parents=True)
    else:
        strange.mkdir()
        (strange / "asset.json").symlink_to("/etc/hostname")
    assert [found.id for found in assets.page(10, None)[0]] == [asset.id]
    assert list(assets.clear(1e9)) == [None, None]
    os.utime(strange, (0, 0))
    if strange.is_dir():
        os.utime(strange / "asset.json", (0, 0), follow_symlinks=False)
    assert [name for name in assets.clear(1e9) if name] == [strange.name]
