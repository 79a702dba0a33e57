"""diffusers' own SDXL pipelines on the tiny golden model: what ours must equal where no subject acts."""

from __future__ import annotations

from functools import cache
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from tests.support.paths import GOLDEN

# Written out here once more: which class and which of its numbers a name stands for.
DIFFUSERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}

HEIGHT, WIDTH = 64, 72
STEPS = 4


@cache
def _components() -> dict[str, Any]:
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        GOLDEN / "tiny-sdxl", image_encoder=None, feature_extractor=None, add_watermarker=False
    )
    return pipeline.components


def plain_sdxl(kind: type[Any], scheduler: Any, **more: Any) -> Any:
    """A diffusers pipeline of class ``kind`` with a scheduler of its own, and components such as ``controlnet``."""
    pipeline = kind(**{**_components(), "scheduler": scheduler, **more}, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def diffusers_scheduler(name: str, **changes: Any) -> Any:
    """What one of our names stands for, as its diffusers class makes it from the golden model's config."""
    kind, fixed = DIFFUSERS[name]
    config = _components()["scheduler"].config
    public = {key: value for key, value in config.items() if not key.startswith("_")}
    return getattr(diffusers, kind).from_config({**public, **fixed, **changes})


def plain_latents(pipeline: Any, spec: GenerationSpec, **more: Any) -> torch.Tensor:
    """Final latents of the diffusers pipeline for the text, size, steps, guidance and seed of a spec."""
    return pipeline(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        generator=[torch.Generator().manual_seed(spec.seed)],
        output_type="latent",
        **more,
    ).images


def size_of(spec: GenerationSpec) -> dict[str, Any]:
    """Arguments for those pipelines that do not take the size from a picture."""
    return {"height": spec.height, "width": spec.width}


def silent_spec(picture: Any, **changes: Any) -> GenerationSpec:
    """A spec with one subject that acts nowhere: its scale is zero."""
    values = {
        "prompt": "a dog on the beach",
        "subjects": (Subject("dog", picture, Box(0.1, 0.2, 0.6, 0.9)),),
        "negative_prompt": "blurry",
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "scale": 0.0,
        "seed": 7,
        "scheduler": "euler",
    }
    return GenerationSpec(**{**values, **changes})


def our_latents(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> torch.Tensor:
    """Final latents of our pipeline."""
    return pipeline.run(spec)[0].latents
