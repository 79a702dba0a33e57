"""Sheets of the first scenes as they come: references, true composite, and one row for each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ms_lab.ablation.measuring import key_of
from ms_lab.ablation.pictures import composite
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.run.folder import RunFolder
from ms_lab.training.sample_sheets import grid

SHEET_SCENES, REFERENCES = 12, 2
# Pixels.
_CELL, _LABEL = 96, 110


def draw_sheet(directory: Path, scenes: Sequence[BenchScene], rows: Mapping[str, str]) -> Image.Image:
    """The first scenes, one a column.

    Args:
        directory: of the ablation.
        scenes: all of them.
        rows: columns of the ablation by their label.
    """
    shown = scenes[:SHEET_SCENES]
    pictures = RunFolder(directory)
    table = [
        [_label(f"reference {index + 1}"), *(_reference(scene, index) for scene in shown)]
        for index in range(REFERENCES)
    ]
    table.append([_label("composite"), *(_enlarged(composite(scene)) for scene in shown)])
    for label, column in rows.items():
        table.append([_label(label), *(_enlarged(pictures.load(key_of(column, scene))) for scene in shown)])
    return grid(table)


def _reference(scene: BenchScene, index: int) -> Image.Image:
    subjects = scene.original.subjects
    if index >= len(subjects):
        return Image.new("RGB", (_CELL, _CELL), "white")
    return _enlarged(subjects[index].reference)


def _enlarged(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BICUBIC)


def _label(text: str) -> Image.Image:
    label = Image.new("RGB", (_LABEL, _CELL), "white")
    ImageDraw.Draw(label).text((4, _CELL // 2 - 6), text, fill="black")
    return label
