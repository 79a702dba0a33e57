"""Making the bench's pictures: of all columns, kept in the run's folder; what is there is not made again."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec
from ms_lab.evaluation.questions.columns import (
    COMPOSITES,
    FAST,
    KEPT,
    MODEL,
    PASTED,
    THROUGH_VAE,
    PictureKey,
    Request,
    Requests,
    composed_picture,
)
from ms_lab.evaluation.run.folder import RunFolder, Timing

# Single pictures that are timed, after one that is not: the first of a shape takes longer.
_TIMED = 5

Generate = Callable[[Sequence[GenerationSpec]], list[Image.Image]]
GenerateAll = Callable[[Sequence[Sequence[GenerationSpec]]], Iterator[list[Image.Image]]]
Reconstruct = Callable[[Sequence[Image.Image]], list[Image.Image]]
Advance = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Maker:
    """Where pictures come from.

    Attributes:
        generate: one picture for each spec, in order; the specs are of one size.
        reconstruct: the same RGB pictures, of one size, through the model's VAE.
        batch_size: most pictures in one call of either.
        generate_all: the pictures of many such calls, perhaps several at once; ``None``: one after the other.
    """

    generate: Generate
    reconstruct: Reconstruct
    batch_size: int
    generate_all: GenerateAll | None = None

    @classmethod
    def of_pipeline(cls, pipeline: MSDiffusionPipeline, batch_size: int) -> Maker:
        """Pictures of a loaded model."""
        return cls(
            generate=lambda specs: [generation.image for generation in pipeline.run(specs)],
            reconstruct=lambda pictures: reconstruct(pipeline.components, pictures),
            batch_size=batch_size,
        )

    def generate_batches(self, batches: Sequence[Sequence[GenerationSpec]]) -> Iterator[list[Image.Image]]:
        """The pictures of each batch, in order."""
        return map(self.generate, batches) if self.generate_all is None else self.generate_all(batches)


def missing_pictures(requests: Requests, folder: RunFolder) -> list[PictureKey]:
    """The pictures of all kept columns that are still to be made."""
    keys = [key for column in KEPT for scene in requests.scenes for key in requests.keys(column, scene)]
    return [key for key in keys if not folder.has(key)]


def make_pictures(requests: Requests, folder: RunFolder, maker: Maker, advance: Advance) -> None:
    """Make every picture that is not there yet, and write down how long the model took.

    Args:
        requests: what is asked.
        folder: begun for them.
        maker: of the pictures.
        advance: called with the number of pictures that have just been made.
    """
    for column in (COMPOSITES, PASTED):
        for key, picture in _missing_composed(requests, folder, column):
            folder.save(key, picture)
            advance(1)
    _reconstruct_missing(requests, folder, maker, advance)
    _generate_missing(requests, folder, maker, advance)


@torch.no_grad()
def reconstruct(components: Any, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """RGB pictures of one size, encoded and decoded again by the VAE of a ``StableDiffusionXLPipeline``."""
    vae = components.vae
    pixels = components.image_processor.preprocess(list(pictures)).to(vae.device, vae.dtype)
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode(), return_dict=False)[0]
    return components.image_processor.postprocess(decoded.float(), output_type="pil")


def _missing_composed(requests: Requests, folder: RunFolder, column: str) -> Iterator[tuple[PictureKey, Image.Image]]:
    for scene in requests.scenes:
        for key in requests.keys(column, scene):
            if not folder.has(key):
                yield key, composed_picture(key, scene)


def _reconstruct_missing(requests: Requests, folder: RunFolder, maker: Maker, advance: Advance) -> None:
    missing: list[tuple[PictureKey, Image.Image]] = []
    for key, picture in _missing_composed(requests, folder, THROUGH_VAE):
        height, width = requests.size(picture.height, picture.width)
        missing.append((key, picture.resize((width, height))))
    for batch in _batches(missing, maker.batch_size, shape=lambda item: item[1].size):
        made = maker.reconstruct([picture for _, picture in batch])
        for (key, _), picture in zip(batch, made, strict=True):
            folder.save(key, picture)
        advance(len(batch))


def _generate_missing(requests: Requests, folder: RunFolder, maker: Maker, advance: Advance) -> None:
    missing = [request for request in requests if not folder.has(request.key)]
    begun = time.monotonic()
    batches = list(_batches(missing, maker.batch_size, shape=_request_shape))
    made = maker.generate_batches([[request.spec for request in batch] for batch in batches])
    for batch, pictures in zip(batches, made, strict=True):
        for request, picture in zip(batch, pictures, strict=True):
            folder.save(request.key, picture)
        advance(len(batch))
    if missing:
        seconds = time.monotonic() - begun
        folder.add_timing(Timing(len(missing), seconds, maker.batch_size, _time_alone(requests, maker)))


def _request_shape(request: Request) -> tuple[object, ...]:
    """What the pictures of a batch share; the number of subjects too, for a batch is padded to the most."""
    spec = request.spec
    return spec.preset, spec.grounding, spec.height, spec.width, len(spec.subjects)


def _batches(items: Sequence[T], size: int, shape: Callable[[T], object]) -> Iterator[list[T]]:
    """Pieces of at most ``size`` items of one shape, in order within a shape."""
    by_shape: defaultdict[object, list[T]] = defaultdict(list)
    for item in items:
        by_shape[shape(item)].append(item)
    for alike in by_shape.values():
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def _time_alone(requests: Requests, maker: Maker) -> dict[str, tuple[float, ...]]:
    """Seconds of a few pictures of the first scene, made one by one, by column."""
    scene = requests.scenes[0]
    specs = {column: requests.spec(key, scene) for column in (MODEL, FAST) for key in requests.keys(column, scene)[:1]}
    return {column: tuple(_seconds(spec, maker) for _ in range(1 + _TIMED))[1:] for column, spec in specs.items()}


def _seconds(spec: GenerationSpec, maker: Maker) -> float:
    begun = time.monotonic()
    maker.generate([spec])
    return time.monotonic() - begun
