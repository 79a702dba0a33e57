"""A finished set as one HTML page: samples, the funnel of drops with examples, histograms; no network and no script."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ms_core.errors import InvalidInputError
from ms_lab.data.filters.verdicts import FILTERS
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.data.view.histograms import Histogram, count_bins, count_names
from ms_lab.data.writing.folder import RunFolder
from ms_lab.data.writing.members import PartError, read_members
from ms_lab.data.writing.parts import read_index
from ms_lab.data.writing.reading import iterate_shard

_TEMPLATE = "page.html.jinja"
_COLOURS = ("#e4572e", "#17bebb", "#b98b00", "#76b041")
_EXAMPLES = 8


@dataclass(frozen=True, slots=True)
class ShownBox:
    """A box over a picture: left, top, width and height in per cent."""

    label: str
    colour: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A sample as the page shows it.

    Attributes:
        target, outline: data URIs of the picture and of its masks.
        caption: HTML, with its phrases marked.
        references: label, colour, data URI and what is said of each.
    """

    id: str
    target: str
    outline: str
    caption: str
    boxes: list[ShownBox]
    references: list[tuple[str, str, str, str]]
    facts: str


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """A filter: what it dropped first, of detections, pairs and samples, and pictures of some."""

    name: str
    detections: int
    pairs: int
    samples: int
    examples: list[str]


def build_page(path: Path, num_samples: int) -> str:
    """The page of a run's folder.

    Raises:
        InvalidInputError: the folder holds no finished set.
        CheckpointError: a shard is damaged.
    """
    folder = RunFolder(path)
    if not folder.manifest.is_file():
        raise InvalidInputError(f"{path} holds no finished set; run msd data run first.")
    manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    records = list(_records(folder))
    return _template().render(
        manifest=manifest,
        samples=_shown_samples(folder, num_samples),
        funnel=_funnel(folder, manifest),
        histograms=_histograms(records, list(_pairs(folder))),
        megabytes=sum(shard["bytes"] for shard in manifest["shards"]) / 1e6,
    )


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(_TEMPLATE)


def _records(folder: RunFolder) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.shards.glob("*.tar")):
        yield from (record for _, record, _ in iterate_shard(path))


def _pairs(folder: RunFolder) -> Iterator[dict[str, Any]]:
    for part in folder.all_parts():
        yield from read_index(part).index["pairs"]


def _shown_samples(folder: RunFolder, most: int) -> list[ShownSample]:
    """The same number from every shard, the first ones of each."""
    paths = sorted(folder.shards.glob("*.tar"))
    each = max(1, -(-most // max(1, len(paths))))
    shown = [_shown(record, files) for path in paths for _, record, files in list(iterate_shard(path))[:each]]
    return shown[:most]


def _shown(record: dict[str, Any], files: dict[str, bytes]) -> ShownSample:
    boxes: list[ShownBox] = []
    references: list[tuple[str, str, str, str]] = []
    for number, subject in enumerate(record["subjects"]):
        colour = _COLOURS[number % len(_COLOURS)]
        x_min, y_min, x_max, y_max = (100 * value for value in subject["box"])
        boxes.append(ShownBox(subject["phrase"], colour, x_min, y_min, x_max - x_min, y_max - y_min))
        said = f"{subject['reference_time_s']:.2f} s, similarity {subject['similarity']:.2f}"
        references.append((subject["phrase"], colour, _uri(files[subject["reference"]]), said))
    kind = "single frame" if record["single_frame"] else f"at {record['time_s']:.2f} s"
    return ShownSample(
        id=record["id"],
        target=_uri(files[record["target"]]),
        outline=_outline(record),
        caption=mark_phrases(record["caption"], [tuple(subject["phrase_span"]) for subject in record["subjects"]]),
        boxes=boxes,
        references=references,
        facts=f"{record['split']}, {kind}, source {record['source']}, {record['licence'] or 'licence unknown'}",
    )


def mark_phrases(caption: str, spans: Sequence[tuple[int, ...]]) -> str:
    """The caption as HTML with its subjects' phrases in their colours; a phrase that two share has the first one's."""
    text, end = "", 0
    for (start, stop), colour in sorted(zip(spans, _COLOURS * len(spans), strict=False)):
        if start < end:
            continue
        phrase = html.escape(caption[start:stop])
        text += f'{html.escape(caption[end:start])}<mark style="--own:{colour}">{phrase}</mark>'
        end = stop
    return text + html.escape(caption[end:])


def _outline(record: dict[str, Any]) -> str:
    """The rims of all masks in their colours, on a clear picture."""
    height, width = record["height"], record["width"]
    canvas = np.zeros((height, width, 4), np.uint8)
    for number, subject in enumerate(record["subjects"]):
        if subject["mask"] is None:
            continue
        mask = from_run_lengths(subject["mask"], height, width).astype(np.uint8)
        rim = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > cv2.erode(mask, np.ones((3, 3), np.uint8))
        colour = _COLOURS[number % len(_COLOURS)].lstrip("#")
        canvas[rim] = (*bytes.fromhex(colour), 255)
    _, encoded = cv2.imencode(".png", cv2.cvtColor(canvas, cv2.COLOR_RGBA2BGRA))
    return _uri(encoded.tobytes(), "png")


def _funnel(folder: RunFolder, manifest: dict[str, Any]) -> list[FunnelRow]:
    examples: dict[str, list[str]] = {name: [] for name in FILTERS}
    for path in folder.all_parts():
        try:
            part = read_index(path)
        except PartError:
            continue
        wanted = {name: file for name, file in part.index["thumbs"].items() if len(examples[name]) < _EXAMPLES}
        members = read_members(path) if wanted else {}
        for name, file in wanted.items():
            examples[name].append(_uri(members[file]))
    counts = manifest["funnel"]
    dropped = {kind: counts[kind]["dropped"] for kind in ("detections", "pairs", "samples")}
    found: list[FunnelRow] = []
    for name in FILTERS:
        of_detections, of_pairs, of_samples = (
            int(dropped[kind].get(name, 0)) for kind in ("detections", "pairs", "samples")
        )
        found.append(FunnelRow(name, of_detections, of_pairs, of_samples, examples[name]))
    return found


def _histograms(records: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[Histogram]:
    subjects = [subject for record in records for subject in record["subjects"]]
    boxes = [subject["box"] for subject in subjects]
    kept = [pair["similarity"] for pair in pairs if not pair["reasons"]]
    dropped = [pair["similarity"] for pair in pairs if pair["reasons"]]
    phrases = Counter(subject["phrase"].lower() for subject in subjects)
    return [
        count_names("Subjects of a sample", Counter(str(len(record["subjects"])) for record in records), by_name=True),
        count_bins("Box area, share of the picture", [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes], 0.0, 0.5),
        count_bins("Box middle, from left to right", [(b[0] + b[2]) / 2 for b in boxes], 0.0, 1.0),
        count_bins("Box middle, from top to bottom", [(b[1] + b[3]) / 2 for b in boxes], 0.0, 1.0),
        count_bins("Similarity of kept pairs", kept, 0.0, 1.0),
        count_bins("Similarity of dropped pairs", dropped, 0.0, 1.0),
        count_names("Most frequent phrases", Counter(dict(phrases.most_common(20))), by_name=False),
    ]


def _uri(content: bytes, kind: str = "") -> str:
    kind = kind or ("png" if content.startswith(b"\x89PNG") else "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
