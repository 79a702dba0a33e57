"""A run as one HTML page: goals, tables, worst cases, and every picture; it needs no network and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import COLUMNS, COMPOSITES, MODEL, PictureKey
from ms_lab.evaluation.report.results import Results, SceneRow
from ms_lab.evaluation.report.summary import EQUIVALENT, ROWS, GroupSummary
from ms_lab.evaluation.report.tables import (
    NUMBER_ROWS,
    UNASKED,
    format_measured,
    format_row,
    format_threshold,
    number_groups,
    rows_of,
    unasked_sentence,
)
from ms_lab.evaluation.run.folder import RunFolder
from ms_lab.mini.painting import PLAIN

WORST = 6
# What the table of all groups shows of the model.
_OVERVIEW = (
    EQUIVALENT,
    "identity_easy",
    "identity",
    "both_right_easy",
    "both_right",
    "form",
    "upright",
    "silhouette",
    "layout_share",
    "inside",
    "background",
    "place",
    "swap",
    "front",
    "treatment",
    "neglect",
    "conflict",
)
_TEMPLATE = "report.html.jinja"
_QUALITY = 82


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture with boxes over it: left, top, width, height in per cent."""

    label: str
    source: str
    width: int
    height: int
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Mark:
    text: str
    wrong: bool


@dataclass(frozen=True, slots=True)
class _SubjectMarks:
    phrase: str
    marks: tuple[_Mark, ...]
    iou: float | None


@dataclass(frozen=True, slots=True)
class _Card:
    """One scene as the page shows it."""

    number: int
    caption: str
    references: tuple[str, ...]
    pictures: tuple[_Picture, ...]
    subjects: tuple[_SubjectMarks, ...]
    marks: tuple[_Mark, ...]

    @property
    def num_wrong(self) -> int:
        """Wrong verdicts."""
        marks = [*self.marks, *(mark for subject in self.subjects for mark in subject.marks)]
        return sum(mark.wrong for mark in marks)

    @property
    def badness(self) -> tuple[int, float]:
        """Wrong verdicts, then what the found boxes lack."""
        return self.num_wrong, -sum(subject.iou or 0.0 for subject in self.subjects)


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    summary: GroupSummary
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cards: tuple[_Card, ...]
    worst: tuple[_Card, ...]


def build_report(results: Results, rows: Sequence[SceneRow], folder: RunFolder) -> str:
    """The page.

    Args:
        results, rows: of the run.
        folder: its pictures.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        results=results,
        facts=_facts(results),
        groups=[_group(name, summary, rows, folder) for name, summary in results.groups.items()],
        rows=ROWS,
        overview=_OVERVIEW,
        model=MODEL,
        unasked=unasked_sentence(results.groups),
        dash=UNASKED,
        numbers=number_groups(results.groups),
        number_rows=NUMBER_ROWS,
        number=format_row,
        threshold=format_threshold,
        measured=format_measured,
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    run, timing = results.run, results.timing
    preset = "" if run.preset is None else f"preset {run.preset}, "
    facts = [
        ("model", f"{run.model}, files {run.model_digest[:16]}"),
        ("bench", f"version {run.bench_version}, seed {run.seed}, scenes {run.scenes_fingerprint[:16]}"),
        ("judge", f"version {results.judge_version}"),
        (
            "pictures",
            f"{run.width} x {run.height}, {preset}{run.num_inference_steps} steps of {run.scheduler}, guidance "
            f"{run.guidance_scale:g}, scale {run.scale:g}; each scene has a seed of its own",
        ),
    ]
    if timing is not None:
        facts.append(
            (
                "time",
                f"{timing.pictures} pictures in {timing.seconds / 60:.1f} minutes, {timing.batch_size} at once; "
                f"judged in {results.judging_seconds / 60:.1f} minutes",
            )
        )
    return [
        *facts,
        ("hardware", ", ".join(f"{name} {value}" for name, value in results.hardware.items())),
        ("versions", ", ".join(f"{name} {value}" for name, value in results.versions.items())),
        ("commit", results.commit or "outside a checkout"),
        ("judged", results.judged_at),
    ]


def _group(name: str, summary: GroupSummary, rows: Sequence[SceneRow], folder: RunFolder) -> _Group:
    cards = tuple(_card(row, folder) for row in rows if row.group == name and MODEL in row.outcomes)
    worst = sorted((card for card in cards if card.num_wrong), key=lambda card: card.badness, reverse=True)
    columns = tuple(column for column in COLUMNS if column in summary.columns)
    return _Group(name, summary, columns, tuple(rows_of(summary)), cards, tuple(worst[:WORST]))


def _card(row: SceneRow, folder: RunFolder) -> _Card:
    outcome = row.outcomes[MODEL]
    shown = [
        _picture("composed", PictureKey(COMPOSITES, row.group, row.number), row, folder, boxed=True),
        _picture("made", PictureKey(MODEL, row.group, row.number), row, folder),
    ]
    if outcome.swapped is not None:
        key = PictureKey(MODEL, row.group, row.number, exchanged=True)
        shown.append(_picture("references exchanged", key, row, folder))
    references = [folder.load_reference(row.group, row.number, index) for index in range(len(row.subjects))]
    return _Card(
        number=row.number,
        caption=row.caption,
        references=tuple(_inline(picture) for picture in references),
        pictures=tuple(shown),
        subjects=_subject_marks(row, outcome),
        marks=_scene_marks(row, outcome),
    )


def _subject_marks(row: SceneRow, outcome: Outcome) -> tuple[_SubjectMarks, ...]:
    found: list[_SubjectMarks] = []
    for subject, verdict in zip(row.subjects, outcome.verdict.subjects, strict=False):
        if outcome.treated:
            seen = "untreated" if verdict.treatment == PLAIN else str(verdict.treatment)
            found.append(_SubjectMarks(subject.phrase, (_Mark(seen, verdict.treatment != row.treatment),), None))
            continue
        marks = [_Mark("hard", not verdict.identity), _Mark("random", not verdict.identity_easy)]
        marks += [_Mark("absent", True)] * (not verdict.present) + [_Mark("another's", True)] * verdict.intruded
        found.append(_SubjectMarks(subject.phrase, tuple(marks), verdict.iou))
    return tuple(found)


def _scene_marks(row: SceneRow, outcome: Outcome) -> tuple[_Mark, ...]:
    verdict = outcome.verdict
    if verdict.place is not None:
        marks = [_Mark("place", not verdict.place)]
    else:
        named = "background" if verdict.background else f"background: {verdict.recognised}"
        marks = [_Mark(named, not verdict.background)]
    if outcome.swapped is not None:
        marks.append(_Mark("swap", not outcome.swapped))
    if verdict.front is not None:
        marks.append(_Mark("in front", not verdict.front))
    return tuple(marks)


def _picture(label: str, key: PictureKey, row: SceneRow, folder: RunFolder, boxed: bool = False) -> _Picture:
    drawn = row.subjects[: len(row.outcomes[MODEL].verdict.subjects)]
    boxes = tuple(
        (100 * left, 100 * top, 100 * (right - left), 100 * (bottom - top))
        for left, top, right, bottom in (subject.box for subject in drawn)
    )
    picture = folder.load(key).resize((row.width, row.height))
    return _Picture(label, _inline(picture), row.width, row.height, boxes if boxed else ())


def _inline(picture: Image.Image) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
