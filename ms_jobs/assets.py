"""Stores pictures that are uploaded once and named in many requests; files alone, so that none is lost with Redis.

Layout, in ``<owner>/assets``::

    <id>/asset.json    its variants; changed when the asset was made
    <id>/<sha256>.png  its variants: hard links, as ``ms_jobs.pictures`` says
    <id>/used          empty; changed when the asset was used last
    <id>/cutout-<model>.png   what the model sees of it, cut out
    <id>/cutout-<model>.json  or why the worker could not make that

A folder is filled under a hidden name and renamed when it is whole.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from ms_core.errors import AssetNotFoundError, AssetsFullError, StorageError
from ms_core.spec.pictures import ASSET_ID_PATTERN, PictureUse
from ms_jobs.asset_variants import USES, Asset, NewVariant, asset_not_found, id_of
from ms_jobs.files import (
    changed_at,
    entries,
    is_there,
    make_folder,
    missing_means,
    move,
    names_in,
    read_file,
    remove_file,
    replace_empty,
    require_room,
    sync_folder,
    touch,
    write_file,
)
from ms_jobs.kept_pictures import Variant
from ms_jobs.pictures import PICTURE_SUFFIX, SharedPictures, picture_name, read_picture
from ms_jobs.records import FrozenModel, JobError, is_model_name

ASSETS = "assets"
DEFAULT_ASSET_LIFETIME_S = 7 * 24 * 3600
_DOCUMENT, _USED = "asset.json", "used"


class _Document(FrozenModel):
    has_alpha: bool
    variants: dict[str, Variant]


class AssetStore:
    """The assets of one owner.

    Attributes:
        owner: their owner.
        pictures: of the same owner, also those that only jobs hold.

    Raises (every method):
        StorageError: the volume cannot be read or written.
    """

    def __init__(self, folder: Path, pictures: SharedPictures, lifetime_s: float) -> None:
        """Made by ``ms_jobs.artifacts.ArtifactStore.assets``."""
        self.owner = folder.parent.name
        self._folder = folder
        self.pictures = pictures
        self._lifetime_s = lifetime_s

    @contextmanager
    def adding(self, min_free_bytes: int = 0) -> Iterator[NewAssets]:
        """Store several assets at the end of the block, or none if it fails; leave so many bytes free."""
        new = NewAssets(self._folder, self.pictures, min_free_bytes)
        try:
            yield new
        except BaseException:
            new.discard()
            raise

    def publish(self, new: NewAssets, most_bytes: int = 0) -> list[Asset]:
        """Let new assets appear; those that are there already are used once more.

        Args:
            most_bytes: the most that all assets of this owner may take together; 0 is no limit.

        Raises:
            AssetsFullError: they would take more; none appears.
        """
        try:
            self._require_quota(new, most_bytes)
            with missing_means("An asset was erased while it was uploaded; upload it again."):
                for asset_id, staged in new.staged:
                    self._publish(asset_id, staged)
                sync_folder(self._folder)
        finally:
            new.discard()
        return [self.find(asset_id) for asset_id, _ in new.staged]

    def size_bytes(self) -> int:
        """What all assets of this owner take together, without their cut-outs."""
        try:
            return sum(map(_size_bytes, (self._folder / name for name in names_in(self._folder) if _is_id(name))))
        except FileNotFoundError:
            return 0

    def _require_quota(self, new: NewAssets, most_bytes: int) -> None:
        added = {asset_id: staged for asset_id, staged in new.staged if not is_there(self._path(asset_id))}
        if most_bytes and added and self.size_bytes() + sum(map(_size_bytes, added.values())) > most_bytes:
            detail = f"Your assets may take {most_bytes:,} bytes together; erase some with DELETE /assets/ID."
            raise AssetsFullError(detail)

    def find(self, asset_id: str) -> Asset:
        """Read what is known of an asset.

        Raises:
            AssetNotFoundError: there is none, or it has expired, or is damaged.
        """
        path = self._path(asset_id)
        try:
            document = _Document.model_validate_json(read_file(path / _DOCUMENT))
            created_at, used_at = changed_at(path / _DOCUMENT), _used_at(path)
        except (FileNotFoundError, ValidationError) as error:
            raise asset_not_found() from error
        expires_at = used_at + self._lifetime_s
        if expires_at <= time.time() or not document.variants.keys() >= set(USES):
            raise asset_not_found()
        if not all(is_there(path / picture_name(variant.sha256)) for variant in document.variants.values()):
            raise asset_not_found()
        return Asset(asset_id, created_at, expires_at, document.has_alpha, document.variants, path)

    def use(self, asset_id: str) -> Asset:
        """Read what is known of an asset, and keep it for its lifetime from now; errors as ``find``."""
        asset = self.find(asset_id)
        with suppress(FileNotFoundError):
            touch(self._path(asset_id) / _USED)
        return asset

    def picture(self, asset_id: str) -> bytes:
        """The PNG of an asset as models are shown it; errors as ``find``."""
        asset = self.find(asset_id)
        try:
            png = read_picture(self._path(asset_id), asset.variants["shown"].sha256)
        except FileNotFoundError as error:
            raise asset_not_found() from error
        if png is None:
            raise StorageError("The stored picture of this asset is damaged; upload it again.")
        return png

    def cutout(self, asset_id: str, model: str) -> bytes | JobError | None:
        """The PNG of an asset's cut-out, or why there is none; ``None`` if it was not asked for yet."""
        path = self._path(asset_id)
        with suppress(FileNotFoundError):
            return read_file(path / _cutout_name(model, ".png"))
        with suppress(FileNotFoundError, ValidationError):
            return JobError.model_validate_json(read_file(path / _cutout_name(model, ".json")))
        return None

    def keep_cutout(self, asset_id: str, model: str, png: bytes) -> None:
        """Store a cut-out, unless the asset is gone."""
        with suppress(FileNotFoundError):
            write_file(self._path(asset_id) / _cutout_name(model, ".png"), png)

    def refuse_cutout(self, asset_id: str, model: str, error: JobError) -> None:
        """Store why a cut-out cannot be made, unless the asset is gone."""
        with suppress(FileNotFoundError):
            content = error.model_dump_json().encode()
            write_file(self._path(asset_id) / _cutout_name(model, ".json"), content, sync_name=False)

    def forget_cutout(self, asset_id: str, model: str) -> None:
        """Forget why a cut-out could not be made."""
        remove_file(self._path(asset_id) / _cutout_name(model, ".json"))

    def page(self, limit: int, after: tuple[float, str] | None) -> tuple[list[Asset], bool]:
        """The newest assets, at most ``limit``, and whether there are more.

        Args:
            after: creation time and id of the last asset of the page before.
        """
        made = sorted(self._made(), reverse=True)
        found: list[Asset] = []
        for created_at, asset_id in made:
            if after is not None and (created_at, asset_id) >= after:
                continue
            if len(found) == limit:
                return found, True
            # One that cannot be read costs nobody the others.
            with suppress(AssetNotFoundError, StorageError):
                found.append(self.find(asset_id))
        return found, False

    def remove(self, asset_id: str) -> None:
        """Erase an asset; jobs that use it keep its picture.

        Raises:
            AssetNotFoundError: there is none.
        """
        self.find(asset_id)
        self._remove(self._path(asset_id))

    def clear(self, age_s: float) -> Iterator[str | None]:
        """Remove expired assets, and what dead processes left ``age_s`` seconds ago; one folder per step.

        Yields:
            The name removed, or ``None``.
        """
        for path, age in entries(self._folder):
            is_leftover = path.name.startswith(".")
            if is_leftover and age >= age_s:
                self.pictures.remove(path, path)
                yield path.name
            elif _is_id(path.name) and _used_at(path) + self._lifetime_s <= time.time():
                self._remove(path)
                yield path.name
            else:
                yield None

    def _publish(self, asset_id: str, staged: Path) -> None:
        target = self._path(asset_id)
        if not self._is_whole(asset_id):
            self._remove(target)
        replace_empty(staged, target)
        touch(target / _USED)

    def _is_whole(self, asset_id: str) -> bool:
        path = self._path(asset_id)
        try:
            document = _Document.model_validate_json(read_file(path / _DOCUMENT))
            return all(read_picture(path, variant.sha256) is not None for variant in document.variants.values())
        except (FileNotFoundError, ValidationError, StorageError):
            return False

    def _remove(self, path: Path) -> None:
        # Renamed first, so that nobody finds a half-empty folder.
        doomed = path.with_name(_hidden_name())
        with suppress(FileNotFoundError):
            move(path, doomed)
            self.pictures.remove(doomed, doomed)

    def _made(self) -> Iterator[tuple[float, str]]:
        """When each asset was made, and its id."""
        with suppress(FileNotFoundError):
            for name in filter(_is_id, names_in(self._folder)):
                with suppress(FileNotFoundError, StorageError):
                    yield changed_at(self._folder / name / _DOCUMENT), name

    def _path(self, asset_id: str) -> Path:
        if not _is_id(asset_id):
            raise AssetNotFoundError("The id of an asset is 32 digits from 0 to f, as POST /assets gives it.")
        return self._folder / asset_id


