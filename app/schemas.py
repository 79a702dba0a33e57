"""JSON resources that the API answers with."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.examples import JOB_EXAMPLE
from ms_core.spec import MAX_SEED, GenerationWarning
from ms_jobs.records import (
    JOB_ID_PATTERN,
    MAX_IMAGES,
    MODEL_NAME_PATTERN,
    SHA256_PATTERN,
    JobState,
)

PICTURE_SEED = (
    "The seed that gives this picture in its first draw. If the last draw that was kept drew one subject's place: the seed that "
    "gives it with the same `score` and `retries`."
)


class SubjectScoreResource(BaseModel):
    """Score of one subject in a picture, estimated by the model's own scorer.

    The numbers are null if each of the subject's references has only one colour or is unlike what the scorer knows.
    """

    subject: int = Field(description="Position of the subject in the request, counted from 0.")
    present: float | None = Field(description="Probability, from 0 to 1, that the subject is in its box.")
    identity: float | None = Field(
        description="Probability, from 0 to 1, that it is the subject of the reference, not a lookalike."
    )
    box_iou: float | None = Field(
        description="Estimated overlap of the subject drawn with the area it should fill: intersection over union, 0 to 1."
    )


class RedrawResource(BaseModel):
    """One draw of a picture after its first."""

    subject: int | None = Field(
        description="Position of the subject at whose place alone the picture was drawn again; null: all of it was."
    )
    kept: bool = Field(description="Whether this draw was better than the best before it, and took its place.")


class ScoreResource(BaseModel):
    """Score of one picture."""

    draws: int = Field(description="Number of draws; the one whose weakest subject is best was kept.")
    subjects: list[SubjectScoreResource] = Field(
        description="One for each subject; scenes and subjects without a picture have none."
    )
    redraws: list[RedrawResource] = Field(description="The draws after the first, in order.")


class ImageResource(BaseModel):
    """A finished picture."""

    index: int = Field(description="Position in the job, counted from 0.")
    url: str = Field(description="URL of its file, relative to the service's address.")
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    seed: int = Field(description=PICTURE_SEED)
    sha256: str = Field(
        description="SHA-256 of the file's bytes.", json_schema_extra={"pattern": f"^{SHA256_PATTERN}$"}
    )
    content_type: str = Field(description="`image/png`, `image/webp` or `image/jpeg`, as `output_format` says.")
    score: ScoreResource | None = Field(description="Null unless the request has `score`.")


class ProgressResource(BaseModel):
    """Progress of a running job."""

    phase: str | None = Field(description="Current phase.")
    step: int | None = Field(description="Denoising steps done.")
    steps: int | None = Field(description="Denoising steps in total.")
    fraction: float = Field(description="Fraction of the denoising that is done, from 0 to 1.")


class JobErrorResource(BaseModel):
    """Why a job failed or expired."""

    type: str = Field(description="URL that describes this kind of problem.")
    title: str = Field(description="Kind of problem.")
    status: int = Field(description="HTTP status of this kind of problem.")
    code: str = Field(description="Stable error code.")
    detail: str = Field(description="What went wrong and what to do.")


class TimingsResource(BaseModel):
    """Durations so far; the time of lost attempts counts as queued."""

    queued_s: float = Field(description="Seconds from acceptance to the start of the latest attempt.")
    running_s: float | None = Field(
        description="Seconds from that start to the end; null until a worker starts the job."
    )


class ReferenceResource(BaseModel):
    """What the model sees of one subject."""

    subject: int = Field(description="Position of the subject in the request, counted from 0.")
    url: str = Field(description="URL of its PNG, relative to the service's address.")


class SignedUrls(BaseModel):
    """URLs that need no key, for pages that cannot send one."""

    expires_at: datetime = Field(description="When they stop working.")
    events: str = Field(description="Live events.")
    images: list[str] = Field(description="The files of the pictures, in their order; empty unless the job succeeded.")
    references: list[str] = Field(description="What the model sees of subjects, in the order of `references`.")


class JobUrls(BaseModel):
    """URLs of a job, relative to the service's address."""

    job: str = Field(serialization_alias="self", description="GET shows the job, DELETE deletes it.")
    events: str = Field(description="Live events.")
    cancel: str = Field(description="POST cancels the job.")
    retry: str = Field(description="POST runs the job again, once it has ended.")
    request: str = Field(description="GET shows what was asked for.")
    signed: SignedUrls | None = Field(description="Only in the answer to `GET /jobs/{job_id}?signed=true`.")


