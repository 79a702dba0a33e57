"""The files of a job's attempts: each attempt writes into a folder of its own, and only until a later one has begun.

Layout::

    attempts/<number>/       of an attempt that may write
    attempts/<number>.over/  of one that may not: what it made if it was done, else empty

A folder goes from the first name to the second in one step, and never back. Writing makes no folder, so what comes late
finds no place.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ms_core.errors import AttemptOverError, JobNotFoundError, StorageError
from ms_core.spec import GenerationWarning
from ms_jobs.files import clear_folder, make_subfolder, names_in, read_file, replace_empty, sync_folder, write_file
from ms_jobs.records import StoredImage

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """The end of a job that succeeded: its pictures and the warnings that came with them.

    Attributes:
        attempt: that made the pictures.
        references: as in ``JobRecord``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempt: int
    images: tuple[StoredImage, ...]
    warnings: tuple[GenerationWarning, ...] = ()
    references: tuple[int, ...] = ()


class AttemptFolders:
    """The attempts at one job, counted from 1; ``ArtifactStore`` tells what each method raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, attempt: int) -> Manifest | None:
        """Make a place for an attempt, and leave none to those before it; the manifest of one that was done."""
        try:
            make_subfolder(self._place(attempt))
            # Made before this look: of two attempts that open at once, one sees the other.
            latest = max(self._numbers())
            sync_folder(self._folder)
        except FileNotFoundError as error:
            raise JobNotFoundError("The request of this job is no longer stored; send it again.") from error
        if latest > attempt or self._place_after_end(attempt).exists():
            with suppress(OSError):
                self._place(attempt).rmdir()
            raise _over()
        return self.end(attempt - 1) or self.manifest(attempt)

    def end(self, latest: int) -> Manifest | None:
        """Leave no place to the attempts up to this one; the manifest of one that was done."""
        try:
            # The latest may have no folder yet, and must find that it is over when it comes.
            numbers = {number for number in (*self._numbers(), latest) if 0 < number <= latest}
            manifests = [self._end(number) for number in sorted(numbers)]
        except FileNotFoundError as error:
            raise JobNotFoundError("The request of this job is no longer stored; send it again.") from error
        return next((manifest for manifest in manifests if manifest is not None), None)

    def write(self, attempt: int, name: str, data: bytes) -> None:
        """Keep a file of an attempt that is not over."""
        try:
            # The manifest is the last: with its name those of all others are kept.
            write_file(self._place(attempt) / name, data, sync_name=name == MANIFEST)
        except FileNotFoundError as error:
            # It may have had its name already when the folder was moved: then it is kept, and who moved it finds it.
            if name != MANIFEST or self.manifest(attempt) is None:
                raise _over() from error

    def read(self, attempt: int, name: str) -> bytes:
        """A file of an attempt.

        Raises:
            FileNotFoundError: there is none.
        """
        try:
            return read_file(self._place(attempt) / name)
        except FileNotFoundError:
            # In this order, for folders are renamed in this direction.
            return read_file(self._place_after_end(attempt) / name)

    def manifest(self, attempt: int) -> Manifest | None:
        """The manifest of an attempt, or ``None`` if it is not done."""
        try:
            return Manifest.model_validate_json(self.read(attempt, MANIFEST))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StorageError("The stored result of this job cannot be read.") from error

    def _end(self, number: int) -> Manifest | None:
        place, after_end = self._place(number), self._place_after_end(number)
        # Stays behind if only as an empty folder: so an attempt that opens late finds that it is over.
        make_subfolder(after_end)
        with suppress(FileNotFoundError):
            replace_empty(place, after_end)
        manifest = self.manifest(number)
        if manifest is None:
            clear_folder(after_end)
        return manifest

    def _numbers(self) -> set[int]:
        """Of all attempts that have a place, or had one."""
        names = (re.fullmatch(r"(\d+)(\.over)?", name) for name in names_in(self._folder))
        return {int(name[1]) for name in names if name is not None}

    def _place(self, attempt: int) -> Path:
        return self._folder / str(attempt)

    def _place_after_end(self, attempt: int) -> Path:
        return self._folder / f"{attempt}.over"


def _over() -> AttemptOverError:
    return AttemptOverError("A later attempt at this job has started, or the job was deleted.")
