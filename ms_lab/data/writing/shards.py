"""The last pass: near-duplicates, the split by source, and WebDataset shards in the order of the samples' ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import webdataset

from ms_lab.data.config import PipelineConfig, WriteConfig
from ms_lab.data.filters.hashes import duplicates
from ms_lab.data.filters.verdicts import DUPLICATE, is_on
from ms_lab.data.writing.files import new_file, sha256_of
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.members import PartError, read_members
from ms_lab.data.writing.parts import Part

TRAIN, HELDOUT = "train", "heldout"
SPLITS = (TRAIN, HELDOUT)


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample that goes into a shard.

    Attributes:
        id: of its content.
        part: the file that holds its pictures.
        record: its JSON, with its split.
    """

    id: str
    part: Path
    record: dict[str, Any]


def split_of(source: str, config: WriteConfig) -> str:
    """The split of all samples of a source: by a hash, so that no other source can change it."""
    digest = hashlib.sha256(f"{config.split_seed}\n{source}".encode()).digest()
    return HELDOUT if int.from_bytes(digest[:8]) / 2**64 < config.heldout_share else TRAIN


def plan_samples(parts: Sequence[Part], config: PipelineConfig) -> tuple[list[PlannedSample], dict[str, str]]:
    """All samples in the order of their ids, and which were left out as near-duplicates of which."""
    limit = config.filters.max_hash_distance if is_on(DUPLICATE, config.filters) else -1
    dropped = find_duplicates(parts, limit)
    planned: dict[str, PlannedSample] = {}
    for part in parts:
        split = split_of(part.index["source"]["id"], config.write)
        for sample in part.index["samples"]:
            if sample["id"] not in dropped:
                record = {**sample["record"], "id": sample["id"], "split": split}
                planned.setdefault(sample["id"], PlannedSample(sample["id"], part.path, record))
    return [planned[name] for name in sorted(planned)], dropped


def find_duplicates(parts: Sequence[Part], max_distance: int) -> dict[str, str]:
    """Samples that show what another one shows: of clips whose middle frames agree, then by the samples' own targets.

    Two copies of a clip may have other targets, for models do not see exactly the same in both.
    """
    made = [part for part in parts if part.index["samples"]]
    clips = duplicates({part.index["clip"]: int(part.index["hash"], 16) for part in made}.items(), max_distance)
    dropped: dict[str, str] = {}
    targets: dict[str, int] = {}
    for part in made:
        original = clips.get(part.index["clip"])
        for sample in part.index["samples"]:
            if original is not None:
                dropped[sample["id"]] = original
            else:
                targets[sample["id"]] = int(sample["hash"], 16)
    return dropped | duplicates(targets.items(), max_distance)


def write_shards(
    folder: RunFolder, samples: Sequence[PlannedSample], config: WriteConfig, advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Write every shard that is not whole yet, and remove those that are no longer planned.

    Returns:
        Name, samples, bytes, SHA-256 and plan of each shard.

    Raises:
        PartError: a part is damaged; it is removed, so that the next run makes it again.
        StorageFullError: the disk is full; shards that are whole stay.
    """
    facts: list[dict[str, Any]] = []
    for name, chosen in _shards(samples, config):
        path, notes = folder.shards / name, folder.shards / f".{name}.json"
        plan = hashlib.sha256("\n".join(sample.id for sample in chosen).encode()).hexdigest()
        if not _is_whole(path, notes, plan):
            _write_shard(path, chosen)
            own = {"name": name, "samples": len(chosen), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
            write_json(notes, {**own, "plan": plan})
        facts.append(json.loads(notes.read_text(encoding="utf-8")))
        advance(len(chosen))
    planned = {fact["name"] for fact in facts}
    for path in folder.shards.glob("*.tar"):
        if path.name not in planned:
            path.unlink()
            path.with_name(f".{path.name}.json").unlink(missing_ok=True)
    return facts


def _shards(samples: Sequence[PlannedSample], config: WriteConfig) -> Iterator[tuple[str, Sequence[PlannedSample]]]:
    for split in SPLITS:
        own = [sample for sample in samples if sample.record["split"] == split]
        for number, start in enumerate(range(0, len(own), config.samples_per_shard)):
            yield f"{split}-{number:06d}.tar", own[start : start + config.samples_per_shard]


def _is_whole(path: Path, notes: Path, plan: str) -> bool:
    if not (path.is_file() and notes.is_file()):
        return False
    facts = json.loads(notes.read_text(encoding="utf-8"))
    return facts["plan"] == plan and facts["bytes"] == path.stat().st_size and facts["sha256"] == sha256_of(path)


def _write_shard(path: Path, samples: Sequence[PlannedSample]) -> None:
    opened: tuple[Path, dict[str, bytes]] | None = None
    with new_file(path) as file, shard_writer(file) as writer:
        for sample in samples:
            if opened is None or opened[0] != sample.part:
                opened = (sample.part, _members(sample.part))
            own = f"{sample.id}."
            files = {name.removeprefix(own): data for name, data in opened[1].items() if name.startswith(own)}
            writer.write({"__key__": sample.id, "json": encode_record(sample.record), **files})


def shard_writer(file: Any) -> Any:
    """A WebDataset writer whose bytes depend on the samples alone."""
    package: Any = webdataset
    return package.TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o644)


def encode_record(record: dict[str, Any]) -> bytes:
    """A sample's JSON, always the same bytes."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True).encode()


def _members(part: Path) -> dict[str, bytes]:
    try:
        return read_members(part)
    except PartError:
        part.unlink(missing_ok=True)
        raise
