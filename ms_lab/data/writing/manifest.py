"""What a finished set holds: counts, hashes, provenance, configuration and versions; and every drop with its reason."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ms_lab.data.clips.reading import Fault
from ms_lab.data.config import PipelineConfig
from ms_lab.data.filters.verdicts import DUPLICATE, FILTERS, UNSAFE, is_on
from ms_lab.data.items import NO_ENTITIES, SOURCE_ID_LENGTH
from ms_lab.data.writing.files import new_file
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.parts import Part, first_reasons
from ms_lab.data.writing.shards import SPLITS, TRAIN, PlannedSample, split_of

_PACKAGES = (
    "ray",
    "av",
    "scenedetect-headless",
    "opencv-python-headless",
    "numpy",
    "lapx",
    "pillow",
    "transformers",
    "torch",
)


def build_manifest(  # noqa: PLR0913 - what a set is made of
    parts: Sequence[Part],
    samples: Sequence[PlannedSample],
    shards: Sequence[Mapping[str, Any]],
    duplicates: Mapping[str, str],
    faults: Sequence[Fault],
    erased: Sequence[str],
    config: PipelineConfig,
) -> dict[str, Any]:
    """The manifest of a set; the same set gives the same one."""
    return {
        "version": config.version,
        "samples": {split: sum(sample.record["split"] == split for sample in samples) for split in SPLITS},
        "single_frame_samples": sum(sample.record["single_frame"] for sample in samples),
        "subjects": dict(sorted(Counter(str(len(sample.record["subjects"])) for sample in samples).items())),
        "shards": [{key: value for key, value in shard.items() if key != "plan"} for shard in shards],
        "funnel": funnel(parts, duplicates),
        "filters": {name: is_on(name, config.filters) for name in FILTERS},
        "remarks": _remarks(parts, samples, config),
        "notes": dict(sorted(Counter(note for part in parts for note in part.index["notes"]).items())),
        "sources": _sources(parts, samples, config),
        "faults": [{"path": fault.path, "reason": fault.reason, "detail": fault.detail} for fault in faults],
        "erased": list(erased),
        "config": config.model_dump(mode="json", exclude={"resources"}),
        "config_sha256": config.digest(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def funnel(parts: Sequence[Part], duplicates: Mapping[str, str]) -> dict[str, Any]:
    """What each filter dropped first, of detections, pairs and samples; in the filters' order."""
    detections = [item for part in parts for item in part.index["detections"]]
    pairs = [item for part in parts for item in part.index["pairs"]]
    made = sum(len(part.index["samples"]) for part in parts)
    counted: dict[str, Any] = {"clips": len(parts), "frames": sum(part.index["frames"] for part in parts)}
    for name, items in (("detections", detections), ("pairs", pairs)):
        dropped = first_reasons(items)
        by_filter = {filter_: dropped[filter_] for filter_ in FILTERS if dropped[filter_]}
        counted[name] = {"found": len(items), "kept": len(items) - sum(dropped.values()), "dropped": by_filter}
    near = {DUPLICATE: len(duplicates)} if duplicates else {}
    counted["samples"] = {"found": made, "kept": made - len(duplicates), "dropped": near}
    return counted


def write_manifest(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Put it in its place."""
    write_json(folder.manifest, manifest)


def write_drops(folder: RunFolder, parts: Sequence[Part], duplicates: Mapping[str, str]) -> None:
    """One JSON line for each detection, pair and sample that was dropped."""
    sources = {sample["id"]: part.index["source"]["id"] for part in parts for sample in part.index["samples"]}
    with new_file(folder.dropped) as file:
        for part in parts:
            for kind in ("detections", "pairs"):
                for item in part.index[kind]:
                    if item["reasons"]:
                        own = {"clip": part.index["clip"], "source": part.index["source"]["id"]}
                        line = {"kind": kind[:-1], **own, **item}
                        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        for sample, original in sorted(duplicates.items()):
            own = {"id": sample, "source": sources[sample]}
            line = {"kind": "sample", **own, "reasons": [[DUPLICATE, 1.0]], "like": original}
            file.write(json.dumps(line).encode() + b"\n")


def _remarks(parts: Sequence[Part], samples: Sequence[PlannedSample], config: PipelineConfig) -> list[str]:
    remarks: list[str] = []
    silent = [part for part in parts if NO_ENTITIES in part.index["notes"]]
    if silent:
        sources = sorted({part.index["source"]["id"] for part in silent})
        remarks.append(
            f"{len(silent)} clips have no caption, or one that names no thing; of sources {', '.join(sources[:5])}."
        )
    if samples and config.write.heldout_share and all(sample.record["split"] == TRAIN for sample in samples):
        remarks.append("No sample is held out: sources are, by chance, and these are few; see write.heldout_share.")
    if not config.filters.unsafe_model:
        remarks.append(f"The filter {UNSAFE} is off: no classifier is named in filters.unsafe_model.")
    return remarks


def _sources(
    parts: Sequence[Part], samples: Sequence[PlannedSample], config: PipelineConfig
) -> dict[str, dict[str, Any]]:
    counts = Counter(sample.record["source"] for sample in samples)
    found: dict[str, dict[str, Any]] = {}
    contents: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        source = part.index["source"]
        contents[source["id"]].add(source["content"][:SOURCE_ID_LENGTH])
        facts = {"licence": source["licence"], "provenance": source["provenance"]}
        found[source["id"]] = {
            **facts,
            "split": split_of(source["id"], config.write),
            "samples": counts[source["id"]],
            "contents": sorted(contents[source["id"]]),
        }
    return dict(sorted(found.items()))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
