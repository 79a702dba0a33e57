"""Sample pictures of held-out samples, drawn by the pipeline that serves."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec, Subject
from ms_lab.data.records import TrainingSample
from ms_lab.training.adapter.samples import Size, crop
from ms_lab.training.sample_sheets import grid


def draw_sheet(
    pipeline: MSDiffusionPipeline, samples: Sequence[TrainingSample], size: Size, num_inference_steps: int
) -> Image.Image:
    """A row each: targets, their samples, and samples with the references of the next one; always from the same noise."""
    cropped = [crop(sample, size)[0] for sample in samples]
    references = [[subject.reference for subject in sample.subjects] for sample in cropped]
    others = references[1:] + references[:1]
    rows = [[sample.image for sample in cropped]]
    for chosen in (references, others):
        specs = [_spec(sample, own, size, num_inference_steps) for sample, own in zip(cropped, chosen, strict=True)]
        # One at a time: training has filled most of the memory.
        rows.append([pipeline.run(spec)[0].image for spec in specs])
    return grid(rows)


def _spec(
    sample: TrainingSample, references: Sequence[Image.Image], size: Size, num_inference_steps: int
) -> GenerationSpec:
    """The request for a sample's picture, with its own or others' references; the last one stands in for missing ones."""
    subjects = tuple(
        Subject(subject.phrase, references[min(number, len(references) - 1)], subject.box)
        for number, subject in enumerate(sample.subjects)
    )
    return GenerationSpec(
        sample.caption,
        subjects,
        height=size.height,
        width=size.width,
        num_inference_steps=num_inference_steps,
        seed=0,
    )
