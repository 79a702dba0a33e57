"""Which footage a folder holds, what its notes say, and who may use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ms_core.errors import InvalidInputError
from ms_lab.data.items import SOURCE_ID_LENGTH, Source
from ms_lab.data.settings import first_fault

_VIDEOS = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts wmv flv ogv 3gp mxf y4m"
_PICTURES = "png jpg jpeg webp bmp tif tiff heic avif gif"
VIDEO_ENDINGS, PICTURE_ENDINGS = (frozenset(f".{name}" for name in names.split()) for names in (_VIDEOS, _PICTURES))
FOLDER_NOTES = "notes.json"
_CHUNK = 1 << 20


class SourceError(InvalidInputError):
    """A source cannot be used; the others can.

    Attributes:
        reason: a short, stable name of what is wrong.
    """

    code = "source_unusable"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class TimedCaption(BaseModel):
    """What a part of a video shows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str
    start_s: float = 0.0
    end_s: float = float("inf")


class Notes(BaseModel):
    """What stands beside a video as ``NAME.json``, or in a folder of pictures as ``notes.json``.

    Attributes:
        source: a name that several files may share; they are then one source to the split and to erasing.
        captions: of a video.
        pictures: captions of a folder's pictures by file name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str = ""
    licence: str = ""
    provenance: str = ""
    captions: tuple[TimedCaption, ...] = ()
    pictures: dict[str, str] = Field(default_factory=dict)

    def caption_at(self, time_s: float) -> str:
        """What the notes say of this time; empty if nothing."""
        return next((caption.text for caption in self.captions if caption.start_s <= time_s < caption.end_s), "")


@dataclass(frozen=True, slots=True)
class Footage:
    """A video file, or a folder with pictures directly in it."""

    path: Path
    kind: Literal["video", "pictures"]

    def pictures(self) -> list[Path]:
        """The files of a picture folder, in the order of their names."""
        return sorted(path for path in self.path.iterdir() if _ending(path) in PICTURE_ENDINGS and path.is_file())

    def notes(self) -> Notes:
        """What stands beside it.

        Raises:
            SourceError: the notes cannot be read, or have an unknown key.
        """
        video = self.kind == "video"
        path = self.path.with_name(self.path.name + ".json") if video else self.path / FOLDER_NOTES
        if not path.is_file():
            return Notes()
        try:
            return Notes.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            said = first_fault(error) if isinstance(error, ValidationError) else f"{error}."
            raise SourceError("bad_notes", f"The notes {path.name!r} cannot be used: {said}") from error

    def source(self, notes: Notes) -> Source:
        """Its identity.

        Raises:
            SourceError: it cannot be read, or is empty.
        """
        content = self._content()
        own = id_of_name(notes.source) if notes.source else content[:SOURCE_ID_LENGTH]
        return Source(own, content, notes.licence, notes.provenance)

    def known_as(self) -> frozenset[str]:
        """Ids that it, or a picture of it, has in a set.

        Raises:
            SourceError: it or its notes cannot be read.
        """
        pictures = self.pictures() if self.kind == "pictures" else []
        return self.source(self.notes()).known_as | {_file_hash(path)[:SOURCE_ID_LENGTH] for path in pictures}

    def _content(self) -> str:
        paths = [self.path] if self.kind == "video" else self.pictures()
        digest = hashlib.sha256()
        try:
            hashes = sorted(_file_hash(path) for path in paths)
        except OSError as error:
            raise SourceError("unreadable", f"It cannot be read: {error.strerror}.") from error
        if len(hashes) == 1 and self.kind == "video":
            return hashes[0]
        digest.update(json.dumps(hashes).encode())
        return digest.hexdigest()


def id_of_name(name: str) -> str:
    """The id of a source that has this name in its notes."""
    return hashlib.sha256(name.encode()).hexdigest()[:SOURCE_ID_LENGTH]


def find_footage(folders: Sequence[Path]) -> list[Footage]:
    """All videos and picture folders below these folders, or these files; in the order of their paths.

    Raises:
        InvalidInputError: a folder is missing, or there is no footage at all.
    """
    found: list[Footage] = []
    for folder in folders:
        if not folder.exists():
            raise InvalidInputError(f"There is no folder or video {str(folder)!r}.")
        found += _below(folder)
    if not found:
        raise InvalidInputError("There is no video and no picture in these folders.")
    return sorted(set(found), key=lambda footage: str(footage.path))


def _below(folder: Path) -> Iterator[Footage]:
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    yield from (Footage(path, "video") for path in files if _ending(path) in VIDEO_ENDINGS)
    yield from (Footage(p, "pictures") for p in sorted({x.parent for x in files if _ending(x) in PICTURE_ENDINGS}))


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
