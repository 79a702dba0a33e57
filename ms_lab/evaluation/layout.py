"""How well subjects stand in their boxes: mIoU and average precision on a few scenes of mini-bench, with its judge as detector.

A slot is the part of a picture in and near a subject's box. A subject is found where its slot looks like it and like no
other one of the scene (``ms_lab.evaluation.report.collapse``); the box around what stands there is then compared with that of
the subject in the composed picture.

- ``model``: the scenes as they are.
- ``exchanged boxes``: the model is asked with each subject in the other one's box. What is measured must fall to nearly nothing.
- ``scale 0``: the subjects are switched off.
- ``composites`` and ``through VAE``: the composed pictures, what can be reached at best.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from rich.table import Table

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec
from ms_lab.data.writing.files import write_whole
from ms_lab.evaluation.bench import Begin
from ms_lab.evaluation.judge.judge import JUDGE_VERSION, Verdict
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.msbench.measures import THRESHOLDS, average_precision
from ms_lab.evaluation.questions.columns import (
    COMPOSITES,
    HEADLINE,
    MODEL,
    SCALE_ZERO,
    THROUGH_VAE,
    PictureKey,
    Requests,
    Settings,
)
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BENCH_SEED, BENCH_VERSION, BenchScene, draw_group
from ms_lab.evaluation.report.collapse import RIGHT, collapse
from ms_lab.evaluation.report.intervals import Estimate, Weights, bootstrap, interval
from ms_lab.evaluation.report.metrics import AnswerKey, design_of
from ms_lab.evaluation.report.tables import format_row
from ms_lab.evaluation.run.columns import Ask, Pictures, judge_columns, make_columns
from ms_lab.evaluation.run.making import Maker
from ms_lab.mini.halves import TEST

EXCHANGED_BOXES = "exchanged boxes"
GENERATED = (MODEL, EXCHANGED_BOXES, SCALE_ZERO)
COLUMNS = (*GENERATED, COMPOSITES, THROUGH_VAE)
ROWS = MIOU, AP, FOUND = ("mIoU", "AP", "found")
RESULTS_FILE = "layout.json"
# Every so many-th resample is taken for average precision, which takes long.
_AP_STEP = 8


@dataclass(frozen=True, slots=True)
class LayoutResults:
    """What was measured.

    Attributes:
        model: its card's name.
        bench_version, judge_version, seed, half, scenes: what was asked, and by whom it was judged.
        columns: column to mean IoU (0 for a subject that is not found), mean average precision at IoU 0.5 to 0.95, and share of
            subjects that are found, each from 0 to 1.
    """

    model: str
    bench_version: int
    judge_version: int
    seed: int
    half: str
    scenes: int
    columns: dict[str, dict[str, Estimate]]


def measure_layout(  # noqa: PLR0913 - what, with what, and how much of it
    directory: Path, assets: Path, out: Path, count: int, batch_size: int, begin: Begin
) -> LayoutResults:
    """Measure a model's layout on scenes of two subjects, and write ``layout.json``.

    Args:
        directory: of the model.
        assets: folder with the bench's packs.
        out: folder of the file, made if missing.
        count: of scenes.
        batch_size: pictures made at once.
        begin: told that making pictures and judging them begin.

    Raises:
        ModelNotFoundError, CheckpointError: the model is missing or cannot be loaded.
        StorageError: ``out`` cannot be written.
    """
    pipeline = MSDiffusionPipeline.from_pretrained(directory)
    pack = BenchPack.read(assets, TEST)
    scenes = draw_group(pack, HEADLINE, count, BENCH_SEED)
    requests, maker = Requests(scenes, True, pipeline.card, Settings()), Maker.of_pipeline(pipeline, batch_size)
    pictures = make_columns(requests, maker, asked_of(requests), begin("Pictures", (1 + len(GENERATED)) * count))
    verdicts = judge_columns(pictures | composites(scenes), scenes, pack, begin("Judging", count))
    columns = {column: summarise(scenes, verdicts[column]) for column in COLUMNS}
    results = LayoutResults(pipeline.card.name, BENCH_VERSION, JUDGE_VERSION, BENCH_SEED, TEST, count, columns)
    write_whole(out / RESULTS_FILE, (json.dumps(asdict(results), indent=2) + "\n").encode())
    return results


def asked_of(requests: Requests) -> dict[str, Ask]:
    """What each column asks of the model."""
    return {column: partial(_spec, requests, column) for column in GENERATED}


def composites(scenes: Sequence[BenchScene]) -> Pictures:
    """The column of the composed pictures."""
    return {COMPOSITES: [scene.original.image for scene in scenes]}


def summarise(scenes: Sequence[BenchScene], verdicts: Sequence[Verdict]) -> dict[str, Estimate]:
    """The numbers of one column, each with its 95 % interval over scenes and things."""
    slots = [slot for pair in zip(scenes, verdicts, strict=True) for slot in _slots(_outcome(*pair))]
    design = design_of(slot.key for slot in slots)
    found = np.asarray([float(slot.is_found) for slot in slots])
    ious = np.asarray([slot.iou for slot in slots]) * found
    likeness = np.asarray([slot.likeness for slot in slots])
    told: Bool[np.ndarray, "thresholds slots"] = np.asarray([ious >= threshold for threshold in THRESHOLDS])
    # A slot in which nothing stands is no detection, but a box all the same.
    shown = np.asarray([float(slot.is_present) for slot in slots])

    def precision(weights: Weights) -> Float[np.ndarray, " resamples"]:
        rows = weights[::_AP_STEP]
        return np.asarray([average_precision(likeness, told, row * shown, float(row.sum())) for row in rows])

    whole = average_precision(likeness, told, shown, len(slots))
    return {MIOU: bootstrap(ious, design), AP: interval(whole, precision, design), FOUND: bootstrap(found, design)}


def build_table(results: LayoutResults) -> Table:
    """The numbers of all columns with their intervals, in per cent."""
    title = f"{results.model}, layout on {results.scenes} scenes of two subjects, in %"
    table = Table(title=title, title_justify="left")
    for heading in ("", *results.columns):
        table.add_column(heading)
    for row in ROWS:
        cells = ("\n".join(format_row(row, column[row])) for column in results.columns.values())
        table.add_row(row, *cells)
    return table


@dataclass(frozen=True, slots=True)
class _Slot:
    """What one subject's slot shows."""

    key: AnswerKey
    is_present: bool
    is_found: bool
    iou: float
    likeness: float


def _slots(outcome: Outcome) -> list[_Slot]:
    told = collapse(outcome)
    return [
        _Slot(
            AnswerKey(outcome.group, outcome.number, index, outcome.things[index]),
            subject.present,
            told[index] == RIGHT,
            subject.iou,
            max(subject.likeness),
        )
        for index, subject in enumerate(outcome.verdict.subjects)
    ]


def _outcome(scene: BenchScene, verdict: Verdict) -> Outcome:
    things = tuple(subject.phrase for subject in scene.original.subjects)
    return Outcome(scene.group, scene.number, False, things, verdict)


def _spec(requests: Requests, column: str, scene: BenchScene) -> GenerationSpec:
    asked = MODEL if column == EXCHANGED_BOXES else column
    spec = requests.spec(PictureKey(asked, scene.group, scene.number), scene)
    if column != EXCHANGED_BOXES:
        return spec
    boxes = [subject.box for subject in reversed(spec.subjects)]
    return replace(spec, subjects=tuple(replace(own, box=box) for own, box in zip(spec.subjects, boxes, strict=True)))
