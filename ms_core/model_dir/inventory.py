"""The inventory of a model directory: which files it had when it was made, in ``files.json``; free of torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ms_core.errors import CheckpointError

INVENTORY_FILE = "files.json"

# What can have happened to a file.
MISSING_FILE = "missing_file"
RENAMED_FILE = "renamed_file"
RESIZED_FILE = "resized_file"
CHANGED_FILE = "changed_file"
UNREADABLE_FILE = "unreadable_file"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file: its size in bytes and the hexadecimal SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Content of ``files.json``.

    Attributes:
        made_with: the command that makes the directory again.
        files: by path below the model directory, with forward slashes.
    """

    made_with: str
    files: Mapping[str, FileRecord]

    @classmethod
    def load(cls, directory: Path) -> Inventory:
        """Read the inventory of a model directory.

        Raises:
            FileNotFoundError: it has none.
            CheckpointError: it is not valid.
        """
        text = (directory / INVENTORY_FILE).read_bytes()
        try:
            data: Any = json.loads(text)
            return cls(data["made_with"], {path: FileRecord(**record) for path, record in data["files"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{INVENTORY_FILE} is not an inventory of a model directory ({error}).") from error


@dataclass(frozen=True, slots=True)
class FileChange:
    """What happened to a file.

    Attributes:
        code: stable, machine-readable name of it.
        path: of the file, as the inventory has it.
        sentence: what happened, without a full stop.
        remedy: what to do, without a full stop and in lower case.
    """

    code: str
    path: str
    sentence: str
    remedy: str


def write_inventory(directory: Path, made_with: str | None = None) -> None:
    """Write ``files.json``: path, size and SHA-256 of every file of a model directory, itself and hidden ones excluded.

    Args:
        directory: of the model; all its files are read.
        made_with: the command that makes the directory again, for the sentences of ``check_inventory``; by default
            ``msd download`` with the directory's name.
    """
    files = {path: FileRecord(_size(directory / path), _sha256(directory / path)) for path in _paths(directory)}
    inventory = Inventory(made_with or f"msd download {directory.resolve().name}", files)
    # Never half an inventory, whenever the process ends.
    part = directory / f".{INVENTORY_FILE}.part"
    part.write_text(json.dumps(asdict(inventory), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, directory / INVENTORY_FILE)


def renew_inventory(directory: Path) -> None:
    """Write ``files.json`` again after files were changed on purpose; a directory without one gets none."""
    if (directory / INVENTORY_FILE).is_file():
        write_inventory(directory, Inventory.load(directory).made_with)


def check_inventory(directory: Path, hashes: bool) -> list[str]:
    """One sentence, with its remedy, for each change of ``find_changes``; a broken inventory is one, too."""
    try:
        return [f"{change.sentence}; {change.remedy}" for change in find_changes(directory, hashes)]
    except CheckpointError as error:
        return [f"{error.detail} Make the model directory again."]


def find_changes(directory: Path, hashes: bool) -> list[FileChange]:
    """Files that are missing, renamed, resized, changed or unreadable since the inventory was written.

    A directory without inventory has nothing to compare with and gives none. Files that the inventory does not list are
    the user's own, such as those below ``loras/``, ``controlnets/`` and ``embeddings/``.

    Args:
        directory: of the model.
        hashes: also read every file and compare its SHA-256; without it only sizes are compared.

    Raises:
        CheckpointError: ``files.json`` is not an inventory.
    """
    try:
        inventory = Inventory.load(directory)
    except FileNotFoundError:
        return []
    unlisted = [path for path in _paths(directory) if path not in inventory.files]
    checked = [_check_file(directory, path, inventory, hashes, unlisted) for path in inventory.files]
    return [change for change in checked if change is not None]


def _check_file(
    directory: Path, path: str, inventory: Inventory, hashes: bool, unlisted: list[str]
) -> FileChange | None:
    """What is wrong with one file, or ``None``."""
    record, file = inventory.files[path], directory / path
    again = f"fetch it again with: {inventory.made_with}"
    try:
        if not file.is_file():
            found = _find_renamed(directory, record, unlisted)
            if found is None:
                return FileChange(MISSING_FILE, path, f"{path} is missing", again)
            sentence = f"{path} is missing, but {found} has its content"
            return FileChange(RENAMED_FILE, path, sentence, f"rename that back to {path}")
        size = _size(file)
        if size != record.size:
            return FileChange(RESIZED_FILE, path, f"{path} has {size} bytes instead of {record.size}", again)
        if hashes and _sha256(file) != record.sha256:
            return FileChange(CHANGED_FILE, path, f"{path} was changed: its SHA-256 is not the recorded one", again)
    except OSError as error:
        sentence = f"{path} cannot be read ({error.strerror})"
        return FileChange(UNREADABLE_FILE, path, sentence, f"let your user read it, or {again}")
    return None


def _find_renamed(directory: Path, record: FileRecord, unlisted: list[str]) -> str | None:
    """The unlisted file with the recorded content; only files of its size are read."""
    for path in unlisted:
        if _size(directory / path) == record.size and _sha256(directory / path) == record.sha256:
            return path
    return None


def _paths(directory: Path) -> list[str]:
    """All files below a model directory, sorted; hidden ones, such as a download's records, do not belong to the
    model."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if path.as_posix() != INVENTORY_FILE and not any(part.startswith(".") for part in path.parts)
    )


def _size(file: Path) -> int:
    return file.stat().st_size


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
