"""Answers every error with an RFC 9457 problem, below ``/v1`` with an error of OpenAI's interface.

Only the project's own errors supply the ``detail``; for all others it is written here, so no traceback, path or secret can
leak.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.service.openai_errors import is_openai_path, openai_error
from app.service.problems import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    PROBLEM_JSON,
    PROBLEMS,
    Problem,
    ProblemItem,
    ProblemType,
    problem_of,
)
from app.service.request_id import REQUEST_ID_HEADER, request_id
from app.service.security_headers import SECURITY_HEADERS
from ms_core.errors import InvalidInputError, LimitError, MSDiffusionError, QueueUnavailableError
from ms_jobs.connection import ReasonLog, is_transient

RETRY_AFTER_S = 5
MAX_ERRORS = 100
# In one text.
MOST_TOLD = 5
METHODS = ("GET", "POST", "PUT", "DELETE")
QUEUE_AWAY = "The queue is unavailable at the moment; try again in a few seconds."

logger = logging.getLogger(__name__)


class InvalidRequestError(Exception):
    """A request with one or more invalid values."""

    def __init__(self, errors: Sequence[InvalidInputError]) -> None:
        super().__init__("; ".join(error.detail for error in errors))
        self.errors = tuple(errors)


class HTTPProblem(Exception):
    """A problem with the HTTP request itself.

    Attributes:
        pointer: to the value that is wrong, if it is a single one.
    """

    def __init__(
        self, problem: ProblemType, detail: str, headers: Mapping[str, str] | None = None, pointer: str = ""
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.headers = headers
        self.pointer = pointer


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""

    @app.exception_handler(MSDiffusionError)
    async def answer_core_error(request: Request, error: MSDiffusionError) -> Response:
        if isinstance(error, InvalidInputError):
            return _answer_invalid_input(request, [error])
        wait_s = error.retry_after_s if isinstance(error, LimitError) else None
        headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
        return problem_response(request, problem_of(error), error.detail, headers=headers)

    @app.exception_handler(InvalidRequestError)
    async def answer_invalid_request(request: Request, error: InvalidRequestError) -> Response:
        return _answer_invalid_input(request, error.errors)

    @app.exception_handler(HTTPProblem)
    async def answer_http_problem(request: Request, error: HTTPProblem) -> Response:
        item = ProblemItem(pointer=error.pointer, detail=error.detail, code=error.problem.code)
        return problem_response(request, error.problem, error.detail, [item] * bool(error.pointer), error.headers)

    @app.exception_handler(HTTPException)
    async def answer_http_exception(request: Request, error: HTTPException) -> Response:
        return _answer_http_exception(request, error)

    @app.exception_handler(RequestValidationError)
    async def answer_bad_address(request: Request, error: RequestValidationError) -> Response:
        return _answer_bad_address(request, error)

    reasons = ReasonLog()

    @app.exception_handler(RedisError)
    async def answer_redis_error(request: Request, error: RedisError) -> Response:
        if not is_transient(error):
            return await _answer_unexpected(request, error)
        reasons.tell(error)
        return problem_response(request, PROBLEMS[QueueUnavailableError], QUEUE_AWAY)

    app.add_exception_handler(Exception, _answer_unexpected)


def problem_response(
    request: Request,
    problem: ProblemType,
    detail: str,
    items: Sequence[ProblemItem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Write a problem as an HTTP response."""
    own_id = request_id(request.scope)
    # An unexpected error is answered outside the middleware that adds the id.
    all_headers = {**SECURITY_HEADERS, **(headers or {}), REQUEST_ID_HEADER: own_id, "Cache-Control": "no-store"}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        all_headers["Retry-After"] = str(RETRY_AFTER_S)
    if is_openai_path(request.scope["path"], request.scope.get("root_path", "")):
        code, pointer = (items[0].code, items[0].pointer) if items else (problem.code, "")
        message = detail if len(items) < 2 else _all_in_one(items)
        error = openai_error(problem.status, code, message, pointer)
        return Response(error.model_dump_json(), problem.status, all_headers, media_type="application/json")
    body = Problem(
        type=f"/problems/{problem.code}",
        title=problem.title,
        status=problem.status,
        detail=detail,
        instance=request.url.path,
        code=problem.code,
        request_id=own_id,
        errors=list(items),
    )
    return Response(body.model_dump_json(), problem.status, all_headers, media_type=PROBLEM_JSON)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    if isinstance(error, RedisError):
        # Its words name a command or a key, nothing that a client sent.
        logger.error("request %s failed: %s: %s", request_id(request.scope), type(error).__name__, error)
    else:
        logger.error("request %s failed: %s", request_id(request.scope), type(error).__name__)
    detail = "Internal error; it is logged under this request's id."
    return problem_response(request, INTERNAL_ERROR, detail)


def _answer_invalid_input(request: Request, errors: Sequence[InvalidInputError]) -> Response:
    kinds = {problem_of(error) for error in errors}
    # So the answer is 413 only if picture sizes are the only errors; ``Problem.errors`` documents it.
    problem = kinds.pop() if len(kinds) == 1 else PROBLEMS[InvalidInputError]
    items = [ProblemItem(pointer=error.pointer, detail=error.detail, code=error.code) for error in errors[:MAX_ERRORS]]
    first = items[0]
    detail = first.detail if len(errors) == 1 else f"{len(errors)} errors. {first.pointer}: {first.detail}"
    return problem_response(request, problem, detail, items)


def _all_in_one(items: Sequence[ProblemItem]) -> str:
    """The errors as one text, for those who get no list."""
    told = [f"{item.pointer}: {item.detail}" for item in items[:MOST_TOLD]]
    more = f" And {len(items) - MOST_TOLD} more." if len(items) > MOST_TOLD else ""
    return f"{len(items)} errors. {' '.join(told)}{more}"


def _methods_of(request: Request) -> list[str]:
    """List the methods that the request's path allows; Starlette lists those of one route only."""
    routes = request.app.router.routes

    def works(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    methods = [method for method in METHODS if works(method)]
    # See ``app.service.head``.
    return ["GET", "HEAD", *methods[1:]] if methods[:1] == ["GET"] else methods


def _answer_bad_address(request: Request, error: RequestValidationError) -> Response:
    # Bodies are validated in app.requests, headers in app.jobs.headers. A path that does not fit its pattern does not exist.
    sentences = [
        f"{item['loc'][1]}: {item['msg'].rstrip('.')}." for item in error.errors() if item["loc"][0] == "query"
    ]
    if not sentences:
        return problem_response(request, NOT_FOUND, "There is no resource at this path.")
    return problem_response(request, INVALID_PARAMETER, f"Invalid query. {' '.join(sentences)}")


def _answer_http_exception(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(request, NOT_FOUND, "There is no resource at this path; /docs lists all paths.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods_of(request))
        detail = f"{request.method} is not allowed here; use {allowed}."
        return problem_response(request, METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed})
    return problem_response(request, BAD_REQUEST, "The request is malformed.", headers=error.headers)
