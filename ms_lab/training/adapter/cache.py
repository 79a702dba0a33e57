"""``msd data cache``: what text encoders, image encoder and VAE make of a set, once, so that a training step is the UNet alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.model_dir.loading import IMAGE_ENCODER, VAE
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.data.writing.files import new_file, write_whole
from ms_lab.data.writing.folder import write_json
from ms_lab.data.writing.sample_index import ENCODED, SampleIndex
from ms_lab.data.writing.shards import HELDOUT, SPLITS, encode_record, shard_writer
from ms_lab.training.adapter.encoding import Blanks, SampleEncoder
from ms_lab.training.adapter.samples import Size, require_size
from ms_lab.training.adapter.sources import PictureSamples

NOTES, BLANKS = "cache.json", "blanks.safetensors"
_ENCODERS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", IMAGE_ENCODER, VAE)
_LOOKED_AT = 1 << 20


def write_cache(  # noqa: PLR0913 - what a cache is made of
    source: Path,
    target: Path,
    directory: Path,
    pipeline: MSDiffusionPipeline,
    size: Size,
    samples_per_shard: int,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, int]:
    """Encode a set; shards that are whole already are not made again. Samples held out keep their pictures, for sheets.

    Args:
        source: the set.
        target: folder of the cache.
        directory: of the model.
        pipeline: the model, loaded.
        size: of the targets.
        samples_per_shard: in the cache.
        advance: is told how many samples are done.

    Returns:
        samples of each split.

    Raises:
        InvalidInputError: a sample cannot be used, the size does not fit the base, or the folder holds another cache.
        CheckpointError: a shard of the set is damaged.
        StorageFullError: the disk is full; whole shards stay.
    """
    require_size(size, pipeline.components.vae_scale_factor)
    notes = describe_cache(directory, size) | {"dtype": str(pipeline.unet.dtype).removeprefix("torch.")}
    indices = {split: SampleIndex(source, split) for split in SPLITS}
    notes |= {
        "samples_per_shard": samples_per_shard,
        "set": {split: index.digest() for split, index in indices.items()},
    }
    if (target / NOTES).is_file() and json.loads((target / NOTES).read_text(encoding="utf-8")) != notes:
        raise InvalidInputError(
            f"{target} holds the cache of another model, size or set; choose another folder with --out."
        )
    write_json(target / NOTES, notes)
    encoder = SampleEncoder(pipeline)
    counts: dict[str, int] = {}
    for split, index in indices.items():
        samples = PictureSamples(index, size, pipeline.conditioner.reader.preprocessor)
        counts[split] = len(samples)
        for number, start in enumerate(range(0, len(samples), samples_per_shard)):
            chosen = range(start, min(start + samples_per_shard, len(samples)))
            path = target / f"{split}-{number:06d}.tar"
            if not path.is_file():
                _write_shard(path, samples, chosen, encoder, with_pictures=split == HELDOUT)
            advance(len(chosen))
    # Written last: a cache without it is not finished.
    write_whole(target / BLANKS, save(encoder.blanks().tensors()))
    return counts


def count_samples(source: Path) -> int:
    """Samples of all splits of a set; errors as ``write_cache``.

    Raises:
        InvalidInputError: it has none.
    """
    count = sum(len(SampleIndex(source, split)) for split in SPLITS)
    if count == 0:
        raise InvalidInputError(
            f"{source} holds no samples: neither shards train-*.tar nor files KEY.json with pictures."
        )
    return count


def _write_shard(
    path: Path, samples: PictureSamples, chosen: range, encoder: SampleEncoder, with_pictures: bool
) -> None:
    with new_file(path) as file, shard_writer(file) as writer:
        for number in chosen:
            stored = samples.index.read(number)
            encoded = save(encoder.encode(samples[number]).tensors())
            files = stored.files if with_pictures else {}
            writer.write({"__key__": stored.key, "json": encode_record(stored.record), ENCODED: encoded, **files})


def is_cache(folder: Path) -> bool:
    """Whether a folder holds a cache."""
    return (folder / NOTES).is_file()


def read_cache(folder: Path, directory: Path, size: Size) -> Blanks | None:
    """What stands in for dropped conditions, from a cache's folder; ``None``: it holds no cache but pictures.

    Raises:
        InvalidInputError: the cache is not finished, or of another model or size.
    """
    if not is_cache(folder):
        return None
    if not (folder / BLANKS).is_file():
        raise InvalidInputError(f"The cache in {folder} is not finished; run msd data cache again.")
    notes: dict[str, Any] = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    differing = sorted(name for name, value in describe_cache(directory, size).items() if notes.get(name) != value)
    if differing:
        raise InvalidInputError(
            f"The cache in {folder} was made with another {' and '.join(differing)}; make one for this model and size with "
            "msd data cache, into another folder."
        )
    return Blanks(**load((folder / BLANKS).read_bytes()))


def describe_cache(directory: Path, size: Size) -> dict[str, Any]:
    """What a cache depends on, JSON-ready: the model's encoders, how references are prepared, and the targets' size."""
    return {
        "model": _digest(directory),
        "reference": json.loads(json.dumps(asdict(ModelCard.load(directory).reference))),
        "size": list(size),
    }


def _digest(directory: Path) -> str:
    """Of the encoders' files: names, sizes, and the beginning and the end of each, for all of them are gigabytes."""
    digest = hashlib.sha256()
    for path in sorted(path for name in _ENCODERS for path in (directory / name).rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(directory).as_posix()}\n{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_LOOKED_AT))
            file.seek(max(0, size - _LOOKED_AT))
            digest.update(file.read(_LOOKED_AT))
    return digest.hexdigest()
