"""What a run leaves beside its pictures: ``results.json`` with all numbers, ``verdicts.jsonl`` with a line for each scene."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.judge.judge import JUDGE_VERSION
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.report.goals import GoalResult, check_goals
from ms_lab.evaluation.report.intervals import Estimate
from ms_lab.evaluation.report.summary import GroupSummary, summarise
from ms_lab.evaluation.run.folder import Run, RunFolder, Timing

RESULTS, VERDICTS = "results.json", "verdicts.jsonl"
_PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Results:
    """All numbers of a run.

    Attributes:
        run: what the pictures were made from.
        judge_version: of the judge that looked at them.
        judged_at: when, ISO 8601, UTC.
        judging_seconds: how long it took.
        timing: of the model.
        commit: of this code when the pictures were judged; ``None`` outside a checkout.
        versions, hardware: of that machine.
        training: what the model card says of its training.
        goals: and what became of them.
        groups: the numbers of each group.
    """

    run: Run
    judge_version: int
    judged_at: str
    judging_seconds: float
    timing: Timing | None
    commit: str | None
    versions: dict[str, str]
    hardware: dict[str, Any]
    training: dict[str, Any]
    goals: tuple[GoalResult, ...]
    groups: dict[str, GroupSummary]


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A subject as it was asked for.

    Attributes:
        phrase: the words that name it.
        source: of the reference.
        box: normalised xyxy.
    """

    phrase: str
    source: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SceneRow:
    """A scene and what was found in it.

    Attributes:
        group, number, cell: of the scene.
        caption, seed: that were asked for.
        height, width: of the composite, in pixels.
        background, treatment: that the caption names; the treatment may be "".
        subjects: as they were asked for; a scene subject is the last.
        outcomes: by column.
    """

    group: str
    number: int
    cell: str
    caption: str
    seed: int
    height: int
    width: int
    background: str
    treatment: str
    subjects: tuple[SubjectRow, ...]
    outcomes: dict[str, Outcome]


def build_results(
    folder: RunFolder, run: Run, training: dict[str, Any], rows: Sequence[SceneRow], judging_seconds: float
) -> Results:
    """All numbers of a run whose pictures were judged just now, with the time of making from the run's folder."""
    columns: dict[str, list[Outcome]] = {}
    for row in rows:
        for column, outcome in row.outcomes.items():
            columns.setdefault(column, []).append(outcome)
    groups = summarise(columns, {row.group: row.cell for row in rows})
    timing = folder.timing()
    return Results(
        run=run,
        judge_version=JUDGE_VERSION,
        judged_at=datetime.now(UTC).isoformat(timespec="seconds"),
        judging_seconds=round(judging_seconds, 1),
        timing=timing,
        commit=code_commit(),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        hardware={"machine": platform.machine(), "processors": os.cpu_count()},
        training=training,
        goals=tuple(check_goals(groups, seconds_alone(timing))),
        groups=groups,
    )


def build_rows(scenes: Sequence[BenchScene], outcomes: Mapping[str, Sequence[Outcome]]) -> list[SceneRow]:
    """A row for each scene.

    Args:
        scenes: that were judged.
        outcomes: by column.
    """
    found: dict[tuple[str, int], dict[str, Outcome]] = {}
    for column, judged in outcomes.items():
        for outcome in judged:
            found.setdefault((outcome.group, outcome.number), {})[column] = outcome
    return [_row(scene, found[scene.group, scene.number]) for scene in scenes]


def write_results(directory: Path, results: Results, rows: Sequence[SceneRow]) -> None:
    """Write ``results.json`` and ``verdicts.jsonl``, numbers to four digits."""
    document = rounded(TypeAdapter(Results).dump_python(results, mode="json"))
    (directory / RESULTS).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    adapter = TypeAdapter(SceneRow)
    lines = [json.dumps(rounded(adapter.dump_python(row, mode="json"))) for row in rows]
    (directory / VERDICTS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_results(directory: Path) -> tuple[Results, list[SceneRow]]:
    """What a run left.

    Raises:
        InvalidInputError: the folder holds no results, or results of another version.
    """
    try:
        results = TypeAdapter(Results).validate_json((directory / RESULTS).read_bytes())
        lines = (directory / VERDICTS).read_bytes().splitlines()
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"{directory} holds no results; make them with: msd eval mini --out {directory}"
        ) from error
    except ValidationError as error:
        raise InvalidInputError(f"The results in {directory} are of another version; measure anew.") from error
    return results, [TypeAdapter(SceneRow).validate_json(line) for line in lines]


def seconds_alone(timing: Timing | None) -> dict[str, Estimate]:
    """Seconds of a picture made alone, by column: the median, with the shortest and the longest."""
    if timing is None:
        return {}
    return {
        column: Estimate(statistics.median(seconds), min(seconds), max(seconds), len(seconds))
        for column, seconds in timing.alone_seconds.items()
    }


def _row(scene: BenchScene, outcomes: dict[str, Outcome]) -> SceneRow:
    sample = scene.original
    return SceneRow(
        group=scene.group,
        number=scene.number,
        cell=scene.cell,
        caption=sample.caption,
        seed=scene.scene.seed,
        height=sample.height,
        width=sample.width,
        background=scene.scene.background,
        treatment=scene.scene.treatment,
        subjects=tuple(SubjectRow(s.phrase, s.reference_source, s.box.as_tuple()) for s in sample.subjects),
        outcomes=outcomes,
    )


def rounded(value: Any) -> Any:
    """A JSON value with every number to four digits."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in cast("dict[str, Any]", value).items()}
    return [rounded(part) for part in cast("list[Any]", value)] if isinstance(value, list) else value


def code_commit() -> str | None:
    """The commit this code was checked out from, ``-dirty`` with changes; ``None`` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no outside input
    return answer.stdout.strip() or None