class NewAssets:
    """Assets that are stored but not there yet.

    Attributes:
        staged: id and hidden folder of each.
    """

    def __init__(self, folder: Path, pictures: SharedPictures, min_free_bytes: int) -> None:
        """Made by ``AssetStore.adding``."""
        self._min_free_bytes = min_free_bytes
        self.staged: list[tuple[str, Path]] = []
        self._hidden: list[Path] = []
        self._folder = folder
        self._pictures = pictures

    def add(self, has_alpha: bool, variants: Mapping[PictureUse, NewVariant]) -> None:
        """Store a picture in all its variants.

        Raises:
            StorageError: the volume cannot be written, or is nearly full.
        """
        pngs = {variant.png for variant in variants.values()}
        require_room(self._folder, self._min_free_bytes + sum(map(len, pngs)))
        staged = self._folder / _hidden_name()
        self._hidden.append(staged)
        self._pictures.make()
        make_folder(staged)
        names = {png: self._pictures.save(staged, png) for png in pngs}
        stored = {
            use: Variant(sha256=names[variant.png], width=variant.width, height=variant.height, notes=variant.notes)
            for use, variant in variants.items()
        }
        self.staged.append((id_of(stored), staged))
        # Syncs the names of the pictures too.
        write_file(
            staged / _DOCUMENT, _Document(has_alpha=has_alpha, variants=stored).model_dump_json(indent=1).encode()
        )

    def discard(self) -> None:
        """Remove what is not there as an asset."""
        for staged in self._hidden:
            self._pictures.remove(staged, staged)


def _is_id(text: str) -> bool:
    return re.fullmatch(ASSET_ID_PATTERN, text) is not None


def _cutout_name(model: str, suffix: str) -> str:
    if not is_model_name(model):
        raise StorageError("Invalid name of a model.")
    return f"cutout-{model}{suffix}"


def _size_bytes(folder: Path) -> int:
    """What the pictures in the folder of an asset take; nothing if it was just removed."""
    with suppress(FileNotFoundError, StorageError):
        return sum((folder / name).stat().st_size for name in names_in(folder) if name.endswith(PICTURE_SUFFIX))
    return 0


def _hidden_name() -> str:
    return f".{secrets.token_hex(8)}"


def _used_at(path: Path) -> float:
    """When the asset of a folder was used last, or else made."""
    for place in (path / _USED, path / _DOCUMENT, path):
        with suppress(FileNotFoundError, StorageError):
            return changed_at(place)
    # Removed meanwhile.
    return time.time()
