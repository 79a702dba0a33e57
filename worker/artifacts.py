"""Pictures, requests and results on the shared volume; the one place that knows their paths.

Layout below the root, for each owner::

    <owner>/pictures/<sha256>.png                pictures of requests, by the SHA-256 of these bytes
    <owner>/jobs/<folder>/request.json           what was asked; <folder> is <job id>.<random>
    <owner>/jobs/<folder>/pictures/<sha256>.png  its pictures: hard links, so that each is kept while some job needs it
    <owner>/jobs/<folder>/attempts/<number>/     what one attempt made:
        reference-<subject>.png                    what the model sees of a subject
        image-<index>.png                          a picture; carries its recipe
        manifest.json                              written last: a job with a manifest is done

Every file appears at once or not at all: it is written under a temporary name, synced, and renamed. An attempt writes
below its own folder only, and a later one takes that folder away first: what comes late finds no place to be written.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, ValidationError

from ms_core.errors import (
    AttemptOverError,
    ImageNotFoundError,
    JobNotFoundError,
    StorageError,
    StorageFullError,
)
from ms_core.spec import MAX_SUBJECTS
from worker.records import (
    LOCAL_OWNER,
    MAX_IMAGES,
    OWNER_PATTERN,
    SHA256_PATTERN,
    JobWarning,
    StoredImage,
    is_job_id,
)
from worker.stored_request import StoredRequest

RECIPE_KEY = "msd"
_FENCED = "."


class Manifest(BaseModel):
    """The end of a job that succeeded: its pictures and the warnings that came with them.

    Attributes:
        attempt: that made the pictures.
        references: as in ``JobRecord``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempt: int
    images: tuple[StoredImage, ...]
    warnings: tuple[JobWarning, ...] = ()
    references: tuple[int, ...] = ()


