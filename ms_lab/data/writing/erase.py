"""Taking a source out of a finished set: its samples out of the shards, its parts out of the work, its name into a list."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ms_core.errors import InvalidInputError
from ms_lab.data.writing.files import new_file, sha256_of
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.members import PartError
from ms_lab.data.writing.parts import read_index
from ms_lab.data.writing.reading import iterate_shard
from ms_lab.data.writing.shards import encode_record, shard_writer


def erase_source(folder: RunFolder, source: str) -> int:
    """Remove all samples of a source; later runs leave it out. Shards without it keep their bytes.

    Interrupted, it can be called again.

    Returns:
        How many samples were removed.

    Raises:
        InvalidInputError: the folder holds no finished set, or nothing of this source.
        StartupError: a run works in the folder.
    """
    if not folder.manifest.is_file():
        raise InvalidInputError(f"{folder.path} holds no finished set: it has no {folder.manifest.name}.")
    with folder.locked():
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
        if source not in manifest["sources"] and source not in folder.erased():
            raise InvalidInputError(f"There is no source {source!r} in {folder.path}; msd data view lists them.")
        # First, so that an interrupted removal is not undone by the next run.
        folder.add_erased(source)
        _remove_parts(folder, source)
        removed = sum(_rewrite(path, source) for path in sorted(folder.shards.glob("*.tar")))
        _remove_drops(folder)
        write_json(folder.manifest, _without(folder, manifest, source))
    return removed


def _remove_parts(folder: RunFolder, source: str) -> None:
    for path in list(folder.all_parts()):
        try:
            own = read_index(path).index["source"]["id"] == source
        except PartError:
            own = True
        if own:
            path.unlink()


def _rewrite(path: Path, source: str) -> int:
    """Write a shard without a source's samples, if it has any; returns how many."""
    kept: list[tuple[str, dict[str, Any], dict[str, bytes]]] = []
    removed = 0
    for key, record, files in iterate_shard(path):
        if record["source"] == source:
            removed += 1
        else:
            kept.append((key, record, files))
    if not removed:
        return 0
    notes = path.with_name(f".{path.name}.json")
    notes.unlink(missing_ok=True)
    if not kept:
        path.unlink()
        return removed
    with new_file(path) as file, shard_writer(file) as writer:
        for key, record, files in kept:
            writer.write({"__key__": key, "json": encode_record(record), **files})
    return removed


def _remove_drops(folder: RunFolder) -> None:
    """Lines of clips that have no part any more."""
    clips = {path.stem for path in folder.all_parts()}
    if folder.dropped.is_file():
        lines = folder.dropped.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line).get("clip") in clips | {None}]
        with new_file(folder.dropped) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())


def _without(folder: RunFolder, manifest: dict[str, Any], source: str) -> dict[str, Any]:
    """The manifest of what is left."""
    counts: Counter[str] = Counter()
    subjects: Counter[str] = Counter()
    single = 0
    shards: list[dict[str, Any]] = []
    for path in sorted(folder.shards.glob("*.tar")):
        records = [record for _, record, _ in iterate_shard(path)]
        counts.update(record["split"] for record in records)
        subjects.update(str(len(record["subjects"])) for record in records)
        single += sum(record["single_frame"] for record in records)
        shards.append(
            {"name": path.name, "samples": len(records), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        )
    return {
        **manifest,
        "samples": {split: counts[split] for split in manifest["samples"]},
        "single_frame_samples": single,
        "subjects": dict(sorted(subjects.items())),
        "shards": sorted(shards, key=lambda shard: [fact["name"] for fact in manifest["shards"]].index(shard["name"])),
        "sources": {name: facts for name, facts in manifest["sources"].items() if name != source},
        "erased": folder.erased(),
    }
