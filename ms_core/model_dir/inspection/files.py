"""Reading the files of a model directory; what cannot be read is noted, with its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ms_core.model_dir.inspection.findings import Notes
from ms_core.model_dir.inspection.headers import DamageError, TensorHeader, read_header
from ms_core.model_dir.inventory import MISSING_FILE, RENAMED_FILE, UNREADABLE_FILE

BROKEN_FILE = "broken_file"
TRUNCATED_FILE = "truncated_file"
PICKLED_WEIGHTS = "pickled_weights"

# The ending of a file whose download has not ended.
UNFINISHED = ".incomplete"

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")

JsonObject = dict[str, Any]


def read_json(directory: Path, path: str, mark: str, notes: Notes) -> JsonObject | None:
    """A JSON object, or ``None`` with a note.

    Args:
        directory: of the model.
        path: below it.
        mark: a key of such a file, by which it is known under another name.
    """
    file = directory / path
    if not file.is_file():
        note_missing(directory, path, lambda other: mark in (parse_json(other) or {}), notes)
        return None
    try:
        data = parse_json(file)
    except OSError as error:
        _note_unreadable(path, error, notes)
        return None
    if data is None:
        notes.error(BROKEN_FILE, f"{path} is not valid JSON.", notes.again, path)
    return data


def parse_json(file: Path) -> JsonObject | None:
    """The JSON object in a file; ``None`` if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        data: Any = json.loads(file.read_bytes())
    except ValueError:
        return None
    return cast("JsonObject", data) if isinstance(data, dict) else None


def read_tensors(directory: Path, path: str, notes: Notes) -> dict[str, TensorHeader] | None:
    """The tensors named in a safetensors header, or ``None`` with a note."""
    try:
        return read_header(directory / path)
    except DamageError as error:
        code = TRUNCATED_FILE if error.truncated else BROKEN_FILE
        notes.error(code, f"{path} {error}.", notes.again, path)
    except OSError as error:
        _note_unreadable(path, error, notes)
    return None


def read_weights(directory: Path, folder: str, stem: str, notes: Notes) -> dict[str, TensorHeader] | None:
    """The tensors of a component, in one file or in several with an index, or ``None`` with a note."""
    paths = find_weights(directory, folder, stem, notes)
    if paths is None:
        return None
    tensors: dict[str, TensorHeader] = {}
    complete = True
    for path in paths:
        found = read_tensors(directory, path, notes)
        complete = complete and found is not None
        tensors |= found or {}
    return tensors if complete else None


def find_weights(directory: Path, folder: str, stem: str, notes: Notes) -> list[str] | None:
    """Paths of a component's weight files, or ``None`` with a note."""
    single, index = f"{folder}/{stem}.safetensors", f"{folder}/{stem}.safetensors.index.json"
    if (directory / single).is_file():
        return [single]
    if (directory / index).is_file():
        return _find_shards(directory, folder, index, notes)
    pickles = sorted(file.name for file in (directory / folder).iterdir() if file.suffix in _PICKLES)
    if pickles and not any((directory / folder).glob("*.safetensors")):
        notes.error(
            PICKLED_WEIGHTS,
            f"{folder} has its weights only in {pickles[0]}, which could run code when it is loaded; "
            "only safetensors are taken.",
            "Make a model directory of it with: msd convert (see msd convert --help).",
            single,
        )
    else:
        note_missing(directory, single, _is_weights, notes)
    return None


def note_missing(directory: Path, path: str, looks_right: Callable[[Path], bool], notes: Notes) -> None:
    """Note that a file is missing, or that it lies beside its place under another name.

    Args:
        looks_right: whether another file could be the missing one.
    """
    wanted = directory / path
    others = [file for file in _siblings(wanted) if looks_right(file)]
    if not others:
        notes.error(MISSING_FILE, f"{path} is missing.", notes.again, path)
        return
    names = ", ".join(file.name for file in others)
    one = others[0].name if len(others) == 1 else "the right one"
    notes.error(
        RENAMED_FILE, f"{path} is missing; its folder has {names} instead.", f"Rename {one} to {wanted.name}.", path
    )


def _find_shards(directory: Path, folder: str, index: str, notes: Notes) -> list[str] | None:
    """Paths of the files that an index names."""
    names = (parse_json(directory / index) or {}).get("weight_map")
    if not isinstance(names, dict):
        notes.error(BROKEN_FILE, f"{index} is not an index of weights.", notes.again, index)
        return None
    paths = sorted({f"{folder}/{name}" for name in cast("JsonObject", names).values()})
    missing = [path for path in paths if not (directory / path).is_file()]
    for path in missing:
        notes.error(MISSING_FILE, f"{path} is missing.", notes.again, path)
    return None if missing else paths


def _siblings(wanted: Path) -> list[Path]:
    """Visible files in the same folder that end alike, or begin with the whole name, as backups do."""
    if not wanted.parent.is_dir():
        return []
    return sorted(
        file
        for file in wanted.parent.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and file.suffix != UNFINISHED
        and (file.suffix == wanted.suffix or file.name.startswith(wanted.name))
    )


def _is_weights(file: Path) -> bool:
    try:
        return bool(read_header(file))
    except (DamageError, OSError):
        return False


def _note_unreadable(path: str, error: OSError, notes: Notes) -> None:
    notes.error(UNREADABLE_FILE, f"{path} cannot be read ({error.strerror}).", "Let your user read it.", path)
