"""Stores pictures, requests and results on the shared volume; only this module knows their paths.

Layout below the root, for each owner::

    <owner>/pictures/<sha256>.png                pictures of requests and assets, by the SHA-256 of these bytes
    <owner>/jobs/<folder>/request.json           the request; <folder> is <job id>.<random>
    <owner>/jobs/<folder>/asked.json             the same as it was asked for; older jobs have none
    <owner>/jobs/<folder>/pictures/<sha256>.png  its pictures: hard links, so that each is kept while a job needs it
    <owner>/jobs/<folder>/attempts/<number>/     files of one attempt, see ``ms_jobs.attempt_folders``:
        reference-<subject>.png                    what the model sees of a subject
        image-<index>.png (.webp, .jpg)            a picture, with its recipe
        manifest.json                              written last: a job with a manifest is done
    <owner>/assets/, <owner>/cast/               see ``ms_jobs.assets`` and ``ms_jobs.cast``

and of all owners::

    tokenizers/                                  see ``ms_jobs.tokenizer_files``

Every file appears whole or not at all: it is written under a temporary name, synced, and renamed. An attempt writes only
below its own folder, and a later attempt renames that folder first, so late writes fail.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from ms_core.errors import ImageNotFoundError, JobNotFoundError, StorageError
from ms_core.spec import MAX_SUBJECTS, Pictures
from ms_core.spec.declared import FieldError, invalid_inputs
from ms_core.spec.pictures import PictureUse
from ms_jobs.assets import ASSETS, AssetStore
from ms_jobs.attempt_folders import MANIFEST, AttemptFolders, Manifest, request_gone
from ms_jobs.cast import CAST, CastStore
from ms_jobs.files import (
    PART_SUFFIX,
    check_writable,
    entries,
    free_bytes,
    is_there,
    link_file,
    make_folder,
    missing_means,
    move,
    names_in,
    read_file,
    remove_last_name,
    storage_full,
    sync_folder,
    write_file,
)
from ms_jobs.job_request import JobRequest, as_sent, job_document, read_job_request, with_addresses
from ms_jobs.kept_pictures import GONE_JUST_NOW
from ms_jobs.pictures import PICTURE_SUFFIX, SharedPictures, picture_name, read_picture
from ms_jobs.records import LOCAL_OWNER, MAX_IMAGES, OWNER_PATTERN, SHA256_PATTERN, is_job_id
from ms_jobs.result_files import PNG, SUFFIXES

_UNREADABLE = "The stored request of this job cannot be read; send it again."
_NO_PICTURE = "The request has no such picture; GET /jobs/{id}/request names those that it has."

__all__ = ["ArtifactStore", "Manifest", "RequestFolder", "StoredPictures"]


REQUEST, _ASKED = "request.json", "asked.json"


class RequestFolder:
    """The folder of a new job while it is filled: pictures first, the request last.

    Raises (every method):
        StorageError: the volume cannot be written.
    """

    def __init__(self, path: Path, shared_pictures: SharedPictures) -> None:
        """Made by ``ArtifactStore.new_folder``."""
        self._path = path
        self._shared_pictures = shared_pictures

    @property
    def name(self) -> str:
        """Name of the folder, for the job's record."""
        return self._path.name

    def save_picture(self, png: bytes) -> str:
        """Store a picture of the request; returns its SHA-256."""
        with _deleted_meanwhile():
            return self._shared_pictures.save(self._path / "pictures", png)

    def link_picture(self, png: Path) -> None:
        """Take over the file of a ``KeptPicture``; the job has it although an asset or the cast loses it."""
        with missing_means(GONE_JUST_NOW):
            link_file(png, self._path / "pictures" / png.name)

    def save_request(self, request: JobRequest, pictures: Pictures, asked: dict[str, Any] | None = None) -> None:
        """Store the request; ``pictures`` names its pictures, which are stored already.

        Args:
            asked: the request as it was asked for, as ``as_sent`` makes it.
        """
        document = job_document(request, pictures)
        self.save_document(_json(document), asked)

    def save_document(self, document: bytes, asked: dict[str, Any] | None = None) -> None:
        """Store a request as another folder holds it."""
        with _deleted_meanwhile():
            sync_folder(self._path / "pictures")
            if asked is not None:
                write_file(self._path / _ASKED, _json(asked), sync_name=False)
            write_file(self._path / REQUEST, document)
            sync_folder(self._path.parent)


