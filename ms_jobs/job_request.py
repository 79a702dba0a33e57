"""What a job asks for: the picture, and what belongs to the job; on the wire, in memory, and as the artifact store "
"keeps it."""

from __future__ import annotations

from dataclasses import field, fields
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from ms_core.spec import MAX_SEED, GenerationSpec, Pictures
from ms_core.spec.declared import changed, declared
from ms_core.spec.fields import in_range
from ms_jobs.records import MAX_IMAGES, MODEL_NAME_PATTERN

if TYPE_CHECKING:
    pass


@declared()
class GenerateRequest(GenerationSpec):
    """A picture to make. Fields that are left out take the model's defaults."""

    # A request without a seed gets one when it is accepted; a spec has one always.
    seed: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        Annotated[int, in_range(0, MAX_SEED)] | None,
        Field(
            description="The same seed and request give the same picture. If left out, a seed is drawn and "
            "reported in the job."
        ),
    ] = None
    num_images: Annotated[
        int,
        in_range(1, MAX_IMAGES),
        Field(description="How many pictures; each uses the next seed."),
    ] = 1
    previews: Annotated[
        bool,
        Field(description="Whether to make small previews of the first picture, for clients that watch the job live."),
    ] = False


@declared()
class JobRequest(GenerateRequest):
    """A request that was accepted: its seed is drawn, and its model named."""

    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")] = field(kw_only=True)

    @classmethod
    def of(cls, request: GenerateRequest, seed: int, model: str) -> JobRequest:
        """The request of a job, of checked values."""
        values: dict[str, Any] = {item.name: getattr(request, item.name) for item in fields(GenerateRequest)}
        return cls(**values | {"seed": seed, "model": model})

    def specs(self) -> list[GenerationSpec]:
        """One spec for each picture: the seed counts up, wrapping at 2**53.

        Raises:
            InvalidInputError: the values do not fit each other.
        """
        values = {item.name: getattr(self, item.name) for item in fields(GenerationSpec)}
        spec = GenerationSpec(**values)
        return [changed(spec, seed=(spec.seed + index) % (MAX_SEED + 1)) for index in range(self.num_images)]


REQUEST: TypeAdapter[GenerateRequest] = TypeAdapter(GenerateRequest)
_JOB_REQUEST: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)


def read_job_request(text: bytes, pictures: Pictures) -> JobRequest:
    """What ``job_document`` wrote, in this version or an earlier one.

    Raises:
        pydantic.ValidationError: it cannot be read.
    """
    document = from_json(text)
    if isinstance(document, dict) and isinstance(document.get("layout"), dict):
        # Stored layouts are automatic ones always, and do not say so.
        document = cast("dict[str, Any]", document) | {"layout": document["layout"] | {"mode": "auto"}}
    return _JOB_REQUEST.validate_python(document, strict=False, context=pictures)


def job_document(request: JobRequest, pictures: Pictures) -> dict[str, Any]:
    """The request as JSON-ready data: pictures by their SHA-256, everything else as it was asked."""
    return _JOB_REQUEST.dump_python(request, mode="json", by_alias=True, context=pictures, exclude={"layout": {"mode"}})
