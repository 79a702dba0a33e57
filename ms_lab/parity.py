"""Parity with the official code: the cases of a folder laid out like ``tests/golden``, through the public pipeline."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - PathLike's parameter is open
from torch import Tensor

from ms_core.conditions.references import ReferencePreprocessor
from ms_core.config import ModelCard
from ms_core.errors import CheckpointError, ModelNotFoundError, MSDiffusionError
from ms_core.method.checkpoint import load_official_adapter
from ms_core.model_dir.loading import IMAGE_ENCODER, load_image_encoder, load_sdxl
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline
from ms_core.spec import AutoLayout, Box, GenerationSpec, Subject

CASES = "cases"
SDXL = "tiny-sdxl"
OFFICIAL_ADAPTER = "ms_adapter.bin"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one case went.

    Attributes:
        name: of the case's files.
        max_difference: largest absolute difference of the final latents; ``None`` if there is nothing to compare.
        failure: a sentence if the case could not be run, or another phrase span was found; else ``None``.
    """

    name: str
    max_difference: float | None = None
    failure: str | None = None

    def passed(self, tolerance: float) -> bool:
        """Whether the case ran and its difference, which may be NaN, is within ``tolerance``."""
        return self.failure is None and self.max_difference is not None and self.max_difference <= tolerance


def run_parity(directory: Path, resampler_heads: int) -> Generator[CaseResult]:
    """Run every case of a folder, in float32 on the CPU.

    Args:
        directory: holds ``tiny-sdxl/``, ``image_encoder/``, ``ms_adapter.bin``, ``references/`` and ``cases/``.
        resampler_heads: of the adapter, which the official file does not state.

    Raises:
        ModelNotFoundError: the folder, its cases or a part of the model is missing.
        CheckpointError: a part of the model cannot be used.
    """
    paths = sorted((directory / CASES).glob("*.json"))
    if not paths:
        raise ModelNotFoundError(f"{directory} holds no cases: there is no {CASES}/*.json in it.")
    pipeline = load_parity_pipeline(directory, resampler_heads)
    for path in paths:
        try:
            yield _run_case(pipeline, path, directory)
        except MSDiffusionError as error:
            yield CaseResult(path.stem, failure=error.detail)


def load_parity_pipeline(directory: Path, resampler_heads: int) -> MSDiffusionPipeline:
    """The folder's model behind the public pipeline; errors as ``run_parity``."""
    components = load_sdxl(directory / SDXL, torch.float32)
    adapter = load_official_adapter(directory / OFFICIAL_ADAPTER, components.unet, resampler_heads)
    card = ModelCard(name="parity", resampler=adapter.resampler.config)
    image_encoder = load_image_encoder(directory / IMAGE_ENCODER, torch.float32)
    preprocessor = ReferencePreprocessor.load(directory / IMAGE_ENCODER, card.reference)
    return MSDiffusionPipeline(ModelParts(components, image_encoder, preprocessor, adapter.float(), card))


def _run_case(pipeline: MSDiffusionPipeline, path: Path, directory: Path) -> CaseResult:
    case = _read_case(path)
    expected = _read_latents(path.with_suffix(".safetensors"))
    spec = _spec(case, path.name, directory)
    found = pipeline.conditioner.phrase_spans(spec)
    wanted = _phrase_spans(case)
    if found != wanted:
        return CaseResult(path.stem, failure=f"The phrases are at {wanted}; ours found {found}.")
    latents = pipeline.run(spec)[0].latents
    if latents.shape != expected.shape:
        return CaseResult(path.stem, failure=f"Latents are {tuple(latents.shape)}, not {tuple(expected.shape)}.")
    return CaseResult(path.stem, max_difference=float((latents - expected).abs().max()))


def _read_case(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON: {error}") from error


def _read_latents(path: Path) -> Tensor:
    try:
        return load_file(path)["latents"]
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path.name} is missing.") from error
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} holds no readable latents: {error}") from error


def _spec(case: dict[str, Any], name: str, directory: Path) -> GenerationSpec:
    try:
        threshold = case["mask_threshold"]
        return GenerationSpec(
            prompt=case["prompt"],
            subjects=_subjects(case, directory),
            negative_prompt=case["negative_prompt"],
            height=case["height"],
            width=case["width"],
            num_inference_steps=case["num_inference_steps"],
            guidance_scale=case["guidance_scale"],
            scale=case["scale"],
            seed=case["seed"],
            layout=None if threshold is None else AutoLayout(threshold, case["start_step"]),
            grounding=not case["drop_grounding_tokens"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} is not a parity case: {error!r}.") from error


def _subjects(case: dict[str, Any], directory: Path) -> tuple[Subject, ...]:
    scales = case["subject_scales"]
    if scales is None:
        scales = [None] * len(case["phrases"])
    rows = zip(case["phrases"], case["references"], case["boxes"], scales, strict=True)
    return tuple(Subject(phrase, _open(directory / image), _box(box), scale) for phrase, image, box, scale in rows)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except OSError as error:
        raise ModelNotFoundError(f"The reference {path.name} is missing or no picture.") from error


def _box(numbers: list[float]) -> Box | None:
    """A case's box; its four zeros mean no layout."""
    return Box(*numbers) if any(numbers) else None


def _phrase_spans(case: dict[str, Any]) -> tuple[tuple[int, int] | None, ...]:
    """A case's spans; the official ``[0, 0]`` means not found."""
    return tuple(None if start == end else (start, end) for start, end in case["phrase_token_spans"])
