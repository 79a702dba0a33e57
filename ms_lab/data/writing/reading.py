"""Shards back into samples, for trainers and pages."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.spec import Box
from ms_lab.data.records import SubjectRecord, TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.data.writing.members import PartError, read_members

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)


def shards_of(folder: Path, split: str) -> list[Path]:
    """The shards of a split, of a run's folder or of a folder of shards.

    Raises:
        ModelNotFoundError: there are none.
    """
    below = folder / "shards" if (folder / "shards").is_dir() else folder
    found = sorted(below.glob(f"{split}-*.tar"))
    if not found:
        raise ModelNotFoundError(f"There are no shards {split}-*.tar in {folder}; msd data run makes them.")
    return found


def iterate_shard(path: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, bytes]]]:
    """Key, record and other files of each sample.

    Raises:
        CheckpointError: the shard is damaged.
    """
    try:
        members = read_members(path)
    except PartError as error:
        raise CheckpointError(f"{error.detail} Run msd data run again: it writes damaged shards again.") from error
    for name, content in members.items():
        key, _, ending = name.partition(".")
        if ending == "json":
            own = {
                other.removeprefix(f"{key}."): data for other, data in members.items() if other.startswith(f"{key}.")
            }
            own.pop("json")
            yield key, json.loads(content), own


def read_samples(path: Path, background: Colour = WHITE) -> Iterator[TrainingSample]:
    """The samples of a shard; references are cut out by their masks and laid on ``background``.

    Raises:
        CheckpointError: the shard is damaged.
    """
    for _, record, files in iterate_shard(path):
        yield sample_of(record, files, background)


def sample_of(record: dict[str, Any], files: dict[str, bytes], background: Colour = WHITE) -> TrainingSample:
    """A sample from its JSON and its pictures by name; its references are laid on ``background``."""
    return TrainingSample(
        image=_open(files, record["target"]),
        caption=record["caption"],
        height=record["height"],
        width=record["width"],
        subjects=tuple(_subject(subject, files, background) for subject in record["subjects"]),
        source=record["source"],
        licence=record["licence"],
        split=record["split"],
    )


def _subject(subject: dict[str, Any], files: dict[str, bytes], background: Colour) -> SubjectRecord:
    reference = _open(files, subject["reference"])
    if subject["reference_mask"] is not None:
        inside = from_run_lengths(subject["reference_mask"], reference.height, reference.width)
        pixels = np.where(inside[..., None], np.asarray(reference), np.asarray(background, np.uint8))
        reference = Image.fromarray(pixels)
    start, end = subject["phrase_span"]
    return SubjectRecord(
        phrase=subject["phrase"],
        phrase_span=(start, end),
        box=Box(*subject["box"]),
        mask=None if subject["mask"] is None else tuple(subject["mask"]),
        reference=reference,
        reference_source=subject["reference_source"],
    )


def _open(files: dict[str, bytes], name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(files[name])) as picture:
            return picture.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is damaged or no picture") from error
