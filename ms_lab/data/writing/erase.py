"""Taking a source out of a finished set: its samples out of the shards, its parts out of the work, its name into a list."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ms_core.errors import InvalidInputError
from ms_lab.data.sources import find_footage, id_of_name
from ms_lab.data.writing.files import new_file, sha256_of
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.members import PartError
from ms_lab.data.writing.parts import read_index
from ms_lab.data.writing.reading import iterate_shard
from ms_lab.data.writing.shards import encode_record, shard_writer

OLD_COUNTS = "The funnel still counts what was erased, until msd data run is run again."


class Erased(NamedTuple):
    """What was taken out.

    Attributes:
        source: its id.
        samples: how many there were.
        files: how many videos and pictures it was made of.
        page: whether a page was removed that showed them.
    """

    source: str
    samples: int
    files: int
    page: bool


def erase_source(folder: RunFolder, name: str) -> Erased:
    """Remove all samples of a source; later runs leave it out. Shards without it keep their bytes.

    Interrupted, it can be called again.

    Args:
        name: its id, what its notes call it, or the path of its video or of its folder of pictures.

    Raises:
        InvalidInputError: the folder holds no finished set, or nothing of this source; or the name or path is of several.
        StartupError: a run works in the folder.
    """
    if not folder.manifest.is_file():
        raise InvalidInputError(f"{folder.path} holds no finished set: it has no {folder.manifest.name}.")
    with folder.locked():
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
        source = _find_source(folder, manifest, name)
        # First, so that an interrupted removal is not undone by the next run.
        contents = _contents(manifest["sources"].get(source, {}))
        folder.add_erased({source, *contents})
        _remove_parts(folder, source)
        removed = sum(_rewrite(path, source) for path in sorted(folder.shards.glob("*.tar")))
        _remove_drops(folder, source)
        write_json(folder.manifest, _without(folder, manifest, source))
        shown = folder.page.is_file()
        folder.page.unlink(missing_ok=True)
    return Erased(source, removed, len(contents), shown)


def _find_source(folder: RunFolder, manifest: dict[str, Any], name: str) -> str:
    sources, erased = manifest["sources"], folder.erased()
    if name in sources:
        return name
    for ids in _ids(name):
        found = [own for own, facts in sources.items() if not ids.isdisjoint((own, *_contents(facts)))]
        if len(found) > 1:
            raise InvalidInputError(
                f"{name!r} is in {len(found)} sources of {folder.path}: {', '.join(found)}; give the id of one."
            )
        if found or not ids.isdisjoint(erased):
            return found[0] if found else min(ids.intersection(erased))
    raise InvalidInputError(
        f"There is no source {name!r} in {folder.path}. Give the path of its video, the name in its notes, "
        f"or its id in {folder.manifest.name}."
    )


def _contents(facts: dict[str, Any]) -> list[str]:
    """Ids of a source's files; the manifest of an older set does not say them."""
    return facts.get("contents", [])


def _ids(name: str) -> Iterator[frozenset[str]]:
    """The ids that a source may have that a user calls so, if it is an id, a name, or a path."""
    yield frozenset((name,))
    yield frozenset((id_of_name(name),))
    path = Path(name)
    # An empty name would be the folder where the command runs.
    footage = find_footage([path]) if name and os.path.exists(name) else []  # noqa: PTH110 - Path raises if a name is too long
    if len(footage) > 1:
        raise InvalidInputError(f"There are {len(footage)} videos and folders of pictures below {name!r}; name one.")
    for piece in footage:
        if piece.kind == "pictures" and path.is_file():
            raise InvalidInputError(f"A picture goes with its folder; name {str(piece.path)!r} to erase all in it.")
        yield piece.known_as()


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


def _remove_drops(folder: RunFolder, source: str) -> None:
    if folder.dropped.is_file():
        lines = folder.dropped.read_text(encoding="utf-8").splitlines()
        # Lines of an older set do not say whose they are; they go, too.
        kept = [line for line in lines if json.loads(line).get("source", source) != source]
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
        "remarks": [*(own for own in manifest["remarks"] if own != OLD_COUNTS), OLD_COUNTS],
    }
