"""Stores named subjects until they are deleted, with their pictures; files alone, as assets are.

Layout, in ``<owner>/cast``::

    <name>.json                   the subject, and the folder of its pictures
    <name>.<random>/<sha256>.png  its pictures: hard links, as ``ms_jobs.pictures`` says

A change makes a new folder, then replaces the document in one step, then removes the old folder.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ms_core.errors import CastNotFoundError, ImageNotFoundError, StorageError
from ms_core.spec.limits import CAST_NAME_PATTERN
from ms_jobs.files import (
    PART_SUFFIX,
    changed_at,
    entries,
    link_file,
    make_folder,
    missing_means,
    names_in,
    read_file,
    remove_file,
    require_room,
    sync_folder,
    write_file,
)
from ms_jobs.kept_pictures import GONE_JUST_NOW, KeptPicture, Variant
from ms_jobs.pictures import SharedPictures, picture_name, read_picture
from ms_jobs.records import FrozenModel

CAST = "cast"
NAME_RULE = "A name in the cast is 1 to 64 letters, digits, '-' and '_', and begins with a letter or digit."
_SUFFIX = ".json"


class Traits(FrozenModel):
    """What a named subject is, beside its pictures.

    Attributes:
        scale: ``None``: the request's.
    """

    phrase: str
    cutout: bool = False
    scale: float | None = None


class _Document(Traits):
    pictures: tuple[Variant, ...]
    folder: str


class NewPicture(NamedTuple):
    """A picture to be kept: a PNG, or where the one of an asset lies."""

    png: bytes | Path
    variant: Variant


@dataclass(frozen=True, slots=True)
class Member:
    """A named subject.

    Attributes:
        changed_at: Unix seconds.
    """

    name: str
    changed_at: float
    traits: Traits
    pictures: tuple[Variant, ...]
    _folder: Path = field(repr=False)

    @property
    def kept(self) -> tuple[KeptPicture, ...]:
        """Its pictures on the volume."""
        return tuple(KeptPicture(self._folder / picture_name(item.sha256), item) for item in self.pictures)

    def png(self, index: int) -> bytes:
        """A picture.

        Raises:
            ImageNotFoundError: it has no picture with this index.
            StorageError: it was changed or deleted meanwhile, or its picture is damaged.
        """
        if not 0 <= index < len(self.pictures):
            raise ImageNotFoundError(f"{self.name} has {len(self.pictures)} pictures, counted from 0.")
        with missing_means(GONE_JUST_NOW):
            png = read_picture(self._folder, self.pictures[index].sha256)
        if png is None:
            raise StorageError(GONE_JUST_NOW)
        return png


class CastStore:
    """The cast of one owner.

    Raises (every method):
        StorageError: the volume cannot be read or written.
    """

    def __init__(self, folder: Path, pictures: SharedPictures) -> None:
        """Made by ``ms_jobs.artifacts.ArtifactStore.cast``."""
        self._folder = folder
        self._pictures = pictures

    def put(self, name: str, traits: Traits, pictures: Sequence[NewPicture], min_free_bytes: int = 0) -> bool:
        """Keep a subject, in place of one of the same name; returns whether there was none.

        Args:
            min_free_bytes: to be left free on the volume.

        Raises:
            CastNotFoundError: it cannot have this name.
        """
        path = self._path(name)
        folder = self._folder / f"{name}.{secrets.token_hex(4)}"
        require_room(
            self._folder, min_free_bytes + sum(len(item.png) for item in pictures if isinstance(item.png, bytes))
        )
        self._pictures.make()
        make_folder(folder)
        try:
            with missing_means(GONE_JUST_NOW):
                for picture in pictures:
                    self._keep(folder, picture)
                sync_folder(folder)
                variants = tuple(picture.variant for picture in pictures)
                document = _Document(**traits.model_dump(), pictures=variants, folder=folder.name)
                before = self._read(name)
                write_file(path, document.model_dump_json(indent=1).encode())
        except BaseException:
            self._pictures.remove(folder, folder)
            raise
        if before is not None:
            self._remove_folder(before.folder)
        return before is None

    def find(self, name: str) -> Member:
        """Read a subject.

        Raises:
            CastNotFoundError: there is none, or it is damaged.
        """
        path = self._path(name)
        document = self._read(name)
        try:
            if document is None or _name_of(document.folder) != name:
                raise FileNotFoundError
            traits = Traits.model_validate(document.model_dump(include=set(Traits.model_fields)))
            return Member(name, changed_at(path), traits, document.pictures, self._folder / document.folder)
        except FileNotFoundError as error:
            raise CastNotFoundError(f"There is no {name!r} in the cast; GET /cast lists all.") from error

    def page(self, limit: int, after: tuple[float, str] | None) -> tuple[list[Member], bool]:
        """The subjects that were changed last, at most ``limit``, and whether there are more.

        Args:
            after: time of change and name of the last one of the page before.
        """
        found: list[Member] = []
        for moment, name in sorted(self._known(), reverse=True):
            if after is not None and (moment, name) >= after:
                continue
            if len(found) == limit:
                return found, True
            # One that cannot be read costs nobody the others.
            with suppress(CastNotFoundError, StorageError):
                found.append(self.find(name))
        return found, False

    def remove(self, name: str) -> None:
        """Delete a subject and its pictures; jobs that name it keep theirs.

        Raises:
            CastNotFoundError: there is none.
        """
        document, path = self._read(name), self._path(name)
        if not remove_file(path):
            raise CastNotFoundError(f"There is no {name!r} in the cast; GET /cast lists all.")
        if document is not None:
            self._remove_folder(document.folder)

    def clear(self, age_s: float) -> Iterator[str | None]:
        """Remove folders that no subject has, and that changed last ``age_s`` seconds ago; one per step.

        Yields:
            The name removed, or ``None``.
        """
        for path, age in entries(self._folder):
            if age < age_s or not self._is_leftover(path.name):
                yield None
                continue
            self._pictures.remove(path, path)
            yield path.name

    def _is_leftover(self, entry: str) -> bool:
        """Whether this is a half-written file, or the folder of no subject."""
        name = _name_of(entry)
        if name is None:
            return entry.endswith(PART_SUFFIX)
        document = self._read(name)
        return document is None or document.folder != entry

    def _keep(self, folder: Path, picture: NewPicture) -> None:
        if isinstance(picture.png, Path):
            link_file(picture.png, folder / picture_name(picture.variant.sha256))
        else:
            self._pictures.save(folder, picture.png)

    def _remove_folder(self, name: str) -> None:
        # A damaged document may name anything.
        if _name_of(name) is not None:
            self._pictures.remove(self._folder / name, self._folder / name)

    def _known(self) -> Iterator[tuple[float, str]]:
        """When each subject was changed, and its name."""
        with suppress(FileNotFoundError):
            for file in names_in(self._folder):
                name = file.removesuffix(_SUFFIX)
                if file.endswith(_SUFFIX) and is_cast_name(name):
                    with suppress(FileNotFoundError, StorageError):
                        yield changed_at(self._folder / file), name

    def _read(self, name: str) -> _Document | None:
        """A subject's document; ``None`` if there is none, or it is damaged."""
        with suppress(FileNotFoundError, ValidationError):
            return _Document.model_validate_json(read_file(self._path(name)))
        return None

    def _path(self, name: str) -> Path:
        if not is_cast_name(name):
            raise CastNotFoundError(NAME_RULE)
        return self._folder / f"{name}{_SUFFIX}"


def is_cast_name(text: str) -> bool:
    """Whether ``text`` can be a name in the cast."""
    return re.fullmatch(CAST_NAME_PATTERN, text) is not None


def _name_of(folder: str) -> str | None:
    """The name whose folder this is; ``None``: no name's."""
    name, _, token = folder.partition(".")
    return name if is_cast_name(name) and re.fullmatch("[0-9a-f]{8}", token) is not None else None