class ArtifactStore:
    """The files of one owner.

    Raises (every method):
        StorageError: the volume cannot be read or written, or an id or index has the wrong form.
    """

    def __init__(self, root: Path, owner: str = LOCAL_OWNER) -> None:
        if not re.fullmatch(OWNER_PATTERN, owner):
            raise StorageError("The owner's name has the wrong form.")
        self._root = root
        self._pictures = root / owner / "pictures"
        self._jobs = root / owner / "jobs"

    def for_owner(self, owner: str) -> ArtifactStore:
        """The same store for another owner's files."""
        return ArtifactStore(self._root, owner)

    def save_picture(self, png: bytes) -> str:
        """Keep a reference picture, once; returns the SHA-256 it is found under."""
        sha256 = hashlib.sha256(png).hexdigest()
        path = self._picture_path(sha256)
        if not path.is_file():
            _make_folder(path.parent)
            _write(path, png)
        return sha256

    def create_folder(self, job_id: str, request: StoredRequest) -> str:
        """Keep what was asked, with its pictures, in a folder of its own; returns the folder's name.

        Two calls for one job give two folders: which of them is the job's, its record tells.
        """
        if not is_job_id(job_id):
            raise JobNotFoundError("A job's id is 16 to 64 letters, digits, '-' and '_'.")
        folder = f"{job_id}.{secrets.token_hex(4)}"
        _make_folder(self._folder(folder) / "pictures")
        _make_folder(self._folder(folder) / "attempts")
        for sha256 in request.pictures:
            _link(self._picture_path(sha256), self._folder(folder) / "pictures" / f"{sha256}.png")
        _write(self._folder(folder) / "request.json", request.model_dump_json(indent=1).encode())
        return folder

    def load_request(self, folder: str) -> StoredRequest:
        """What was asked.

        Raises:
            JobNotFoundError: nothing is stored for this job.
        """
        try:
            return StoredRequest.model_validate_json(_read(self._folder(folder) / "request.json"))
        except FileNotFoundError as error:
            raise JobNotFoundError("The request of this job is no longer stored; send it again.") from error
        except ValidationError as error:
            raise StorageError("The stored request of this job cannot be read; send it again.") from error

    def load_picture(self, folder: str, sha256: str) -> Image.Image:
        """A picture of a request, decoded."""
        try:
            image = Image.open(io.BytesIO(_read(self._folder(folder) / "pictures" / _picture_name(sha256))))
            image.load()
        except FileNotFoundError as error:
            raise StorageError(
                "A reference picture of this job is no longer stored; send the request again."
            ) from error
        except (OSError, SyntaxError) as error:
            raise StorageError("A stored reference picture is damaged; send the request again.") from error
        return image

    def open_attempt(self, folder: str, attempt: int) -> Manifest | None:
        """Make a place for what an attempt makes, and leave none to those before it.

        Returns:
            The manifest of an earlier attempt that was done, whose files stay as they are.

        Raises:
            JobNotFoundError: nothing is stored for this job.
        """
        attempts = self._folder(folder) / "attempts"
        try:
            manifests = [self._fence(path) for path in sorted(attempts.iterdir()) if path.name != str(attempt)]
            done = next((manifest for manifest in manifests if manifest is not None), None)
            if done is None:
                (attempts / str(attempt)).mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise JobNotFoundError("The request of this job is no longer stored; send it again.") from error
        except OSError as error:
            raise _storage_error("written", error) from error
        return done or self.load_manifest(folder, attempt)

    def save_image(self, folder: str, attempt: int, index: int, png: bytes) -> str:
        """Keep a finished picture; returns its SHA-256.

        Raises:
            AttemptOverError: a later attempt has begun, or the job was removed.
        """
        _write(self._image_path(folder, attempt, index), png)
        return hashlib.sha256(png).hexdigest()

    def load_image(self, folder: str, attempt: int, index: int) -> bytes:
        """The bytes of a finished picture.

        Raises:
            ImageNotFoundError: the job has no picture with this index.
        """
        try:
            return _read(self._image_path(folder, attempt, index))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no image {index}.") from error

    def save_reference(self, folder: str, attempt: int, subject: int, png: bytes) -> None:
        """Keep what the model sees of a subject.

        Raises:
            AttemptOverError: a later attempt has begun, or the job was removed.
        """
        _write(self._reference_path(folder, attempt, subject), png)

    def load_reference(self, folder: str, attempt: int, subject: int) -> bytes:
        """What the model sees of a subject, as PNG.

        Raises:
            ImageNotFoundError: nothing is kept for this subject.
        """
        try:
            return _read(self._reference_path(folder, attempt, subject))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no reference {subject}.") from error

    def save_manifest(self, folder: str, manifest: Manifest) -> None:
        """Mark the job as done; only after all its pictures are kept.

        Raises:
            AttemptOverError: a later attempt has begun, or the job was removed.
        """
        path = self._attempt_path(folder, manifest.attempt) / "manifest.json"
        _write(path, manifest.model_dump_json(indent=1).encode())

    def load_manifest(self, folder: str, attempt: int) -> Manifest | None:
        """The manifest of an attempt, or ``None`` if it is not done."""
        return _read_manifest(self._attempt_path(folder, attempt))

    def remove(self, folder: str) -> None:
        """Remove everything of a job, and those of its pictures that no other job needs."""
        path = self._folder(folder)
        # Renamed first, so that no attempt finds the folder half empty.
        doomed = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _storage_error("written", error) from error
        self._remove_tree(doomed)

    def free_bytes(self) -> int:
        """How much the volume can still take."""
        folder = next(path for path in (self._root, *self._root.resolve().parents) if path.exists())
        try:
            volume = os.statvfs(folder)
        except OSError as error:
            raise _storage_error("read", error) from error
        return volume.f_bavail * volume.f_frsize

    def require_room(self, min_free_bytes: int) -> None:
        """Raise ``StorageFullError`` if less is free."""
        if self.free_bytes() < min_free_bytes:
            raise _storage_full()

    def owners(self) -> list[str]:
        """All who have jobs here, whoever's files these are."""
        names = (path.parent.name for path in self._root.glob("*/jobs"))
        return [name for name in names if re.fullmatch(OWNER_PATTERN, name)]

    def has_result(self, folder: str) -> bool:
        """Whether some attempt at the job is done."""
        return any(True for _ in (self._folder(folder) / "attempts").glob("*/manifest.json"))

    def clear_leftovers(self, is_kept: Callable[[str, float], bool], age_s: float) -> Iterator[str | None]:
        """Remove what processes that died left behind, one file or folder at each step.

        Args:
            is_kept: whether the folder with this name, last changed so many seconds ago, belongs to a job.
            age_s: what was changed in the last ``age_s`` seconds may be on its way, and stays.

        Yields:
            The name of what was removed, or ``None``.
        """
        for path, age in _entries(self._jobs):
            # Renamed before it was to be removed.
            if path.name.startswith("."):
                self._remove_tree(path)
            elif age < age_s or not _is_folder(path.name) or is_kept(path.name, age):
                yield None
                continue
            else:
                self.remove(path.name)
            yield path.name
        for path, age in _entries(self._pictures):
            if age < age_s:
                yield None
            elif path.suffix == ".part":
                path.unlink(missing_ok=True)
                yield path.name
            else:
                yield path.name if _unlink_if_alone(path) else None

    def _remove_tree(self, path: Path) -> None:
        pictures = [picture.name for picture in (path / "pictures").glob("*.png")]
        shutil.rmtree(path, ignore_errors=True)
        for name in pictures:
            _unlink_if_alone(self._pictures / name)

    def _fence(self, path: Path) -> Manifest | None:
        """Take away the folder of an attempt that was not done; the manifest of one that was."""
        manifest = _read_manifest(path)
        is_fenced = path.name.startswith(_FENCED)
        fenced = path if is_fenced else path.with_name(f"{_FENCED}{path.name}.{secrets.token_hex(4)}")
        if manifest is None and not is_fenced:
            path.rename(fenced)
            # It may have been done in the moment before it lost its place.
            manifest = _read_manifest(fenced)
        if manifest is None:
            shutil.rmtree(fenced, ignore_errors=True)
        elif fenced.exists():
            fenced.rename(path.with_name(str(manifest.attempt)))
        return manifest

    def _picture_path(self, sha256: str) -> Path:
        return self._pictures / _picture_name(sha256)

    def _image_path(self, folder: str, attempt: int, index: int) -> Path:
        if not 0 <= index < MAX_IMAGES:
            raise ImageNotFoundError(f"The job has no image {index}.")
        return self._attempt_path(folder, attempt) / f"image-{index}.png"

    def _reference_path(self, folder: str, attempt: int, subject: int) -> Path:
        if not 0 <= subject < MAX_SUBJECTS:
            raise ImageNotFoundError(f"The job has no reference {subject}.")
        return self._attempt_path(folder, attempt) / f"reference-{subject}.png"

    def _attempt_path(self, folder: str, attempt: int) -> Path:
        return self._folder(folder) / "attempts" / str(attempt)

    def _folder(self, name: str) -> Path:
        if not _is_folder(name):
            raise JobNotFoundError("A job's folder has the wrong name.")
        return self._jobs / name


