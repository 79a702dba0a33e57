"""OpenAI's images interface, for the clients that people already have; its errors are ``app.service.openai_errors``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.jobs.event_log import EventLogDependency
from app.jobs.headers import parse_idempotency_key
from app.jobs.manage import JobsDependency
from app.jobs.parameters import IdempotencyKey
from app.jobs.read import ReaderDependency
from app.openai.answer import JOB, WARNING, Answers
from app.openai.reader import Asked, AskedByForm, AskedByJson, as_sent
from app.openai.retries import RetriesDependency, options_of
from app.openai.schemas import Kind, OpenAIImages, OpenAIModel, OpenAIModels
from app.service.errors import HTTPProblem
from app.service.models import ModelsDependency
from app.service.openai_errors import ROOT, openai_responses
from app.service.problems import SCHEMA_REF, UNKNOWN_MODEL
from app.service.request_id import request_id

router = APIRouter(prefix=ROOT, tags=["openai"])

RESPONSE_HEADERS = (JOB, WARNING)
_HEADERS = {
    JOB: {"description": "Id of the job, for `GET /jobs/{job_id}`.", "schema": {"type": "string"}},
    WARNING: {"description": "What was ignored or assumed; absent if nothing.", "schema": {"type": "string"}},
}
_EVENTS = {
    "text/event-stream": {
        "schema": {
            "oneOf": [
                {"$ref": SCHEMA_REF.format(model=name)} for name in ("OpenAIPartialImage", "OpenAICompletedImage")
            ]
        }
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The pictures; events with `stream`.", "headers": _HEADERS, "content": _EVENTS},
    **openai_responses(400, 404, 410, 413, 415, 422, 429, 503, 504),
}


def _body(media_type: str, schema: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": SCHEMA_REF.format(model=schema)}}}
    return {"requestBody": {"required": True, "content": content}}


class Making:
    """Makes pictures for one request."""

    def __init__(self, request: Request, retries: RetriesDependency, answers: Answers, key: str | None) -> None:
        self._request = request
        self._retries = retries
        self._answers = answers
        self._options = options_of(key, request_id(request.scope))

    async def answer(self, asked: Asked, kind: Kind) -> Response:
        """Submit the job, unless it was sent before, and answer with its pictures."""
        with as_sent(asked.translation):
            attendance = await run_in_threadpool(self._retries.attend, asked.sent, self._options, self._request)
        return await self._answers.answer(self._request, attendance, asked.translation, kind)


async def _making(  # noqa: PLR0913 - each argument is a part of the request
    request: Request,
    retries: RetriesDependency,
    jobs: JobsDependency,
    reader: ReaderDependency,
    event_log: EventLogDependency,
    idempotency_key: IdempotencyKey = None,
) -> Making:
    return Making(request, retries, Answers(jobs, reader, event_log), parse_idempotency_key(idempotency_key))


MakingDependency = Annotated[Making, Depends(_making)]


@router.post(
    "/images/edits",
    operation_id="edit_image",
    summary="Make pictures of your subjects, as OpenAI's image edits",
    response_model=OpenAIImages,
    responses=_RESPONSES,
    openapi_extra=_body("multipart/form-data", "OpenAIEditForm"),
)
async def edit_image(making: MakingDependency, asked: AskedByForm) -> Response:
    """The pictures in the parts `image` or `image[]` are the subjects, in their order.

    `subjects` says what they are and where they stand, as one JSON string; or `phrases[]` and `boxes[]` do. All fields of
    `POST /generate` can be sent beside OpenAI's. A request that is sent again, because its connection was lost or the answer
    was a 5xx, joins the job of the first; a connection that is closed cancels its job after 10 s.
    """
    return await making.answer(asked, "image_edit")


@router.post(
    "/images/generations",
    operation_id="create_image",
    summary="Make pictures of your subjects, as OpenAI's image generations",
    response_model=OpenAIImages,
    responses=_RESPONSES,
    openapi_extra=_body("application/json", "OpenAIGenerateRequest"),
)
async def create_image(making: MakingDependency, asked: AskedByJson) -> Response:
    """As `POST /v1/images/edits`, in JSON: `subjects` as in `POST /generate`, with their pictures as data URIs or
    by https address, where the service allows that."""
    return await making.answer(asked, "image_generation")


@router.get(
    "/models",
    operation_id="list_openai_models",
    summary="List the models, as OpenAI does",
    responses=openai_responses(503),
)
def list_openai_models(models: ModelsDependency, response: Response) -> OpenAIModels:
    """The names for the field `model`; `GET /models` says what they can do."""
    response.headers["Cache-Control"] = "no-store"
    return OpenAIModels(data=[OpenAIModel(id=model.name) for model in models.all().models])


@router.get(
    "/models/{model}",
    operation_id="get_openai_model",
    summary="Get a model, as OpenAI does",
    responses=openai_responses(404, 503),
)
def get_openai_model(model: str, models: ModelsDependency) -> OpenAIModel:
    """Whether there is a model of this name."""
    names = [known.name for known in models.all().models]
    if model not in names:
        raise HTTPProblem(UNKNOWN_MODEL, f"There is no model {model!r} here; this service has {', '.join(names)}.")
    return OpenAIModel(id=model)
