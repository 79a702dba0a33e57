"""The request of a job: the spec of its pictures and the job's own fields; as sent, in memory, and as stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields
from typing import Annotated, Any, cast

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from ms_core.errors import InvalidInputError
from ms_core.spec import MAX_SEED, GenerationSpec, Pictures
from ms_core.spec.declared import changed, declared
from ms_core.spec.fields import Integer, in_range
from ms_core.spec.pictures import KEPT
from ms_jobs.records import MAX_IMAGES, MODEL_NAME_PATTERN
from ms_jobs.result_files import DEFAULT_QUALITY, OutputFormat


# Defaults of later fields are not stored, see ``ms_core.spec.subject``.
def _is_png(value: OutputFormat) -> bool:
    return value == "png"


def _is_default_quality(value: int) -> bool:
    return value == DEFAULT_QUALITY


@declared()
class GenerateRequest(GenerationSpec):
    """A request for pictures. Fields left out take the model's defaults."""

    # A request gets a seed when it is accepted; a spec always has one.
    seed: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        Annotated[Integer, in_range(0, MAX_SEED)] | None,
        Field(
            description="The same request and seed give the same picture. Left out: random, and reported in the job."
        ),
    ] = None
    num_images: Annotated[
        Integer,
        in_range(1, MAX_IMAGES),
        Field(description="Number of pictures; the seed grows by 1 from one to the next."),
    ] = 1
    previews: Annotated[
        bool,
        Field(description="Whether to make small previews of the first picture, for clients that watch the job."),
    ] = False
    output_format: Annotated[
        OutputFormat,
        Field(
            description="Format of the files. Each carries the picture's recipe; only a PNG has exactly the pixels that were "
            "made.",
            exclude_if=_is_png,
        ),
    ] = "png"
    quality: Annotated[
        Integer,
        in_range(1, 100),
        Field(
            description="Of WebP and JPEG: a higher one makes larger files that show more.",
            exclude_if=_is_default_quality,
        ),
    ] = DEFAULT_QUALITY

    def conflicts(self) -> list[InvalidInputError]:
        """What is wrong with the picture to make, and a quality of PNG."""
        errors = GenerationSpec.conflicts(self)
        if self.output_format == "png" and self.quality != DEFAULT_QUALITY:
            detail = "A PNG loses nothing, so it has no quality; leave it out, or choose webp or jpeg as output_format."
            errors.append(InvalidInputError(detail, "/quality"))
        return errors


@declared()
class JobRequest(GenerateRequest):
    """An accepted request: with a seed and a model."""

    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")] = field(kw_only=True)

    @classmethod
    def of(cls, request: GenerateRequest, seed: int, model: str) -> JobRequest:
        """Make the request of a job from a checked request."""
        values: dict[str, Any] = {item.name: getattr(request, item.name) for item in fields(GenerateRequest)}
        return cls(**values | {"seed": seed, "model": model})

    def specs(self) -> list[GenerationSpec]:
        """Make one spec for each picture: the seed counts up, wrapping at 2**53.

        Raises:
            InvalidInputError: the values do not fit each other.
        """
        values = {item.name: getattr(self, item.name) for item in fields(GenerationSpec)}
        spec = GenerationSpec(**values)
        return [changed(spec, seed=(spec.seed + index) % (MAX_SEED + 1)) for index in range(self.num_images)]


REQUEST: TypeAdapter[GenerateRequest] = TypeAdapter(GenerateRequest)
_JOB_REQUEST: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)


def read_job_request(text: bytes, pictures: Pictures) -> JobRequest:
    """Read what ``job_document`` wrote, in any version; fields that only a newer one knows are passed over.

    Raises:
        pydantic.ValidationError: it cannot be read.
    """
    document = from_json(text)
    if isinstance(document, dict) and isinstance(document.get("layout"), dict):
        # Stored layouts are always automatic, and hold no mode.
        document = cast("dict[str, Any]", document) | {"layout": document["layout"] | {"mode": "auto"}}
    return _JOB_REQUEST.validate_python(document, strict=False, extra="ignore", context=pictures)


def asked_document(request: GenerateRequest, pictures: Pictures) -> dict[str, Any]:
    """Dump a request as it was asked for, in the form in which it is sent: pictures by their SHA-256, no defaults."""
    options = {"mode": "json", "by_alias": True, "context": pictures, "exclude_defaults": True}
    return as_sent(REQUEST.dump_python(request, **cast("Any", options)))


def filled_document(request: GenerateRequest, pictures: Pictures) -> dict[str, Any]:
    """Dump a request whose values are filled in, in the form in which it is sent: pictures as ``sha256:<hex>``."""
    document = as_sent(REQUEST.dump_python(request, mode="json", by_alias=True, context=cast("Any", pictures)))
    return with_addresses(document, lambda sha256: KEPT + sha256)


def as_sent(document: dict[str, Any]) -> dict[str, Any]:
    """A stored document in the form in which a request is sent: without nulls, model and lists of one picture."""
    sent = {name: value for name, value in document.items() if value is not None and name != "model"}
    if "layout" in sent:
        sent["layout"] = {"mode": "auto"} | sent["layout"]
    sent["subjects"] = [_subject_as_sent(subject) for subject in document["subjects"]]
    return sent


def _subject_as_sent(subject: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in subject.items() if value is not None}
    if len(given.get("images", ())) == 1:
        (given["image"],) = given.pop("images")
    return given


def with_addresses(document: dict[str, Any], address: Callable[[str], str]) -> dict[str, Any]:
    """A document of ``as_sent`` with an address in place of each picture's SHA-256."""

    def addressed(part: dict[str, Any]) -> dict[str, Any]:
        several = {"images": [address(name) for name in part["images"]]} if "images" in part else {}
        return part | {name: address(part[name]) for name in ("image", "mask") if name in part} | several

    parts = {
        name: [addressed(part) for part in document[name]] for name in ("subjects", "controls") if name in document
    }
    return document | parts | ({"start": addressed(document["start"])} if "start" in document else {})


def job_document(request: JobRequest, pictures: Pictures) -> dict[str, Any]:
    """Dump the request as JSON-ready data: pictures by their SHA-256."""
    return _JOB_REQUEST.dump_python(request, mode="json", by_alias=True, context=pictures, exclude={"layout": {"mode"}})