def png_of(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def png_with_recipe(image: Image.Image, recipe: dict[str, Any]) -> bytes:
    """The picture as PNG with its recipe as text metadata: JSON under the key ``msd``."""
    info = PngInfo()
    # ASCII JSON fits the plain text chunk, which every reader knows.
    info.add_text(RECIPE_KEY, json.dumps(recipe, ensure_ascii=True))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_recipe(png: bytes) -> dict[str, Any] | None:
    """The recipe that ``png_with_recipe`` wrote, or ``None`` if the picture carries none."""
    with Image.open(io.BytesIO(png)) as image:
        text = image.info.get(RECIPE_KEY)
    return None if text is None else json.loads(text)


def _is_folder(name: str) -> bool:
    job_id, _, token = name.partition(".")
    return is_job_id(job_id) and re.fullmatch(r"[0-9a-f]{8}", token) is not None


def _picture_name(sha256: str) -> str:
    if not re.fullmatch(SHA256_PATTERN, sha256):
        raise StorageError("A picture's name is 64 hexadecimal digits.")
    return f"{sha256}.png"


def _read_manifest(attempt_folder: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json(_read(attempt_folder / "manifest.json"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StorageError("The stored result of this job cannot be read.") from error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _storage_error("written", error) from error


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the volume knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise _storage_error("written", error) from error


def _entries(folder: Path) -> Iterator[tuple[Path, float]]:
    """What is in a folder, and how many seconds ago it was changed."""
    try:
        for path in folder.iterdir():
            try:
                age = time.time() - path.stat().st_mtime
            except FileNotFoundError:
                continue
            yield path, age
    except FileNotFoundError:
        return
    except OSError as error:
        raise _storage_error("read", error) from error


def _unlink_if_alone(path: Path) -> bool:
    """Remove a file that has no second name; whether it was removed."""
    try:
        if path.stat().st_nlink == 1:
            path.unlink()
            return True
    except FileNotFoundError:
        pass
    return False


def _write(path: Path, data: bytes) -> None:
    """Write a file into a folder that exists; it appears whole or not at all, and stays after a power cut."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except FileNotFoundError as error:
        raise AttemptOverError("A later attempt at this job has begun, or the job was removed.") from error
    except OSError as error:
        raise _storage_error("written", error) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _storage_error("read", error) from error


def _storage_error(done: str, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _storage_full()
    return StorageError(f"The storage cannot be {done}: {error.strerror}.")


def _storage_full() -> StorageFullError:
    return StorageFullError(
        "The storage is full. Try again when there is room: jobs that were deleted or expired free it."
    )
