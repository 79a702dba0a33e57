"""Pictures, requests and results on the shared volume; the one place that knows their paths.

Layout below the root, for each owner::

    <owner>/pictures/<sha256>.png                pictures of requests, by the SHA-256 of these bytes
    <owner>/jobs/<folder>/request.json           what was asked; <folder> is <job id>.<random>
    <owner>/jobs/<folder>/pictures/<sha256>.png  its pictures: hard links, so that each is kept while some job needs it
    <owner>/jobs/<folder>/attempts/<number>/     what one attempt made, see ``ms_jobs.attempt_folders``:
        reference-<subject>.png                    what the model sees of a subject
        image-<index>.png                          a picture; carries its recipe
        manifest.json                              written last: a job with a manifest is done

Every file appears at once or not at all: it is written under a temporary name, synced, and renamed. An attempt writes
below its own folder only, and a later one takes that folder away first: what comes late finds no place to be written.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from ms_core.errors import ImageNotFoundError, JobNotFoundError, StorageError
from ms_core.spec import MAX_SUBJECTS, Pictures
from ms_core.spec.declared import FieldError, invalid_inputs
from ms_jobs.attempt_folders import MANIFEST, AttemptFolders, Manifest
from ms_jobs.files import (
    PART_SUFFIX,
    entries,
    free_bytes,
    make_folder,
    move,
    read_file,
    remove_last_name,
    remove_tree,
    share_file,
    storage_full,
    sync_folder,
    write_file,
)
from ms_jobs.job_request import JobRequest, job_document, read_job_request
from ms_jobs.records import LOCAL_OWNER, MAX_IMAGES, OWNER_PATTERN, SHA256_PATTERN, is_job_id

__all__ = ["ArtifactStore", "Manifest", "RequestFolder", "StoredPictures"]


class RequestFolder:
    """The folder of a new job while it is filled: the pictures first, the request last.

    Raises (every method):
        StorageError: the volume cannot be written.
    """

    def __init__(self, path: Path, shared_pictures: Path) -> None:
        """``ArtifactStore.new_folder`` makes it."""
        self._path = path
        self._shared_pictures = shared_pictures

    @property
    def name(self) -> str:
        """The folder's name, for the job's record."""
        return self._path.name

    def save_picture(self, png: bytes) -> str:
        """Keep a picture of the request; returns the SHA-256 it is found under.

        All jobs with this picture share its bytes. When another job removes the shared name in this very moment, this
        folder has bytes of its own.
        """
        sha256 = hashlib.sha256(png).hexdigest()
        shared = self._shared_pictures / _picture_name(sha256)
        with _missing_means("This job was deleted while it was submitted; send the request again."):
            if not shared.is_file():
                # The job needs its own name only, which is synced with the request.
                write_file(shared, png, sync_name=False)
            share_file(shared, self._path / "pictures" / shared.name, png)
        return sha256

    def save_request(self, request: JobRequest, pictures: Pictures) -> None:
        """Keep what was asked; ``pictures`` names its pictures, which are kept already."""
        document = job_document(request, pictures)
        with _missing_means("This job was deleted while it was submitted; send the request again."):
            sync_folder(self._path / "pictures")
            write_file(self._path / "request.json", json.dumps(document, indent=1, ensure_ascii=False).encode())
            sync_folder(self._path.parent)


class StoredPictures:
    """The pictures of one stored request, as ``ms_core.spec.Pictures``: read by their SHA-256 and decoded.

    Attributes:
        names: SHA-256 of those that were read.
    """

    def __init__(self, load: Callable[[str], Image.Image]) -> None:
        """``load`` gives the picture of a SHA-256."""
        self._load = load
        self._pictures: list[tuple[Image.Image, str]] = []

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for _, name in self._pictures)

    def read(self, text: str, whole: bool) -> Image.Image:
        """The picture with this SHA-256; errors as ``ArtifactStore.load_picture``."""
        picture = self._load(text)
        self._pictures.append((picture, text))
        return picture

    def name(self, picture: Image.Image) -> str:
        """The SHA-256 of a picture that was read."""
        return next(name for known, name in self._pictures if known is picture)


class ArtifactStore:
    """The files of one owner.

    Raises (every method):
        StorageError: the volume cannot be read or written, or an id or index has the wrong form.
    """

    def __init__(self, root: Path, owner: str = LOCAL_OWNER) -> None:
        if not re.fullmatch(OWNER_PATTERN, owner):
            raise StorageError("Invalid owner name.")
        self._root = root
        self._pictures = root / owner / "pictures"
        self._jobs = root / owner / "jobs"

    def for_owner(self, owner: str) -> ArtifactStore:
        """The same store for another owner's files."""
        return ArtifactStore(self._root, owner)

    @contextmanager
    def new_folder(self, job_id: str) -> Iterator[RequestFolder]:
        """A folder of its own for a new job, to be filled; removed again when that fails.

        Two folders for one job may be made: which of them is the job's, its record tells.
        """
        if not is_job_id(job_id):
            raise JobNotFoundError("A job's id is 16 to 64 letters, digits, '-' and '_'.")
        path = self._jobs / f"{job_id}.{secrets.token_hex(4)}"
        try:
            make_folder(self._pictures)
            make_folder(path / "pictures")
            make_folder(path / "attempts")
            yield RequestFolder(path, self._pictures)
        except BaseException:
            self.remove(path.name)
            raise

    def copy_request(self, folder: str, job_id: str) -> str:
        """A folder for a new job that asks for the same as another; returns its name.

        Raises:
            JobNotFoundError: nothing is stored for the other job.
        """
        pictures = self.pictures_of(folder)
        request = self.load_request(folder, pictures)
        with self.new_folder(job_id) as copy:
            for sha256 in pictures.names:
                copy.save_picture(self._read_picture(folder, sha256))
            copy.save_request(request, pictures)
        return copy.name

    def pictures_of(self, folder: str) -> StoredPictures:
        """The pictures of a request, by their SHA-256."""
        return StoredPictures(partial(self.load_picture, folder))

    def load_request(self, folder: str, pictures: StoredPictures | None = None) -> JobRequest:
        """What was asked, with its pictures.

        Args:
            pictures: of the same folder, for who wants to know their SHA-256 afterwards.

        Raises:
            JobNotFoundError: nothing is stored for this job.
            InvalidInputError: a value is out of range; its ``pointer`` names the field.
        """
        try:
            return read_job_request(
                read_file(self._folder(folder) / "request.json"), pictures or self.pictures_of(folder)
            )
        except FileNotFoundError as error:
            raise JobNotFoundError("The request of this job is no longer stored; send it again.") from error
        except ValidationError as error:
            for wrong in invalid_inputs(error):
                if not isinstance(wrong, FieldError):
                    raise wrong from error
            raise StorageError("The stored request of this job cannot be read; send it again.") from error
        except ValueError as error:
            raise StorageError("The stored request of this job cannot be read; send it again.") from error

    def load_picture(self, folder: str, sha256: str) -> Image.Image:
        """A picture of a request, decoded."""
        png = self._read_picture(folder, sha256)
        try:
            image = Image.open(io.BytesIO(png))
            image.load()
        except (OSError, SyntaxError) as error:
            raise StorageError("A stored reference picture is damaged; send the request again.") from error
        return image

    def open_attempt(self, folder: str, attempt: int) -> Manifest | None:
        """Make a place for what an attempt makes, and leave none to those before it.

        Returns:
            The manifest of an attempt that was done, whose files stay as they are.

        Raises:
            JobNotFoundError: nothing is stored for this job.
            AttemptOverError: this attempt is over, or a later one has begun.
        """
        return self._attempts(folder).open(attempt)

    def end_attempts(self, folder: str, latest: int) -> Manifest | None:
        """Leave no place to the attempts up to this one: from now on they write nothing.

        Returns:
            The manifest of one that was done, whose files stay as they are.

        Raises:
            JobNotFoundError: nothing is stored for this job.
        """
        return self._attempts(folder).end(latest)

    def save_image(self, folder: str, attempt: int, index: int, png: bytes) -> str:
        """Keep a finished picture; returns its SHA-256.

        Raises:
            AttemptOverError: a later attempt has begun, or the job was removed.
        """
        self._attempts(folder).write(attempt, _image_name(index), png)
        return hashlib.sha256(png).hexdigest()

    def load_image(self, folder: str, attempt: int, index: int) -> bytes:
        """The bytes of a finished picture.

        Raises:
            ImageNotFoundError: the job has no picture with this index.
        """
        try:
            return self._attempts(folder).read(attempt, _image_name(index))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no image {index}.") from error

    def save_reference(self, folder: str, attempt: int, subject: int, png: bytes) -> None:
        """Keep what the model sees of a subject.

        Raises:
            AttemptOverError: a later attempt has begun, or the job was removed.
        """
        self._attempts(folder).write(attempt, _reference_name(subject), png)

    def load_reference(self, folder: str, attempt: int, subject: int) -> bytes:
        """What the model sees of a subject, as PNG.

        Raises:
            ImageNotFoundError: nothing is kept for this subject.
        """
        try:
            return self._attempts(folder).read(attempt, _reference_name(subject))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no reference {subject}.") from error

    def save_manifest(self, folder: str, manifest: Manifest) -> None:
        """Mark the job as done; only after all its pictures are kept.

        Raises:
            AttemptOverError: a later attempt has begun, or the job was removed.
        """
        self._attempts(folder).write(manifest.attempt, MANIFEST, manifest.model_dump_json(indent=1).encode())

    def load_manifest(self, folder: str, attempt: int) -> Manifest | None:
        """The manifest of an attempt, or ``None`` if it is not done."""
        return self._attempts(folder).manifest(attempt)

    def remove(self, folder: str) -> None:
        """Remove everything of a job, and those of its pictures that no other job needs."""
        path = self._folder(folder)
        # Renamed first, so that no attempt finds the folder half empty.
        doomed = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            move(path, doomed)
            self._remove_tree(doomed)

    def free_bytes(self) -> int:
        """How much the volume can still take."""
        return free_bytes(self._root)

    def require_room(self, min_free_bytes: int) -> None:
        """Raise ``StorageFullError`` if less is free."""
        if self.free_bytes() < min_free_bytes:
            raise storage_full()

    def owners(self) -> list[str]:
        """All who have jobs here, whoever's files these are."""
        names = (path.parent.name for path in self._root.glob("*/jobs"))
        return [name for name in names if re.fullmatch(OWNER_PATTERN, name)]

    def has_result(self, folder: str) -> bool:
        """Whether some attempt at the job is done."""
        return any(True for _ in (self._folder(folder) / "attempts").glob(f"*/{MANIFEST}"))

    def clear_leftovers(self, is_kept: Callable[[str, float], bool], age_s: float) -> Iterator[str | None]:
        """Remove what processes that died left behind, one file or folder at each step.

        Args:
            is_kept: whether the folder with this name, last changed so many seconds ago, belongs to a job.
            age_s: what was changed in the last ``age_s`` seconds may be on its way, and stays.

        Yields:
            The name of what was removed, or ``None``.
        """
        for path, age in entries(self._jobs):
            # Renamed before it was to be removed.
            is_doomed = path.name.startswith(".")
            if not is_doomed and (age < age_s or not _is_folder(path.name) or is_kept(path.name, age)):
                yield None
                continue
            self._remove_tree(path) if is_doomed else self.remove(path.name)
            yield path.name
        for path, age in entries(self._pictures):
            if age < age_s:
                yield None
            elif path.suffix == PART_SUFFIX:
                path.unlink(missing_ok=True)
                yield path.name
            else:
                yield path.name if remove_last_name(path) else None

    def _remove_tree(self, path: Path) -> None:
        pictures = [picture.name for picture in (path / "pictures").glob("*.png")]
        remove_tree(path)
        for name in pictures:
            remove_last_name(self._pictures / name)

    def _read_picture(self, folder: str, sha256: str) -> bytes:
        path = self._folder(folder) / "pictures" / _picture_name(sha256)
        with _missing_means("A reference picture of this job is no longer stored; send the request again."):
            return read_file(path)

    def _attempts(self, folder: str) -> AttemptFolders:
        return AttemptFolders(self._folder(folder) / "attempts")

    def _folder(self, name: str) -> Path:
        if not _is_folder(name):
            raise JobNotFoundError("Invalid folder name of a job.")
        return self._jobs / name


def _is_folder(name: str) -> bool:
    job_id, _, token = name.partition(".")
    return is_job_id(job_id) and re.fullmatch(r"[0-9a-f]{8}", token) is not None


def _picture_name(sha256: str) -> str:
    if not re.fullmatch(SHA256_PATTERN, sha256):
        raise StorageError("A picture's name is 64 hexadecimal digits.")
    return f"{sha256}.png"


def _image_name(index: int) -> str:
    if not 0 <= index < MAX_IMAGES:
        raise ImageNotFoundError(f"The job has no image {index}.")
    return f"image-{index}.png"


def _reference_name(subject: int) -> str:
    if not 0 <= subject < MAX_SUBJECTS:
        raise ImageNotFoundError(f"The job has no reference {subject}.")
    return f"reference-{subject}.png"


@contextmanager
def _missing_means(detail: str) -> Iterator[None]:
    """Tell of a missing file in the user's words."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(detail) from error
