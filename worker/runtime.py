"""Adapts the process's loaded pipeline to the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from ms_core.config import ModelCard
from ms_core.device.modes import MemoryMode
from ms_core.errors import DeviceOutOfMemoryError, StartupError, StorageError
from ms_core.sampling.pipeline import Finished, Generation, MSDiffusionPipeline, Progress
from ms_core.sampling.previews import preview_webp
from ms_core.spec import Box, GenerationSpec, Subject, SubjectScore
from ms_core.spec.resolve import ResolvedSpec
from ms_jobs.records import PictureScore
from ms_jobs.tokenizer_files import TokenizerFiles
from worker.config import WorkerSettings
from worker.job_run import Picture, Report

log = logging.getLogger(__name__)

PACKAGES = ("ms-diffusion-service", "torch", "diffusers", "transformers")


class PipelineRuntime:
    """A warm pipeline on one device: ``setup`` once, ``run`` for each job."""

    def __init__(self, pipeline: MSDiffusionPipeline, model: str, device: str) -> None:
        self._pipeline = pipeline
        self._model = model
        self._versions = {name: _version(name) for name in PACKAGES}
        self.device = device

    @classmethod
    def setup(cls, settings: WorkerSettings, directory: Path, device: str) -> Self:
        """Load the model onto the process's device, in the memory mode of the settings.

        Args:
            device: its name in job records.

        Raises:
            StartupError: torch cannot use the process's CUDA device.
            ModelError: the model directory is incomplete, or its weights do not fit.
            InsufficientMemoryError: the device has too little free memory for the model.
        """
        on_cuda = settings.device == "cuda"
        if on_cuda and not torch.cuda.is_available():
            raise StartupError("This torch cannot use the CUDA device. Install a CUDA build, or set MSD_DEVICE=cpu.")
        place = "cuda" if on_cuda else "cpu"
        pipeline = MSDiffusionPipeline.from_pretrained(directory, device=place, memory=settings.memory_mode)
        if settings.cpu_threads is not None:
            torch.set_num_threads(settings.cpu_threads)
            pipeline.threads = settings.cpu_threads
        _warm_up(pipeline)
        _publish_tokenizer(pipeline, settings.data_dir)
        return cls(pipeline, directory.name, device)

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._pipeline.card

    @property
    def memory_mode(self) -> MemoryMode:
        """Which parts of the model stay on the device."""
        return self._pipeline.memory_mode

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        """Make one picture for each spec, in one batch; yields reports, then the pictures.

        Raises:
            InvalidInputError: the model cannot do what a spec asks.
            DeviceError: the device failed.
        """
        for event in self._pipeline.generate(specs):
            yield _pictures(event) if isinstance(event, Finished) else _report(event)

    def preview(self, subject: Subject) -> Image.Image:
        """Draw what the image encoder sees of a subject's pictures, side by side."""
        return self._pipeline.conditioner.preview(subject)

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        """Get the rest of a picture's recipe: the model, the values in force, versions."""
        resolved = ResolvedSpec.of(spec, self.card)
        return {
            "model": {"name": self._model, "card": self.card.name},
            "values": {
                "negative_prompt": resolved.negative_prompt,
                "height": resolved.height,
                "width": resolved.width,
                "num_inference_steps": resolved.num_inference_steps,
                "guidance_scale": resolved.guidance_scale,
                "scheduler": resolved.scheduler,
                "timestep_spacing": resolved.timestep_spacing,
                "preset": spec.preset,
                "loras": [{"name": lora.name, "weight": lora.weight} for lora in resolved.loras],
                "controls": list(resolved.control_names),
                "subject_scales": list(resolved.subject_scales),
            },
            "versions": self._versions,
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # run from the source tree


def _report(progress: Progress) -> Report:
    warnings = tuple(warning for row in progress.warnings for warning in row)
    preview = None if progress.preview is None else partial(_preview, progress.preview)
    return Report(progress.phase, progress.step, progress.num_inference_steps, warnings, preview)


def _preview(draw: Callable[[], Image.Image]) -> bytes:
    return preview_webp(draw())


def _warm_up(pipeline: MSDiffusionPipeline) -> None:
    """Make one picture of one step, so that the first job does not wait for what is prepared once: kernels, memory."""
    subject = Subject("subject", Image.new("RGB", (64, 64)), Box(0.25, 0.25, 0.75, 0.75))
    spec = GenerationSpec("subject", (subject,), num_inference_steps=1, seed=0)
    try:
        pipeline.run(spec)
    except DeviceOutOfMemoryError:
        log.warning("too little memory is free for a picture of the model's own size; smaller ones may work")


def _publish_tokenizer(pipeline: MSDiffusionPipeline, data_dir: Path) -> None:
    """Store the tokenizer that the card names, so that the API can count tokens; pictures do not need it."""
    try:
        TokenizerFiles(data_dir).save(pipeline.conditioner.tokenizer.document)
    except StorageError as error:
        log.warning("the tokenizer is not published: %s", error.detail)


def _pictures(finished: Finished) -> list[Picture]:
    return [_picture(generation) for generation in finished.generations]


def _picture(generation: Generation) -> Picture:
    score = _picture_score(generation) if generation.scores else None
    return Picture(generation.image, generation.warnings, generation.seed, score)


def _picture_score(generation: Generation) -> PictureScore:
    """Convert scores, rounded: no estimate is better than a hundredth, and Redis stores them all."""
    subjects = (
        None if score is None else SubjectScore(*(None if value is None else round(value, 2) for value in score))
        for score in generation.scores
    )
    return PictureScore(generation.draws, tuple(subjects), generation.redraws)