class JobResource(BaseModel):
    """A job."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str = Field(
        description="16 to 64 letters, digits, `-` and `_`.", json_schema_extra={"pattern": f"^{JOB_ID_PATTERN}$"}
    )
    status: JobState = Field(description="`succeeded`, `failed`, `canceled` and `expired` are final.")
    version: int = Field(description="Grows with every change.")
    owner: str = Field(description="Whose it is.")
    model: str = Field(description="Name of the model.")
    position: int | None = Field(description="Jobs ahead of it in the queue; null if it is not in the queue.")
    eta_seconds: float | None = Field(
        description="Estimated time until it ends, from past jobs; null if unknown, and after the end."
    )
    cancel_requested: bool = Field(description="Whether it will end as canceled.")
    progress: ProgressResource | None = Field(description="Null until a worker starts the job.")
    seed: int = Field(description="Seed of the first picture.")
    images: list[ImageResource] = Field(description="Finished pictures; empty unless the job succeeded.")
    references: list[ReferenceResource] = Field(
        description="What the model sees of each subject with `cutout`; available soon after the start."
    )
    warnings: list[GenerationWarning] = Field(description="Warnings; the job still runs.")
    error: JobErrorResource | None = Field(description="Set if the job failed or expired.")
    retried_from: str | None = Field(description="Id of the job that this one retries.")
    attempt: int = Field(description="Number of attempts started.")
    device: str | None = Field(description="Device it runs on, or ran on last.")
    created_at: datetime = Field(description="When it was accepted.")
    started_at: datetime | None = Field(description="When the latest attempt started.")
    ended_at: datetime | None = Field(description="When it ended; null until then.")
    expires_at: datetime | None = Field(
        description="When it is deleted with all its pictures; null until it has ended."
    )
    cancel_at: datetime | None = Field(description="It is canceled if it has not ended by then.")
    start_before: datetime | None = Field(description="It expires if it has not started by then.")
    timings: TimingsResource = Field(description="Durations so far.")
    urls: JobUrls = Field(description="URLs of the job.")


class RequestResource(BaseModel):
    """What a job was asked for."""

    job: str = Field(description="Id of the job.")
    model: str = Field(description="Name of the model.")
    seed: int = Field(description="Seed of the first picture, also if the request left it out.")
    request: dict[str, Any] = Field(
        description="The body of `POST /generate`, without fields that were left out or have their defaults. In place of "
        "each picture stands the URL of its PNG, relative to the service's address."
    )


class MadeResource(BaseModel):
    """How a picture was made, beside what was asked for."""

    model_config = ConfigDict(strict=True)

    model: str = Field(pattern=rf"^{MODEL_NAME_PATTERN}$", description="Name of the model.")
    image_index: int = Field(ge=0, lt=MAX_IMAGES, description="Position of the picture in its job, counted from 0.")
    seed: int = Field(ge=0, le=MAX_SEED, description=PICTURE_SEED)
    versions: dict[str, str] = Field(description="Versions of the service and of what computed the picture.")


class InspectionResource(BaseModel):
    """What a picture says of how it was made."""

    recipe: dict[str, Any] | None = Field(
        description="The body of `POST /generate` that makes the picture again, with pictures by their SHA-256; null without one."
    )
    made: MadeResource | None = Field(description="How it was made; null without a recipe.")
    missing: list[Annotated[str, Field(json_schema_extra={"pattern": f"^{SHA256_PATTERN}$"})]] = Field(
        description="SHA-256 of the recipe's pictures that are not kept here any more."
    )
    detail: str | None = Field(description="Why there is no recipe; null with one.")


class JobsPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobResource] = Field(description="At most `limit` jobs.")
    next_cursor: str | None = Field(description="Value of `cursor` for the next page; null on the last page.")
    next: str | None = Field(
        description="URL of the next page, relative to the service's address; null on the last page."
    )


class SizeResource(BaseModel):
    """Size of a picture."""

    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")


class DefaultsResource(BaseModel):
    """The model's defaults for fields that a request leaves out."""

    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    num_inference_steps: int
    guidance_scale: float
    scale: float = Field(description="Strength of the subjects.")
    negative_prompt: str
    scheduler: str


class PresetLoraResource(BaseModel):
    """A LoRA that a preset adds."""

    name: str
    weight: float


class PresetResource(BaseModel):
    """A named set of values; null means the model's default."""

    name: str = Field(description="Value for the field `preset`.")
    description: str
    available: bool = Field(description="Whether the model has all its LoRAs.")
    num_inference_steps: int | None
    guidance_scale: float | None
    scale: float | None
    scheduler: str | None
    timestep_spacing: str | None
    loras: list[PresetLoraResource]


class AbilitiesResource(BaseModel):
    """What a model can do, as reported by its workers."""

    defaults: DefaultsResource
    max_width: int = Field(description="In pixels.")
    max_height: int = Field(description="In pixels.")
    max_subjects: int = Field(description="Most subjects seen in training; more run with a warning.")
    sizes: list[SizeResource] = Field(description="Recommended sizes; pictures far from all of them are worse.")
    presets: list[PresetResource]
    loras: list[str] = Field(description="Names for the field `loras`.")
    controls: list[str] = Field(description="Names of ControlNets for the field `controls`.")
    embeddings: list[str] = Field(description="Extra words for the prompt, from textual inversions.")
    scores: bool = Field(description="Whether the model can score its pictures; `score` and `retries` need it.")
    licence: str = Field(description="Licence of the weights.")
    schedulers: list[str] = Field(
        description="Names for the field `scheduler`, as the model spaces its steps. Others may work with another "
        "`timestep_spacing` or from a start picture."
    )
    auto_layout: bool = Field(description="Whether the model can place subjects by itself, as `layout` asks.")
    backgrounds: list[str] = Field(
        description="Backgrounds, as the prompt names them, that a small model was trained on, if it knows no others; "
        "empty for models that follow any words."
    )
    treatments: list[str] = Field(description="The same for treatments of the whole picture or of its subjects.")


class ModelResource(BaseModel):
    """A model of this service."""

    name: str
    ready: bool = Field(description="Whether a worker serves it now; jobs are accepted either way.")
    abilities: AbilitiesResource | None = Field(description="Null until a worker has loaded the model.")


class ModelsResource(BaseModel):
    """All models of this service."""

    models: list[ModelResource]


class CheckResource(BaseModel):
    """One readiness check."""

    ok: bool
    detail: str


class ReadinessResource(BaseModel):
    """Whether the service can make pictures."""

    status: Literal["ready", "degraded", "starting", "unavailable"]
    phase: str | None = Field(description="What the service waits for while it starts.")
    checks: dict[str, CheckResource]
    warnings: list[str] = Field(
        default=[], description="What may lose jobs, such as a Redis that keeps no append-only file, or deletes keys."
    )


class LivenessResource(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class ProblemTypeResource(BaseModel):
    """A kind of problem."""

    code: str
    status: int
    title: str
