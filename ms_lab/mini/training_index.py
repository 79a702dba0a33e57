"""The training index: which artwork a model was trained on, so that anyone can check what it has never seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ms_lab.mini.sprites import Sprite

INDEX_FILE = "training_index.json"
_COLUMNS = ("artist", "name", "concept", "phrase", "sha256", "licence")


def save_index(sprites: Sequence[Sprite], directory: Path) -> None:
    """Write one row for each sprite, sorted."""
    rows = sorted([getattr(sprite, column) for column in _COLUMNS] for sprite in sprites)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (directory / INDEX_FILE).write_text(f'{{"columns": {json.dumps(_COLUMNS)}, "rows": [\n{lines}\n]}}\n', "utf-8")


def load_index(directory: Path) -> list[Sprite]:
    """Rows of a model's training index."""
    data = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))
    return [Sprite(**dict(zip(data["columns"], row, strict=True))) for row in data["rows"]]
