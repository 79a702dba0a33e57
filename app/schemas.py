"""What goes out as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.examples import JOB_EXAMPLE
from worker.contract import JobState


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


class ReferenceResource(BaseModel):
    """What the model sees of one subject."""

    subject: int = Field(description="Position of the subject in the request, counted from 0.")
    url: str = Field(description="Where its PNG is, below the service's address.")


class JobUrls(BaseModel):
    """Where to ask further, below the service's address."""

    job: str = Field(serialization_alias="self")
    events: str = Field(description="Watch it live.")
    cancel: str
    retry: str = Field(description="Run it once more, when it has ended.")


class JobResource(BaseModel):
    """A job as it stands now."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    id: str
    status: JobState
    version: int = Field(description="Grows with every change.")
    model: str
    position: int | None = Field(description="Jobs ahead of it in the queue; null unless it waits there.")
    eta_seconds: float | None = Field(
        description="Until its end, as far as can be told from past jobs; null when it cannot, and after the end."
    )
    cancel_requested: bool = Field(description="It will end as canceled.")
    progress: ProgressResource | None = Field(description="Null before a worker has begun.")
    seed: int = Field(description="Of the first picture.")
    images: list[ImageResource]
    references: list[ReferenceResource] = Field(
        description="What the model sees of each subject that asked for a cut-out; known soon after a worker has begun."
    )
    warnings: list[WarningResource]
    error: JobErrorResource | None = Field(description="Set if the job failed or expired.")
    retried_from: str | None = Field(description="Id of the job that this one repeats.")
    attempt: int = Field(description="How often a worker has begun it.")
    device: str | None = Field(description="What it runs on.")
    created_at: datetime
    started_at: datetime | None = Field(description="Of the latest attempt.")
    ended_at: datetime | None
    expires_at: datetime | None = Field(
        description="When it is removed with all its pictures; known when it has ended."
    )
    cancel_at: datetime | None = Field(description="It is canceled if it has not ended by then.")
    start_before: datetime | None = Field(description="It expires if it has not begun by then.")
    timings: TimingsResource
    urls: JobUrls


class JobsPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobResource]
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
