"""What goes out as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.examples import JOB_EXAMPLE
from ms_core.spec import GenerationWarning
from ms_jobs.records import JobState


class SubjectScoreResource(BaseModel):
    """How well one subject of a picture turned out, as the model's own scorer estimates it."""

    subject: int = Field(description="Position of the subject in the request, counted from 0.")
    present: float = Field(description="Probability, from 0 to 1, that it stands in its box at all.")
    identity: float = Field(
        description="Probability, from 0 to 1, that it is the one of the reference, and not one that only looks like it."
    )
    box_iou: float = Field(
        description="Estimated overlap of what stands there with what would fill the box: intersection over union, 0 to 1."
    )


class ScoreResource(BaseModel):
    """How well a picture turned out."""

    draws: int = Field(description="How often it was drawn; the draw whose weakest subject is best was kept.")
    subjects: list[SubjectScoreResource] = Field(description="Of all subjects but scenes, which fill the picture.")


class ImageResource(BaseModel):
    """One finished picture."""

    index: int = Field(description="Counted from 0.")
    url: str = Field(description="Where its PNG is, below the service's address.")
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    seed: int = Field(description="The seed that makes this very picture, in its first draw.")
    sha256: str = Field(description="Of the PNG's bytes.")
    content_type: str = Field(description="`image/png`.")
    score: ScoreResource | None = Field(description="Null unless `score` was asked for.")


class ProgressResource(BaseModel):
    """How far a running job is."""

    phase: str | None = Field(description="What the worker is doing.")
    step: int | None = Field(description="Denoising steps done.")
    steps: int | None = Field(description="Denoising steps in all.")
    fraction: float = Field(description="Part of the denoising that is done, from 0 to 1.")


class JobErrorResource(BaseModel):
    """Why a job failed or expired, as a problem."""

    type: str = Field(description="Where this kind of problem is described.")
    title: str = Field(description="The kind of problem.")
    status: int = Field(description="The HTTP status that such a problem has as an answer.")
    code: str = Field(description="Stable name of the error.")
    detail: str = Field(description="What went wrong and what to do.")


class TimingsResource(BaseModel):
    """Where the time went so far; what attempts took that were lost counts as waiting."""

    queued_s: float = Field(description="Seconds from its acceptance to the begin of the latest attempt.")
    running_s: float | None = Field(description="Seconds since then, until its end; null before a worker has begun.")


class ReferenceResource(BaseModel):
    """What the model sees of one subject."""

    subject: int = Field(description="Position of the subject in the request, counted from 0.")
    url: str = Field(description="Where its PNG is, below the service's address.")


class JobUrls(BaseModel):
    """Where to ask further, below the service's address."""

    job: str = Field(serialization_alias="self", description="See it with GET, erase it with DELETE.")
    events: str = Field(description="Watch it live.")
    cancel: str = Field(description="End it, with POST.")
    retry: str = Field(description="Run it once more when it has ended, with POST.")


class JobResource(BaseModel):
    """A job as it stands now."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str = Field(description="16 to 64 letters, digits, `-` and `_`.")
    status: JobState = Field(description="The last four are ends: then it changes no more.")
    version: int = Field(description="Grows with every change.")
    model: str = Field(description="Name of the model that makes it.")
    position: int | None = Field(description="Jobs ahead of it in the queue; null unless it waits there.")
    eta_seconds: float | None = Field(
        description="Until its end, as far as can be told from past jobs; null when it cannot, and after the end."
    )
    cancel_requested: bool = Field(description="It will end as canceled.")
    progress: ProgressResource | None = Field(description="Null before a worker has begun.")
    seed: int = Field(description="Of the first picture.")
    images: list[ImageResource] = Field(description="The finished pictures; empty unless it succeeded.")
    references: list[ReferenceResource] = Field(
        description="What the model sees of each subject that asked for a cut-out; known soon after a worker has begun."
    )
    warnings: list[GenerationWarning] = Field(description="What to know about it although it was accepted.")
    error: JobErrorResource | None = Field(description="Set if the job failed or expired.")
    retried_from: str | None = Field(description="Id of the job that this one repeats.")
    attempt: int = Field(description="How often a worker has begun it.")
    device: str | None = Field(description="What it runs on.")
    created_at: datetime = Field(description="When it was accepted.")
    started_at: datetime | None = Field(description="Of the latest attempt.")
    ended_at: datetime | None = Field(description="Null until then.")
    expires_at: datetime | None = Field(
        description="When it is removed with all its pictures; known when it has ended."
    )
    cancel_at: datetime | None = Field(description="It is canceled if it has not ended by then.")
    start_before: datetime | None = Field(description="It expires if it has not begun by then.")
    timings: TimingsResource = Field(description="Where the time went so far.")
    urls: JobUrls = Field(description="Where to ask further.")


class JobsPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobResource] = Field(description="At most `limit`.")
    next_cursor: str | None = Field(description="For the parameter `cursor`; null on the last page.")
    next: str | None = Field(description="Where the next page is, below the service's address.")


class SizeResource(BaseModel):
    """The sides of a picture."""

    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")


class DefaultsResource(BaseModel):
    """What the model takes for fields that a request leaves out."""

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
    """A named set of values; null where it leaves the model's default."""

    name: str = Field(description="For the field `preset` of a request.")
    description: str
    available: bool = Field(description="Whether the model has all of its LoRAs.")
    num_inference_steps: int | None
    guidance_scale: float | None
    scale: float | None
    scheduler: str | None
    timestep_spacing: str | None
    loras: list[PresetLoraResource]


class AbilitiesResource(BaseModel):
    """What a model can do, as its workers tell."""

    defaults: DefaultsResource
    max_width: int = Field(description="In pixels.")
    max_height: int = Field(description="In pixels.")
    max_subjects: int = Field(description="Most subjects seen in training; more run with a warning.")
    sizes: list[SizeResource] = Field(description="Usual sizes; far from all of them the model draws worse.")
    presets: list[PresetResource]
    loras: list[str] = Field(description="Names for the field `loras`.")
    controls: list[str] = Field(description="Names of ControlNets for the field `controls`.")
    embeddings: list[str] = Field(description="Words that the prompt may use beside all others.")
    scores: bool = Field(description="Whether the model can score its pictures, for the fields `score` and `retries`.")
    licence: str = Field(description="Of the weights.")


class ModelResource(BaseModel):
    """A model that pictures can be asked of."""

    name: str
    ready: bool = Field(description="Whether a worker serves it now. Jobs are queued all the same.")
    abilities: AbilitiesResource | None = Field(description="Null until a worker has loaded the model.")


class ModelsResource(BaseModel):
    """All models of this service."""

    models: list[ModelResource]


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
