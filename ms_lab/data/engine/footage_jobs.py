"""Pieces of footage as jobs: which are done, and how one is read to its end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ms_lab.data.clips.reading import Fault, read_clips
from ms_lab.data.config import PipelineConfig
from ms_lab.data.items import Clip, content_id
from ms_lab.data.sources import Footage
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.members import PartError
from ms_lab.data.writing.parts import part_path, read_index

_BEGUN = "begun.json"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a piece of footage gave: the ids of its clips, and what of it could not be used."""

    clips: tuple[str, ...]
    faults: tuple[Fault, ...]


def key_of(footage: Footage) -> str:
    """A name for a piece of footage as it lies there now; never part of what is written."""
    paths = [footage.path] if footage.kind == "video" else footage.pictures()
    stats = [(str(path.absolute()), path.stat()) for path in paths]
    return content_id(*((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


def read_listing(folder: RunFolder, key: str) -> Listing | None:
    """The listing of a piece of footage, if it was read to its end."""
    path = folder.listings / f"{key}.json"
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Listing(tuple(content["clips"]), tuple(Fault(**fault) for fault in content["faults"]))


def open_jobs(folder: RunFolder, footage: Sequence[Footage]) -> list[Footage]:
    """The footage that is not done: unread, with faults that may be mended, or with a clip that has no whole part."""
    whole = {path.stem for path in folder.all_parts() if _is_whole(path)}
    found: list[Footage] = []
    for piece in footage:
        listing = read_listing(folder, key_of(piece))
        if listing is None or listing.faults or not whole.issuperset(listing.clips):
            found.append(piece)
    return found


def is_settled(folder: RunFolder, footage: Footage) -> bool:
    """Whether a piece of footage was read to its end, and each of its clips is done or has failed."""
    listing = read_listing(folder, key_of(footage))
    return listing is not None and all(
        part_path(folder.parts, clip).is_file() or (folder.faults / f"{clip}.json").is_file() for clip in listing.clips
    )


def mark_begin(folder: RunFolder) -> None:
    """Say that a run begins now; by the clock of the disk, which all machines share."""
    write_json(folder.path / "work" / _BEGUN, {})


def read_job(folder: RunFolder, footage: Footage, config: PipelineConfig) -> Iterator[Clip]:
    """The clips of a piece of footage that had no part when the run began; at its end its listing is written.

    Ray does a job again whose process is lost, and counts on the same clips: so parts of this run do not count.
    """
    clips: list[str] = []
    faults: list[Fault] = []
    erased, begun = frozenset(folder.erased()), _mtime(folder.path / "work" / _BEGUN)
    for item in read_clips(footage, config.clips, config.match.across_clips):
        if isinstance(item, Fault):
            faults.append(item)
        elif erased.isdisjoint(item.source.known_as):
            clips.append(item.id)
            written = _mtime(part_path(folder.parts, item.id))
            if written is None or (begun is not None and written >= begun):
                yield item
    listing = {"path": str(footage.path), "clips": clips, "faults": [asdict(fault) for fault in faults]}
    write_json(folder.listings / f"{key_of(footage)}.json", listing)


def all_faults(folder: RunFolder, footage: Sequence[Footage]) -> list[Fault]:
    """What could not be used: of the footage, and clips on which a stage failed."""
    found: list[Fault] = []
    for piece in footage:
        listing = read_listing(folder, key_of(piece))
        if listing is not None:
            failed = (folder.faults / f"{clip}.json" for clip in listing.clips)
            found += [*listing.faults, *(_clip_fault(piece, path) for path in failed if path.is_file())]
    return found


def _clip_fault(footage: Footage, path: Path) -> Fault:
    content = json.loads(path.read_text(encoding="utf-8"))
    detail = f"clip {content['clip']}, {content['stage']}: {content['detail']}"
    return Fault(str(footage.path), content["reason"], detail)


def _mtime(path: Path) -> int | None:
    """When a file was written, in nanoseconds; ``None`` if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _is_whole(path: Path) -> bool:
    """Whether a part can be read; one that cannot be is removed, so that it is made again."""
    try:
        read_index(path)
    except PartError:
        path.unlink(missing_ok=True)
        return False
    return True
