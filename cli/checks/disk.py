"""Room for pictures and for models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cli.checks.section import Section
from ms_core.model_dir.inspection import Finding

# A queue that cannot write its log loses jobs; pictures of a day take about this much.
_LEAST_FOR_DATA = 200 * 10**6
_GOOD_FOR_DATA = 2 * 10**9


def check_disk(data: Path, models: Path) -> Section:
    """Whether the data directory can be written and has room, and what room there is for models; makes neither."""
    place = _nearest(data)
    free, free_for_models = (shutil.disk_usage(_nearest(path)).free for path in (data, models))
    facts = {
        "data": {"path": str(data.resolve()), "free": free},
        "models": {"path": str(models.resolve()), "free": free_for_models},
    }
    room = Finding.ok(f"Models in {models}: {free_for_models / 10**9:.1f} GB free; SDXL takes about 13 GB.")
    return Section((_judge(data, place, free), room), facts)


def _judge(data: Path, place: Path, free: int) -> Finding:
    room = f"{free / 10**9:.1f} GB free"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        sentence = f"The data directory {data} cannot be written."
        return Finding.error("data_not_writable", sentence, "Let your user write there, or choose another with --data.")
    if free < _LEAST_FOR_DATA:
        sentence = f"The disk of the data directory {data} is full: {room}."
        return Finding.error("disk_full", sentence, "Free some space there, or choose another with --data.")
    if free < _GOOD_FOR_DATA:
        sentence = f"The disk of the data directory {data} is nearly full: {room}."
        return Finding.warning("disk_nearly_full", sentence, "Free some space there, or choose another with --data.")
    return Finding.ok(f"Data in {data}: {room}.")


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that exists."""
    place = path.resolve()
    while not place.exists():
        place = place.parent
    return place
