"""How jobs are answered, and what OpenAPI is told of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Request, Response

from app.lookup import JobView
from app.resources import job_resource, job_url
from app.schemas import JobResource

POLL_AFTER_S = "1"
REPLAYED = "Idempotency-Replayed"
PREFERENCE_APPLIED = "Preference-Applied"
# Those that scripts in browsers may read only if they are told so.
RESPONSE_HEADERS = ("ETag", REPLAYED, "Location", PREFERENCE_APPLIED, "Retry-After")


def job_answer(
    view: JobView, request: Request, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """A job as the API shows it."""
    resource = job_resource(view.record, view.outlook, root_path(request))
    # Written here, for FastAPI would check our own data once more.
    body = resource.model_dump_json(by_alias=True)
    return Response(body, status, {**_headers(view), **(headers or {})}, media_type="application/json")


def unchanged_answer(view: JobView) -> Response:
    """What the client has is still right."""
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(view))


def own_url(view: JobView, request: Request) -> str:
    """Where the job is found."""
    return job_url(view.record.id, root_path(request))


def root_path(request: Request) -> str:
    """What a proxy in front has cut off of the path."""
    return request.scope.get("root_path", "")


def job_response(description: str, *headers: str) -> dict[str, Any]:
    """The OpenAPI response of an endpoint that answers with a job."""
    return {"model": JobResource, "description": description, "headers": {name: HEADERS[name] for name in headers}}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


HEADERS = {
    "ETag": _header("Weak; changes with the job and with its place in the queue."),
    "Location": _header("Where the job is."),
    "Retry-After": _header("Until the job has ended: when to ask again, in seconds.", "integer"),
    REPLAYED: _header("`true` if the job had been asked for before, and this answer is about that one."),
    PREFERENCE_APPLIED: _header("What of `Prefer` was heeded."),
}


def _headers(view: JobView) -> dict[str, str]:
    # A browser may keep it, and asks each time whether it is still right: that is what the entity tag is for.
    always = {"Cache-Control": "private, no-cache", "ETag": view.etag}
    return always if view.record.state.ended else {**always, "Retry-After": POLL_AFTER_S}
