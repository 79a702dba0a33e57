"""Folders of a job's attempts: each attempt writes into its own, until a later attempt starts.

Layout::

    attempts/<number>/       of an attempt that may write
    attempts/<number>.over/  of one that may not: its files if it was done, else empty

A folder is renamed from the first to the second in one step, never back. Writing makes no folder, so late writes fail.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from ms_core.errors import AttemptOverError, JobNotFoundError, StorageError
from ms_core.spec import GenerationWarning
from ms_jobs.files import clear_folder, make_subfolder, names_in, read_file, replace_empty, sync_folder, write_file
from ms_jobs.records import FrozenModel, StoredImage

MANIFEST = "manifest.json"


class Manifest(FrozenModel):
    """The result of a finished attempt: its pictures and warnings.

    Attributes:
        attempt: number of the attempt.
        references: as in ``JobRecord``.
    """

    # Never written again; its fields become the record's.
    model_config = ConfigDict(extra="ignore")

    attempt: int
    images: tuple[StoredImage, ...]
    warnings: tuple[GenerationWarning, ...] = ()
    references: tuple[int, ...] = ()


class AttemptFolders:
    """The attempt folders of one job, counted from 1; ``ArtifactStore`` lists the errors of each method."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, attempt: int) -> Manifest | None:
        """Make the folder of an attempt and end the earlier ones; returns the manifest of a finished one."""
        try:
            make_subfolder(self._folder_of(attempt))
            # Made before this check: of two attempts that open at once, one sees the other.
            latest = max(self._numbers())
            sync_folder(self._folder)
        except FileNotFoundError as error:
            raise request_gone() from error
        if latest > attempt or self._ended_folder_of(attempt).exists():
            with suppress(OSError):
                self._folder_of(attempt).rmdir()
            raise _over()
        return self.end(attempt - 1) or self.manifest(attempt)

    def end(self, latest: int) -> Manifest | None:
        """End the attempts up to this one; returns the manifest of a finished one."""
        try:
            # The latest may have no folder yet, and must find that it is over when it opens.
            numbers = {number for number in (*self._numbers(), latest) if 0 < number <= latest}
            manifests = [self._end(number) for number in sorted(numbers)]
        except FileNotFoundError as error:
            raise request_gone() from error
        return next((manifest for manifest in manifests if manifest is not None), None)

    def write(self, attempt: int, name: str, data: bytes) -> None:
        """Write a file of an attempt that is not over."""
        try:
            # The manifest is written last: syncing its name syncs all others.
            write_file(self._folder_of(attempt) / name, data, sync_name=name == MANIFEST)
        except FileNotFoundError as error:
            # The manifest may have been in place when the folder was renamed: then it counts.
            if name != MANIFEST or self.manifest(attempt) is None:
                raise _over() from error

    def read(self, attempt: int, name: str) -> bytes:
        """Read a file of an attempt.

        Raises:
            FileNotFoundError: it does not exist.
        """
        try:
            return read_file(self._folder_of(attempt) / name)
        except FileNotFoundError:
            # In this order, since folders are renamed in this direction.
            return read_file(self._ended_folder_of(attempt) / name)

    def manifest(self, attempt: int) -> Manifest | None:
        """Read the manifest of an attempt; ``None`` if it is not done."""
        try:
            return Manifest.model_validate_json(self.read(attempt, MANIFEST))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StorageError("The stored result of this job cannot be read.") from error

    def _end(self, number: int) -> Manifest | None:
        current, ended = self._folder_of(number), self._ended_folder_of(number)
        # Stays even if empty, so that an attempt that opens late finds that it is over.
        make_subfolder(ended)
        with suppress(FileNotFoundError):
            replace_empty(current, ended)
        manifest = self.manifest(number)
        if manifest is None:
            clear_folder(ended)
        return manifest

    def _numbers(self) -> set[int]:
        """Get the numbers of all attempts that have or had a folder."""
        names = (re.fullmatch(r"(\d+)(\.over)?", name) for name in names_in(self._folder))
        return {int(name[1]) for name in names if name is not None}

    def _folder_of(self, attempt: int) -> Path:
        return self._folder / str(attempt)

    def _ended_folder_of(self, attempt: int) -> Path:
        return self._folder / f"{attempt}.over"


def _over() -> AttemptOverError:
    return AttemptOverError("A later attempt at this job has started, or the job was deleted.")


def request_gone() -> JobNotFoundError:
    """Make the error of a job whose folder was removed."""
    return JobNotFoundError("The request of this job is no longer stored; send it again.")
