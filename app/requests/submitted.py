"""Requests for pictures as they are submitted: JSON, or a form with the JSON and its pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from app.dependencies import owned
from app.requests.body import Body, BodyReaderDependency, Measured, SettingsDependency
from app.requests.decoding import PictureLimits
from app.requests.forms import REQUEST_PART, read_form, request_and_pictures
from app.requests.intake import SentRequest, UnresolvedRequestError, measure_request, parse_request
from app.requests.sources import Keeps, PictureSources
from app.service.problems import SCHEMA_REF
from ms_core.spec.pictures import UPLOAD


def bodies_of(model: str, form: str) -> dict[str, Any]:
    """The OpenAPI request body of what is sent as JSON, or as a form; by the names of their schemas."""
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": SCHEMA_REF.format(model=model)}},
            "multipart/form-data": {
                "schema": {"$ref": SCHEMA_REF.format(model=form)},
                "encoding": {REQUEST_PART: {"contentType": "application/json"}},
            },
        },
    }


def form_of(form: str, model: str) -> dict[str, Any]:
    """The schema of a form that brings the JSON of a model and its pictures."""
    return {
        "title": form,
        "description": f"The JSON in the part `{REQUEST_PART}`, of whatever type the part says, and its pictures in parts of any "
        f"other names; the JSON names each as `{UPLOAD}` and the part's name.",
        "type": "object",
        "properties": {REQUEST_PART: {"$ref": SCHEMA_REF.format(model=model)}},
        "required": [REQUEST_PART],
        "additionalProperties": {"type": "string", "format": "binary"},
    }


REQUEST_BODY = bodies_of("GenerateRequest", "GenerateForm")
GENERATE_FORM = form_of("GenerateForm", "GenerateRequest")

KeepsDependency = Annotated[Keeps, owned("keeps")]


async def _picture_limits(settings: SettingsDependency) -> PictureLimits:
    return PictureLimits(settings.max_picture_pixels, settings.max_picture_side, settings.max_request_pixels)


PictureLimitsDependency = Annotated[PictureLimits, Depends(_picture_limits)]


async def _sent_request(
    request: Request, reader: BodyReaderDependency, limits: PictureLimitsDependency, keeps: KeepsDependency
) -> SentRequest | UnresolvedRequestError:
    """Read a request; one that is only unresolved may still be a repeat, so its error is no end yet."""

    def measure(body: Body) -> Measured[SentRequest]:
        document, sources = document_and_sources(body, keeps)
        pixels = measure_request(document, limits, sources)
        return Measured(pixels, lambda turn: parse_request(document, limits, turn, sources))

    try:
        return await reader.read(request, measure)
    except UnresolvedRequestError as error:
        return error


def document_and_sources(body: Body, keeps: Keeps) -> tuple[bytes, PictureSources]:
    """The JSON of a body, which is all of it or a part of the form, and where its pictures come from.

    Raises:
        HTTPProblem: the form cannot be read, or has no such part.
    """
    if body.boundary is None:
        return body.content, PictureSources(keeps, fetched=body.fetched)
    document, parts = request_and_pictures(read_form(body.content, body.boundary))
    return document, PictureSources(keeps, parts, body.fetched)


SentRequestDependency = Annotated[SentRequest | UnresolvedRequestError, Depends(_sent_request)]


async def _resolved_request(sent: SentRequestDependency) -> SentRequest:
    """A request that names nothing that is not kept here."""
    if isinstance(sent, UnresolvedRequestError):
        raise sent
    return sent


ResolvedRequestDependency = Annotated[SentRequest, Depends(_resolved_request)]
