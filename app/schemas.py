"""What comes in and goes out as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.examples import JOB_EXAMPLE, REQUEST_EXAMPLES
from app.fields import SUBJECT_COUNT, BoxField, PictureField, in_range, known_scheduler, side_in_pixels, text
from ms_core.spec import (
    MAX_GUIDANCE_SCALE,
    MAX_PHRASE_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_STEPS,
    MAX_SUBJECT_SCALE,
    MAX_SUBJECTS,
)
from worker.contract import MAX_IMAGES, JobState

Scale = Annotated[float, in_range(0, MAX_SUBJECT_SCALE)]
Side = Annotated[int, side_in_pixels()]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SubjectRequest(_Strict):
    """One subject: how it looks, what it is called, and where it stands."""

    phrase: Annotated[
        str, text(MAX_PHRASE_CHARACTERS, "A subject needs a phrase: the words that name it in the prompt.")
    ] = Field(description="The words that name the subject, best as they stand in the prompt.")
    image: PictureField = Field(
        description="The reference picture: a data URI with a PNG, JPEG or WebP in base64, at most 50 megapixels. "
        "Transparency is kept, the EXIF turn is applied, all other metadata is dropped."
    )
    box: BoxField = Field(
        default=None, description="Where the subject stands in the picture. May be left out with auto layout only."
    )
    scale: Scale | None = Field(
        default=None, description="Strength of this subject; replaces the request's scale, never multiplies it."
    )


class AutoLayoutRequest(_Strict):
    """Let the model find the places of the subjects from the prompt."""

    mode: Literal["auto"]
    threshold: Annotated[float, in_range(0, 1)] = Field(
        default=0.5, description="How strongly a place must attend to a phrase to belong to its subject."
    )
    start_step: Annotated[int, in_range(1, MAX_STEPS)] = Field(
        default=5, description="The step, counted from 1, from which the found places act."
    )


def _none_for_boxes(value: Any) -> Any:
    return None if value == "boxes" else value


class GenerateRequest(_Strict):
    """A picture to be made. What is left out takes the model's default."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, json_schema_extra={"examples": REQUEST_EXAMPLES}
    )

    prompt: Annotated[str, text(MAX_PROMPT_CHARACTERS, "The prompt is empty: say what the picture shows.")] = Field(
        description="What the picture shows. What the model's text encoder cannot read is cut off, with a warning."
    )
    subjects: Annotated[list[SubjectRequest], SUBJECT_COUNT] = Field(
        description="More subjects than the model was trained with run with a warning.",
        json_schema_extra={"minItems": 1, "maxItems": MAX_SUBJECTS},
    )
    negative_prompt: Annotated[str, text(MAX_PROMPT_CHARACTERS)] | None = Field(
        default=None, description='What the picture should not show; "" switches the model\'s default off.'
    )
    width: Side | None = Field(default=None, description="Of the picture, in pixels.")
    height: Side | None = Field(default=None, description="Of the picture, in pixels.")
    num_images: Annotated[int, in_range(1, MAX_IMAGES)] = Field(
        default=1, description="How many pictures; the seed counts up from one to the next."
    )
    num_inference_steps: Annotated[int, in_range(1, MAX_STEPS)] | None = Field(
        default=None, description="More steps take longer and look better, up to a point."
    )
    guidance_scale: Annotated[float, in_range(0, MAX_GUIDANCE_SCALE)] | None = Field(
        default=None, description="How strongly the picture follows the prompt; 1 or less switches guidance off."
    )
    scale: Scale | None = Field(default=None, description="Strength of all subjects without a scale of their own.")
    seed: Annotated[int, in_range(0, MAX_SEED)] | None = Field(
        default=None, description="Same seed and request, same picture. Left out: drawn, and reported in the job."
    )
    layout: Annotated[
        AutoLayoutRequest | None,
        BeforeValidator(_none_for_boxes, json_schema_input_type=Literal["boxes"] | AutoLayoutRequest | None),
    ] = Field(default=None, description='"boxes" (the default) takes the subjects\' boxes; the auto mode finds places.')
    grounding: bool = Field(default=True, description="Whether phrase and box steer how a reference is read.")
    scheduler: Annotated[str, known_scheduler()] | None = Field(default=None, description="The sampler.")


class ImageResource(BaseModel):
    """One finished picture."""

    index: int
    url: str = Field(description="Where its PNG is, below the service's address.")
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    seed: int = Field(description="The seed that makes this very picture.")
    sha256: str = Field(description="Of the PNG's bytes.")
    content_type: str


class ProgressResource(BaseModel):
    """How far a running job is."""

    phase: str | None = Field(description="What the worker is doing.")
    step: int | None = Field(description="Denoising steps done.")
    steps: int | None = Field(description="Denoising steps in all.")
    fraction: float = Field(description="Part of the denoising that is done, from 0 to 1.")


class WarningResource(BaseModel):
    """Something to know about a job that runs all the same."""

    code: str
    detail: str
    pointer: str = Field(description="RFC 6901 pointer into the request; empty if it concerns the whole.")


class JobErrorResource(BaseModel):
    """Why a job failed."""

    type: str
    title: str
    status: int
    code: str
    detail: str


class TimingsResource(BaseModel):
    """Seconds spent so far; null before it has begun."""

    queued_s: float
    running_s: float | None


class JobUrls(BaseModel):
    """Where to ask further, below the service's address."""

    job: str = Field(serialization_alias="self")
    cancel: str


class JobResource(BaseModel):
    """A job as it stands now."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str
    status: JobState
    version: int = Field(description="Grows with every change.")
    model: str
    position: int | None = Field(description="Jobs ahead of it in the queue; null unless it is queued.")
    cancel_requested: bool = Field(description="It will end as canceled.")
    progress: ProgressResource | None = Field(description="Null before a worker has begun.")
    seed: int = Field(description="Of the first picture.")
    images: list[ImageResource]
    warnings: list[WarningResource]
    error: JobErrorResource | None = Field(description="Set if the job failed.")
    attempt: int = Field(description="How often a worker has begun it.")
    device: str | None = Field(description="What it runs on.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    timings: TimingsResource
    urls: JobUrls


class CheckResource(BaseModel):
    """One thing the service needs."""

    ok: bool
    detail: str


class ReadinessResource(BaseModel):
    """Whether the service can make pictures."""

    status: Literal["ready", "degraded", "starting", "unavailable"]
    phase: str | None = Field(description="What the service waits for while it is starting.")
    checks: dict[str, CheckResource]


class LivenessResource(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ProblemTypeResource(BaseModel):
    """What a kind of problem means."""

    code: str
    status: int
    title: str