class StoredPictures:
    """The pictures of one stored request, as ``ms_core.spec.Pictures``: loaded by their SHA-256.

    Attributes:
        names: SHA-256 of the pictures read so far.
    """

    def __init__(self, load: Callable[[str], Image.Image]) -> None:
        """``load`` loads the picture of a SHA-256."""
        self._load = load
        self._pictures: list[tuple[Image.Image, str]] = []

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for _, name in self._pictures)

    def read(self, text: str, use: PictureUse) -> Image.Image:
        """Load the picture with this SHA-256; errors as ``ArtifactStore.load_picture``."""
        picture = self._load(text)
        self._pictures.append((picture, text))
        return picture

    def name(self, picture: Image.Image) -> str:
        """Get the SHA-256 of a picture that was read."""
        return next(name for known, name in self._pictures if known is picture)


class ArtifactStore:
    """The files of one owner.

    Attributes:
        owner: their owner.

    Raises (every method):
        StorageError: the volume cannot be read or written, or an id or index is malformed.
    """

    def __init__(self, root: Path, owner: str = LOCAL_OWNER) -> None:
        if not re.fullmatch(OWNER_PATTERN, owner):
            raise StorageError("Invalid owner name.")
        self.owner = owner
        self._root = root
        self._pictures = SharedPictures(root / owner / "pictures")
        self._jobs = root / owner / "jobs"

    def for_owner(self, owner: str) -> ArtifactStore:
        """Get the store of another owner's files."""
        return ArtifactStore(self._root, owner)

    def assets(self, lifetime_s: float) -> AssetStore:
        """Get the same owner's assets, which are kept for so many seconds from their last use."""
        return AssetStore(self._jobs.with_name(ASSETS), self._pictures, lifetime_s)

    def cast(self) -> CastStore:
        """Get the same owner's cast."""
        return CastStore(self._jobs.with_name(CAST), self._pictures)

    @contextmanager
    def new_folder(self, job_id: str) -> Iterator[RequestFolder]:
        """Make the folder of a new job, to be filled; it is removed if that fails.

        One job may get two folders; its record names the one that counts.
        """
        if not is_job_id(job_id):
            raise JobNotFoundError("A job's id is 16 to 64 letters, digits, '-' and '_'.")
        path = self._jobs / f"{job_id}.{secrets.token_hex(4)}"
        try:
            self._pictures.make()
            make_folder(path / "pictures")
            make_folder(path / "attempts")
            yield RequestFolder(path, self._pictures)
        except BaseException:
            self.remove(path.name)
            raise

    def copy_request(self, folder: str, job_id: str) -> str:
        """Make the folder of a new job with another job's request; returns its name.

        Raises:
            JobNotFoundError: nothing is stored for the other job.
        """
        # Refuses what cannot be run; the copy keeps what only a newer version of the service knows.
        self.load_request(folder)
        try:
            names = names_in(self._folder(folder) / "pictures")
            document = read_file(self._folder(folder) / REQUEST)
        except FileNotFoundError as error:
            raise request_gone() from error
        with self.new_folder(job_id) as copy:
            for name in sorted(name for name in names if name.endswith(PICTURE_SUFFIX)):
                copy.save_picture(self._read_picture(folder, name.removesuffix(PICTURE_SUFFIX)))
            copy.save_document(document, self.asked(folder))
        return copy.name

    def asked(self, folder: str) -> dict[str, Any]:
        """Load a request as it was asked for, in the variant of ``ms_jobs.job_request.as_sent``; decodes no picture.

        Raises:
            JobNotFoundError: nothing is stored for this job.
        """
        path = self._folder(folder)
        try:
            try:
                document = json.loads(read_file(path / _ASKED))
            except FileNotFoundError:
                # Of an older version: with the values of preset and model.
                document = as_sent(json.loads(read_file(path / REQUEST)))
            # Fails where a picture's name is not where it belongs.
            return with_addresses(document, str)
        except FileNotFoundError as error:
            raise request_gone() from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(_UNREADABLE) from error

    def request_picture(self, folder: str, sha256: str) -> bytes:
        """Load a picture of a request, as PNG.

        Raises:
            ImageNotFoundError: the request has no such picture.
        """
        if re.fullmatch(SHA256_PATTERN, sha256) is None:
            raise ImageNotFoundError(_NO_PICTURE)
        try:
            names = names_in(self._folder(folder) / "pictures")
        except FileNotFoundError as error:
            raise request_gone() from error
        if picture_name(sha256) not in names:
            raise ImageNotFoundError(_NO_PICTURE)
        return self._read_picture(folder, sha256)

    def pictures_of(self, folder: str) -> StoredPictures:
        """Get the pictures of a request, by their SHA-256."""
        return StoredPictures(partial(self.load_picture, folder))

    def load_request(self, folder: str, pictures: StoredPictures | None = None) -> JobRequest:
        """Load a request with its pictures.

        Args:
            pictures: of the same folder, if the caller needs their SHA-256 afterwards.

        Raises:
            JobNotFoundError: nothing is stored for this job.
            InvalidInputError: a value is out of range; its ``pointer`` names the field.
        """
        try:
            return read_job_request(read_file(self._folder(folder) / REQUEST), pictures or self.pictures_of(folder))
        except FileNotFoundError as error:
            raise request_gone() from error
        except ValidationError as error:
            for wrong in invalid_inputs(error, JobRequest):
                if not isinstance(wrong, FieldError):
                    raise wrong from error
            raise StorageError(_UNREADABLE) from error
        except ValueError as error:
            raise StorageError(_UNREADABLE) from error

    def load_picture(self, folder: str, sha256: str) -> Image.Image:
        """Load a picture of a request, whose pixels are decoded when they are first needed."""
        png = self._read_picture(folder, sha256)
        try:
            # By the one format that is stored: Pillow knows some that start programs.
            return Image.open(io.BytesIO(png), formats=("PNG",))
        except (OSError, SyntaxError) as error:
            raise _damaged(sha256) from error

    def open_attempt(self, folder: str, attempt: int) -> Manifest | None:
        """Make the folder of an attempt, and end the earlier attempts.

        Returns:
            The manifest of a finished attempt, whose files stay unchanged.

        Raises:
            JobNotFoundError: nothing is stored for this job.
            AttemptOverError: this attempt is over, or a later one has started.
        """
        return self._attempts(folder).open(attempt)

    def end_attempts(self, folder: str, latest: int) -> Manifest | None:
        """End the attempts up to this one: from now on they cannot write.

        Returns:
            The manifest of a finished attempt, whose files stay unchanged.

        Raises:
            JobNotFoundError: nothing is stored for this job.
        """
        return self._attempts(folder).end(latest)

    def save_image(self, folder: str, attempt: int, index: int, encoded: bytes, media_type: str = PNG) -> str:
        """Store a finished picture, a file of ``ms_jobs.result_files``; returns its SHA-256.

        Raises:
            AttemptOverError: a later attempt has started, or the job was deleted.
        """
        self._attempts(folder).write(attempt, _image_name(index, media_type), encoded)
        return hashlib.sha256(encoded).hexdigest()

    def load_image(self, folder: str, attempt: int, index: int, media_type: str = PNG) -> bytes:
        """Load the bytes of a finished picture of this media type.

        Raises:
            ImageNotFoundError: the job has no picture with this index.
        """
        try:
            return self._attempts(folder).read(attempt, _image_name(index, media_type))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no image {index}.") from error

    def save_reference(self, folder: str, attempt: int, subject: int, png: bytes) -> None:
        """Store what the model sees of a subject.

        Raises:
            AttemptOverError: a later attempt has started, or the job was deleted.
        """
        self._attempts(folder).write(attempt, _reference_name(subject), png)

    def load_reference(self, folder: str, attempt: int, subject: int) -> bytes:
        """Load what the model sees of a subject, as PNG.

        Raises:
            ImageNotFoundError: nothing is stored for this subject.
        """
        try:
            return self._attempts(folder).read(attempt, _reference_name(subject))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no reference {subject}.") from error

    def save_manifest(self, folder: str, manifest: Manifest) -> None:
        """Mark the job as done, after all its pictures are stored.

        Raises:
            AttemptOverError: a later attempt has started, or the job was deleted.
        """
        self._attempts(folder).write(manifest.attempt, MANIFEST, manifest.model_dump_json(indent=1).encode())

    def load_manifest(self, folder: str, attempt: int) -> Manifest | None:
        """Load the manifest of an attempt; ``None`` if it is not done."""
        return self._attempts(folder).manifest(attempt)

    def remove(self, folder: str) -> None:
        """Remove a job's folder, and its pictures that no other job needs."""
        path = self._folder(folder)
        # Renamed first, so that no attempt finds a half-empty folder.
        doomed = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            move(path, doomed)
            self._remove_tree(doomed)

    def remove_all(self, job_id: str) -> None:
        """Remove all folders of a job that has no record any more."""
        for path, _ in entries(self._jobs):
            if path.name.startswith(f"{job_id}.") and _is_folder(path.name):
                self.remove(path.name)

    def require_writable(self) -> None:
        """Raise ``StorageError`` if no job could be stored, as far as permissions tell."""
        for folder in (self._jobs, self._pictures.folder):
            check_writable(folder)

    def free_bytes(self) -> int:
        """Get the free space of the volume, in bytes."""
        return free_bytes(self._root)

    def require_room(self, min_free_bytes: int) -> None:
        """Raise ``StorageFullError`` if less is free."""
        if self.free_bytes() < min_free_bytes:
            raise storage_full()

    def owners(self) -> list[str]:
        """List all owners with files on the volume."""
        names = {path.parent.name for kind in ("jobs", ASSETS, CAST) for path in self._root.glob(f"*/{kind}")}
        return [name for name in names if re.fullmatch(OWNER_PATTERN, name)]

    def has_result(self, folder: str) -> bool:
        """Whether an attempt at the job is done."""
        return any(True for _ in (self._folder(folder) / "attempts").glob(f"*/{MANIFEST}"))

    def clear_leftovers(self, is_kept: Callable[[str, float], bool], age_s: float) -> Iterator[str | None]:
        """Remove leftovers of dead processes, one file or folder per step.

        Args:
            is_kept: whether the folder with this name, last changed so many seconds ago, belongs to a job.
            age_s: what changed in the last ``age_s`` seconds may be in use, and stays.

        Yields:
            The name removed, or ``None``.
        """
        for path, age in entries(self._jobs):
            # Renamed by ``remove``, which then died.
            is_doomed = path.name.startswith(".")
            if not is_doomed and (age < age_s or not _is_folder(path.name) or is_kept(path.name, age)):
                yield None
                continue
            self._remove_tree(path) if is_doomed else self.remove(path.name)
            yield None if is_doomed and is_there(path) else path.name
        for path, age in entries(self._pictures.folder):
            if age < age_s:
                yield None
            elif path.suffix == PART_SUFFIX:
                path.unlink(missing_ok=True)
                yield path.name
            else:
                yield path.name if remove_last_name(path) else None

    def _remove_tree(self, path: Path) -> None:
        self._pictures.remove(path / "pictures", path)

    def _read_picture(self, folder: str, sha256: str) -> bytes:
        with missing_means("A reference picture of this job is no longer stored; send the request again."):
            png = read_picture(self._folder(folder) / "pictures", sha256)
        if png is None:
            raise _damaged(sha256)
        return png

    def _attempts(self, folder: str) -> AttemptFolders:
        return AttemptFolders(self._folder(folder) / "attempts")

    def _folder(self, name: str) -> Path:
        if not _is_folder(name):
            raise JobNotFoundError("Invalid folder name of a job.")
        return self._jobs / name


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _is_folder(name: str) -> bool:
    job_id, _, token = name.partition(".")
    return is_job_id(job_id) and re.fullmatch(r"[0-9a-f]{8}", token) is not None


def _damaged(sha256: str) -> StorageError:
    return StorageError(f"The stored picture {picture_name(sha256)} of this job is damaged; send the request again.")


def _image_name(index: int, media_type: str) -> str:
    if not 0 <= index < MAX_IMAGES:
        raise ImageNotFoundError(f"The job has no image {index}.")
    if media_type not in SUFFIXES:
        raise StorageError(f"This version of the service cannot serve pictures of the type {media_type}; update it.")
    return f"image-{index}{SUFFIXES[media_type]}"


def _reference_name(subject: int) -> str:
    if not 0 <= subject < MAX_SUBJECTS:
        raise ImageNotFoundError(f"The job has no reference {subject}.")
    return f"reference-{subject}.png"


def _deleted_meanwhile() -> AbstractContextManager[None]:
    return missing_means("This job was deleted while it was submitted; send the request again.")
