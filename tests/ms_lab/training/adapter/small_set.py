"""A small set of samples on disk, and the configuration of a short run on it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ms_lab.data.run_lengths import run_lengths
from ms_lab.data.writing.shards import HELDOUT, TRAIN, encode_record, shard_writer
from ms_lab.training.adapter.config import AdapterConfig, load_config

PHRASES = ("red square", "blue disc", "green bar")
SIDE = 64


def stored_sample(
    seed: int, split: str = TRAIN, height: int = 80, width: int = 96
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """JSON and pictures of a sample with one, two or three subjects."""
    rng = np.random.default_rng(seed)
    phrases = PHRASES[: 1 + seed % 3]
    caption, subjects = "a", []
    for number, phrase in enumerate(phrases):
        start = len(caption) + 1
        caption += f" {phrase} and"
        x, y = 0.05 + 0.3 * number, float(rng.uniform(0.05, 0.4))
        subjects.append(
            {
                "phrase": phrase,
                "phrase_span": [start, start + len(phrase)],
                "box": [x, y, x + 0.28, y + 0.5],
                "mask": None,
                "reference": f"reference{number}.png",
                "reference_source": "made",
                "reference_mask": list(run_lengths(np.tri(30, 20, dtype=bool))) if number == 1 else None,
            }
        )
    record = {
        "caption": f"{caption} a table",
        "height": height,
        "width": width,
        "subjects": subjects,
        "source": f"s{seed}",
        "licence": "CC0-1.0",
        "split": split,
        "target": "target.png",
    }
    files = {"target.png": png(rng, height, width)}
    files |= {subject["reference"]: png(rng, 30, 20) for subject in subjects}
    return record, files


def png(rng: np.random.Generator, height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    pixels = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3)).astype(np.uint8)
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)[:height, :width]).save(buffer, "PNG")
    return buffer.getvalue()


def write_shards(folder: Path, train: int = 10, held_out: int = 3, per_shard: int = 4) -> Path:
    """A set of shards, as the data pipeline writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in ((TRAIN, train), (HELDOUT, held_out)):
        for number, start in enumerate(range(0, count, per_shard)):
            chosen = range(start, min(start + per_shard, count))
            write_shard(folder / f"{split}-{number:06d}.tar", [stored_sample(seed, split) for seed in chosen], start)
    return folder


def write_shard(path: Path, samples: Sequence[tuple[dict[str, Any], dict[str, bytes]]], first: int = 0) -> None:
    with path.open("wb") as file, shard_writer(file) as writer:
        for number, (record, files) in enumerate(samples, first):
            writer.write({"__key__": f"{number:04x}", "json": encode_record(record), **files})


def write_files(folder: Path, samples: Sequence[tuple[dict[str, Any], dict[str, bytes]]]) -> None:
    """The same samples as files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (record, files) in enumerate(samples):
        (folder / f"{number:04x}.json").write_text(json.dumps(record))
        for name, content in files.items():
            (folder / f"{number:04x}.{name}").write_bytes(content)


def small_config(folder: Path, **changes: dict[str, Any]) -> AdapterConfig:
    """Four steps of four pictures of 64 x 64 pixels, in float32, without pictures of the samples."""
    values: dict[str, Any] = {
        "model": "golden",
        "data": {"folder": str(folder), "height": SIDE, "width": SIDE},
        "train": {
            "steps": 4,
            "batch_size": 4,
            "micro_batch_size": 2,
            "learning_rate": 1e-3,
            "precision": "float32",
            "gradient_checkpointing": False,
        },
        "checkpoints": {"every_steps": 2, "every_minutes": 60.0},
        "log": {"every_steps": 1, "held_out": 0, "tensorboard": False},
    }
    for table, content in changes.items():
        values[table] = {**values.get(table, {}), **content} if isinstance(content, dict) else content
    return load_config(None, values)
