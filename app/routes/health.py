"""Whether the process lives, whether the service can work, and what its problems mean."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.dependencies import HealthDependency
from app.documentation import problem_responses
from app.errors import RETRY_AFTER_S, HTTPProblem
from app.problems import NOT_FOUND, problem_of_code
from app.schemas import LivenessResource, ProblemTypeResource, ReadinessResource

router = APIRouter(tags=["service"])


@router.get("/livez", operation_id="live", summary="Does the process answer?")
def live() -> LivenessResource:
    """Asks nothing else: a process that answers is alive."""
    return LivenessResource()


@router.get(
    "/readyz",
    operation_id="ready",
    summary="Can pictures be made?",
    responses={503: {"model": ReadinessResource, "description": "Starting, or unavailable; see Retry-After."}},
)
def ready(health: HealthDependency, response: Response) -> ReadinessResource:
    """`ready` and `degraded` (not every worker serves) come with 200, `starting` and `unavailable` with 503.

    Jobs are accepted while workers start, as long as Redis and the storage work.
    """
    readiness = health.readiness()
    response.headers["Cache-Control"] = "no-store"
    if readiness.status in ("starting", "unavailable"):
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return readiness


@router.get(
    "/problems/{code}",
    operation_id="get_problem_type",
    summary="What does a kind of problem mean?",
    responses=problem_responses(404),
)
def get_problem_type(
    code: Annotated[str, Path(description="The `code` of a problem.", examples=["invalid_box"])],
) -> ProblemTypeResource:
    """Where the `type` of every problem leads."""
    kind = problem_of_code(code)
    if kind is None:
        raise HTTPProblem(NOT_FOUND, "There is no kind of problem with this code.")
    return ProblemTypeResource(code=kind.code, status=kind.status, title=kind.title)
