"""A set of samples by number, from shards or from a folder with the same files, without reading the pictures first."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from ms_core.errors import CheckpointError, InvalidInputError, LayoutError, ModelNotFoundError
from ms_core.spec import Box
from ms_lab.data.writing.members import read_members
from ms_lab.data.writing.shards import TRAIN

RECORD = "json"
# What msd data cache writes in place of pictures.
ENCODED = "encoded.safetensors"
_BLOCK = 512
_READ = 1 << 20
# Bytes that are kept of a sample's mark.
_MARK = 8


class StoredSample(NamedTuple):
    """One sample as it is stored: its key, its JSON, and its other files by the rest of their names."""

    key: str
    record: dict[str, Any]
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a sample stands: in bytes of a shard, or as files of a folder, whose names are then known.

    ``mark`` is a digest of its record, and of names and sizes of its files.
    """

    path: Path
    key: str
    start: int = 0
    end: int = 0
    names: tuple[str, ...] = ()
    mark: bytes = b""

    def __str__(self) -> str:
        return f"The sample {self.key} in {self.path.name}"


class SampleIndex:
    """Where every sample of a split stands; each is read when it is asked for.

    All records are looked at once, so that a fault is told before the training begins, not after a day of it.
    """

    def __init__(self, folder: Path, split: str) -> None:
        """Look at every sample's record.

        Args:
            folder: of ``msd data run`` or ``msd data cache``, of shards, or of files named as in the shards.
            split: ``train`` or ``heldout``.

        Raises:
            ModelNotFoundError: there is no such folder.
            CheckpointError: a shard is damaged, or cut off.
            InvalidInputError: a sample cannot be used: says where it is and what is wrong.
        """
        self.folder, self.split = folder, split
        below = folder / "shards" if (folder / "shards").is_dir() else folder
        if not below.is_dir():
            raise ModelNotFoundError(f"There is no folder {folder} with training data.")
        has_shards = any(below.glob("*.tar"))
        places = _places_in(below, split) if has_shards else _places_beside(below, split)
        self._places = list(places)

    def __len__(self) -> int:
        return len(self._places)

    def digest(self) -> str:
        """Of all samples and their order, without a look into their pictures; hexadecimal."""
        digest = hashlib.sha256()
        for place in self._places:
            digest.update(place.key.encode() + b"\n" + place.mark)
        return digest.hexdigest()

    def read(self, number: int) -> StoredSample:
        """The sample of this number, in the order of shards and keys.

        Raises:
            CheckpointError: it cannot be read any more.
        """
        place = self._places[number]
        if place.end:
            members = read_members(place.path, place.start, place.end)
        else:
            members = {name: (place.path / name).read_bytes() for name in place.names}
        prefix = f"{place.key}."
        own = {name.removeprefix(prefix): content for name, content in members.items() if name.startswith(prefix)}
        return StoredSample(place.key, json.loads(own.pop(RECORD)), own)

    def where(self, number: int) -> str:
        """Shard or folder, and key, as the beginning of a sentence about the sample."""
        return str(self._places[number])


def _places_in(folder: Path, split: str) -> Iterator[_Place]:
    """The samples of all shards of a split."""
    for path in sorted(folder.glob(f"{split}-*.tar")):
        try:
            yield from _places_of_shard(path)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise CheckpointError(
                f"The shard {path.name} is damaged or cut off ({error}). Fetch or make it again, or remove it."
            ) from error


def _places_of_shard(path: Path) -> list[_Place]:
    names: dict[str, set[str]] = defaultdict(set)
    places: dict[str, _Place] = {}
    records: dict[str, dict[str, Any]] = {}
    marks: dict[str, Any] = defaultdict(hashlib.sha256)
    with tarfile.open(path) as archive:
        for member in archive:
            key, _, ending = member.name.partition(".")
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            start = places[key].start if key in places else member.offset
            places[key] = _Place(path, key, start, end)
            names[key].add(ending)
            marks[key].update(f"{ending} {member.size}\n".encode())
            file = archive.extractfile(member) if ending == RECORD else None
            if file is not None:
                content = file.read()
                marks[key].update(content)
                records[key] = _decode(content, places[key])
        _require_end(path, archive.offset)
    for key, place in places.items():
        _check(place, records.get(key), names[key])
    return [replace(place, mark=marks[key].digest()[:_MARK]) for key, place in places.items()]


def _require_end(path: Path, end: int) -> None:
    """Refuse a tar of which files are missing: it ends with two empty blocks, and nothing but zeros comes after its files.

    Without them it was cut off between two files; with more behind them, it is damaged there.
    """
    with path.open("rb") as file:
        file.seek(end)
        if file.read(2 * _BLOCK) != bytes(2 * _BLOCK):
            raise tarfile.ReadError(f"its end is missing, or byte {end} is wrong")
        for rest in iter(partial(file.read, _READ), b""):
            if rest.strip(b"\0"):
                raise tarfile.ReadError(f"byte {end} is wrong")


def _places_beside(folder: Path, split: str) -> Iterator[_Place]:
    """The samples of a folder that belong to a split."""
    names: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        names[path.name.partition(".")[0]].append(path.name)
    for key, own in names.items():
        place = _Place(folder, key, names=tuple(own))
        if f"{key}.{RECORD}" not in own:
            if any(name.startswith(f"{key}.target.") for name in own):
                _check(place, None, set(own))
            continue
        content = (folder / f"{key}.{RECORD}").read_bytes()
        record = _decode(content, place)
        # Other JSON, such as a manifest, may lie there too.
        is_sample = "caption" in record or len(own) > 1
        if is_sample and record.get("split", TRAIN) == split:
            _check(place, record, {name.removeprefix(f"{key}.") for name in own})
            sizes = [f"{name} {(folder / name).stat().st_size}\n" for name in own]
            yield replace(place, mark=hashlib.sha256("".join(sizes).encode() + content).digest()[:_MARK])


def _decode(content: bytes, place: _Place) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except ValueError as error:
        raise InvalidInputError(f"{place} has a record that is no JSON: {error}.") from error
    if not isinstance(record, dict):
        raise InvalidInputError(f"{place} has a record that is no JSON object.")
    return cast("dict[str, Any]", record)


def _check(place: _Place, record: dict[str, Any] | None, names: set[str]) -> None:
    """Look for what can be wrong with a sample and be seen without its pictures.

    Raises:
        InvalidInputError: says where the sample is and what is wrong.
    """
    if record is None:
        raise InvalidInputError(f"{place} has no {RECORD} file.")
    try:
        needed = {record["target"], *(subject["reference"] for subject in record["subjects"])}
        _check_subjects(record)
    except KeyError as error:
        raise InvalidInputError(f"{place} has a record without {error}.") from error
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{place} cannot be used: {error}") from error
    if ENCODED not in names and needed - names:
        raise InvalidInputError(f"{place} lacks its picture {min(needed - names)}.")


def _check_subjects(record: dict[str, Any]) -> None:
    if not record["subjects"]:
        raise ValueError("it has no subjects.")
    for number, subject in enumerate(record["subjects"]):
        try:
            Box(*subject["box"])
        except LayoutError as error:
            raise ValueError(f"subject {number}: {error.detail}") from error
        start, end = subject["phrase_span"]
        there = record["caption"][start:end]
        if not there or there.lower() != subject["phrase"].lower():
            raise ValueError(
                f"subject {number} is called {subject['phrase']!r}, but characters {start} to {end} of the caption are {there!r}."
            )
