"""Pictures, requests and results on the shared volume; the one place that knows their paths.

Layout below the root, for each owner::

    <owner>/pictures/<sha256>.png                  pictures of requests, by the SHA-256 of these bytes
    <owner>/jobs/<job id>/request.json             what was asked
    <owner>/jobs/<job id>/references/<subject>.png what the model sees of a subject
    <owner>/jobs/<job id>/images/<index>.png       what was made; carries its recipe
    <owner>/jobs/<job id>/manifest.json            written last: a job with a manifest is done

Every file appears at once or not at all: it is written under a temporary name, synced, and renamed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, ValidationError

from ms_core.errors import ImageNotFoundError, JobNotFoundError, StorageError
from ms_core.spec import MAX_SUBJECTS
from worker.records import MAX_IMAGES, SHA256_PATTERN, JobWarning, StoredImage, is_job_id
from worker.stored_request import StoredRequest

RECIPE_KEY = "msd"


class Manifest(BaseModel):
    """The end of a job that succeeded: its pictures and the warnings that came with them.

    Attributes:
        references: as in ``JobRecord``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: tuple[StoredImage, ...]
    warnings: tuple[JobWarning, ...] = ()
    references: tuple[int, ...] = ()


class ArtifactStore:
    """The files of one owner.

    Raises (every method):
        StorageError: the volume cannot be read or written, or an id or index has the wrong form.
    """

    def __init__(self, root: Path, owner: str = "local") -> None:
        if not re.fullmatch(r"[a-z0-9_-]{1,64}", owner):
            raise StorageError("The owner's name has the wrong form.")
        self._pictures = root / owner / "pictures"
        self._jobs = root / owner / "jobs"

    def save_picture(self, png: bytes) -> str:
        """Keep a reference picture, once; returns the SHA-256 it is found under."""
        sha256 = hashlib.sha256(png).hexdigest()
        path = self._picture_path(sha256)
        if not path.is_file():
            _write(path, png)
        return sha256

    def load_picture(self, sha256: str) -> Image.Image:
        """A kept reference picture, decoded."""
        try:
            image = Image.open(io.BytesIO(_read(self._picture_path(sha256))))
            image.load()
        except FileNotFoundError as error:
            raise StorageError(
                "A reference picture of this job is no longer stored; send the request again."
            ) from error
        except (OSError, SyntaxError) as error:
            raise StorageError("A stored reference picture is damaged; send the request again.") from error
        return image

    def save_request(self, job_id: str, request: StoredRequest) -> None:
        """Keep what was asked."""
        _write(self._job_folder(job_id) / "request.json", request.model_dump_json(indent=1).encode())

    def load_request(self, job_id: str) -> StoredRequest:
        """What was asked.

        Raises:
            JobNotFoundError: nothing is stored for this job.
        """
        try:
            return StoredRequest.model_validate_json(_read(self._job_folder(job_id) / "request.json"))
        except FileNotFoundError as error:
            raise JobNotFoundError("The request of this job is no longer stored; send it again.") from error
        except ValidationError as error:
            raise StorageError("The stored request of this job cannot be read; send it again.") from error

    def save_image(self, job_id: str, index: int, png: bytes) -> str:
        """Keep a finished picture; returns its SHA-256. A second attempt of a job overwrites the first's."""
        _write(self._image_path(job_id, index), png)
        return hashlib.sha256(png).hexdigest()

    def load_image(self, job_id: str, index: int) -> bytes:
        """The bytes of a finished picture.

        Raises:
            ImageNotFoundError: the job has no picture with this index.
        """
        try:
            return _read(self._image_path(job_id, index))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no image {index}.") from error

    def save_reference(self, job_id: str, subject: int, png: bytes) -> None:
        """Keep what the model sees of a subject."""
        _write(self._reference_path(job_id, subject), png)

    def load_reference(self, job_id: str, subject: int) -> bytes:
        """What the model sees of a subject, as PNG.

        Raises:
            ImageNotFoundError: nothing is kept for this subject.
        """
        try:
            return _read(self._reference_path(job_id, subject))
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"The job has no reference {subject}.") from error

    def save_manifest(self, job_id: str, manifest: Manifest) -> None:
        """Mark the job as done; only after all its pictures are kept."""
        _write(self._job_folder(job_id) / "manifest.json", manifest.model_dump_json(indent=1).encode())

    def load_manifest(self, job_id: str) -> Manifest | None:
        """The manifest, or ``None`` if the job is not done."""
        try:
            return Manifest.model_validate_json(_read(self._job_folder(job_id) / "manifest.json"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StorageError("The stored result of this job cannot be read.") from error

    def _picture_path(self, sha256: str) -> Path:
        if not re.fullmatch(SHA256_PATTERN, sha256):
            raise StorageError("A picture's name is 64 hexadecimal digits.")
        return self._pictures / f"{sha256}.png"

    def _image_path(self, job_id: str, index: int) -> Path:
        if not 0 <= index < MAX_IMAGES:
            raise ImageNotFoundError(f"The job has no image {index}.")
        return self._job_folder(job_id) / "images" / f"{index}.png"

    def _reference_path(self, job_id: str, subject: int) -> Path:
        if not 0 <= subject < MAX_SUBJECTS:
            raise ImageNotFoundError(f"The job has no reference {subject}.")
        return self._job_folder(job_id) / "references" / f"{subject}.png"

    def _job_folder(self, job_id: str) -> Path:
        if not is_job_id(job_id):
            raise JobNotFoundError("A job's id is 16 to 64 letters, digits, '-' and '_'.")
        return self._jobs / job_id


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


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, and stays after a power cut."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    except OSError as error:
        raise StorageError(f"The storage cannot be written: {error.strerror}.") from error


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
        raise StorageError(f"The storage cannot be read: {error.strerror}.") from error
