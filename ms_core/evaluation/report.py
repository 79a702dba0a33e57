"""What an evaluation leaves: a table, ``results.json`` and ``sheet.png``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.box import SIMPLE_HEAD
from rich.table import Column as TableColumn
from rich.table import Table

from ms_core.config import ModelCard
from ms_core.evaluation.bench import COLUMNS, MODEL, Column, check_gate
from ms_core.evaluation.judge import JUDGE_VERSION
from ms_core.evaluation.metrics import METRICS, Estimate
from ms_core.evaluation.scenes import EVALUATION_SEED, NUM_CANDIDATES, NUM_SAME_NAME, EvaluationScene
from ms_core.mini.backgrounds import BACKGROUNDS

SHEET_SCENES, SHEET_COLUMNS = 24, 2
CHANCE = {
    "identity": 1 / NUM_CANDIDATES,
    "same_name": NUM_SAME_NAME / NUM_CANDIDATES,
    "swap": 1 / 16,
    "layout": None,
    "background": 1 / len(BACKGROUNDS),
}
_PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow")
_CELL, _GAP, _CAPTION = 128, 4, 14
_BOX_COLOURS = ((230, 0, 0), (0, 90, 255))
_HEADINGS = ("reference 1", "reference 2", "composed", "made", "exchanged")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        card: of the model.
        scenes: in order.
        digest: of the scenes, see ``ms_core.evaluation.scenes.fingerprint``.
        columns: by name.
        wall_seconds: from loading the model to the last judgement.
        batch_size: of the generation.
    """

    card: ModelCard
    scenes: Sequence[EvaluationScene]
    digest: str
    columns: dict[str, Column]
    wall_seconds: float
    batch_size: int


def build_table(evaluation: Evaluation) -> Table:
    """All estimates in per cent, with their 95 % intervals."""
    title = f"{evaluation.card.name}, {len(evaluation.scenes)} scenes, in % with 95 % intervals"
    headings = [TableColumn(name, no_wrap=True) for name in ("metric", *COLUMNS, "chance")]
    table = Table(*headings, title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), leading=1, pad_edge=False)
    for metric in METRICS:
        cells = [_format(evaluation.columns[name].estimates[metric]) for name in COLUMNS]
        chance = CHANCE[metric]
        table.add_row(metric, *cells, "" if chance is None else f"{100 * chance:.0f}")
    return table


def build_results(evaluation: Evaluation) -> dict[str, Any]:
    """Everything measured, ready for JSON."""
    return {
        "scenes": len(evaluation.scenes),
        "seed": EVALUATION_SEED,
        "judge_version": JUDGE_VERSION,
        "scenes_fingerprint": evaluation.digest,
        "model": {"name": evaluation.card.name, "training": evaluation.card.training},
        "generation": {**asdict(evaluation.card.defaults), "batch_size": evaluation.batch_size},
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "hardware": {"machine": platform.machine(), "processors": os.cpu_count()},
        "wall_seconds": round(evaluation.wall_seconds, 1),
        "chance": CHANCE,
        "columns": {
            name: {metric: asdict(estimate) for metric, estimate in column.estimates.items()}
            for name, column in evaluation.columns.items()
        },
        "gate": [asdict(gate) for gate in check_gate(evaluation.columns)],
        "outcomes": {
            name: [
                {"caption": scene.original.caption, **asdict(outcome)}
                for scene, outcome in zip(evaluation.scenes, column.outcomes, strict=True)
            ]
            for name, column in evaluation.columns.items()
        },
    }


def draw_sheet(evaluation: Evaluation) -> Image.Image:
    """The first 24 scenes as they come: references, composed target with its boxes, made picture, exchanged picture."""
    column = evaluation.columns[MODEL]
    strips = [
        _draw_strip(*item)
        for item in zip(evaluation.scenes[:SHEET_SCENES], column.originals, column.exchanged, strict=False)
    ]
    width, height = strips[0].size
    rows = -(-len(strips) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP + _CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    for block in range(SHEET_COLUMNS):
        for place, heading in enumerate(_HEADINGS):
            pen.text((_GAP + block * (width + _GAP) + place * (_CELL + _GAP), 1), heading, fill="black")
    for index, strip in enumerate(strips):
        row, block = divmod(index, SHEET_COLUMNS)
        sheet.paste(strip, (_GAP + block * (width + _GAP), _CAPTION + _GAP + row * (height + _GAP)))
    return sheet


def _draw_strip(scene: EvaluationScene, original: Image.Image, exchanged: Image.Image) -> Image.Image:
    cell = (_CELL, _CELL)
    composed = scene.original.image.convert("RGB").resize(cell)
    pen = ImageDraw.Draw(composed)
    for box, colour in zip(scene.boxes, _BOX_COLOURS, strict=True):
        corners = [min(_CELL - 1, round(_CELL * value)) for value in box.as_tuple()]
        pen.rectangle((corners[0], corners[1], corners[2], corners[3]), outline=colour)
    references = [subject.reference.resize(cell) for subject in scene.original.subjects]
    pictures = [*references, composed, original.resize(cell), exchanged.resize(cell)]
    strip = Image.new("RGB", (len(pictures) * (_CELL + _GAP) - _GAP, _CELL + _CAPTION), "white")
    for place, picture in enumerate(pictures):
        strip.paste(picture, (place * (_CELL + _GAP), _CAPTION))
    ImageDraw.Draw(strip).text((0, 1), scene.original.caption, fill="black")
    return strip


def _format(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f}\n{100 * estimate.low:.1f}-{100 * estimate.high:.1f}"


def _commit() -> str | None:
    """The commit this code was checked out from, ``-dirty`` with changes; ``None`` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no outside input
    return answer.stdout.strip() or None
