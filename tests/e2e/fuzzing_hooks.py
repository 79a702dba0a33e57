"""Hooks of schemathesis: requests with real pictures, each of them new, and the failures that are no faults."""

from __future__ import annotations

import re
from itertools import count
from typing import Any, NamedTuple

import schemathesis
from PIL import Image
from schemathesis.core.failures import Failure, ServerError
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import RejectedPositiveData

from ms_core.spec.pictures import PICTURE_SCHEMA
from ms_jobs.records import JOB_ID_PATTERN, new_job_id
from tests.support.sample_requests import picture_uri

PICTURE = picture_uri(Image.linear_gradient("L").resize((64, 64)))
KEY = "Idempotency-Key"
NUMBERS = count()


class Allowed(NamedTuple):
    """Answers to good requests that the document cannot foretell.

    Attributes:
        status: of the answer.
        detail: a pattern; each error of the answer must have a sentence that one row allows.
        reason: why they are right.
    """

    status: int
    detail: str
    reason: str


ALLOWED = (
    Allowed(400, "This cursor is not from GET /", "A cursor is opaque: only what an earlier page gave is one."),
    Allowed(400, "This service makes cut-outs by its own model", "Which model it is, is in GET /models."),
    Allowed(
        410,
        "This job was deleted",
        "The run deletes jobs; 410 is documented, but not among schemathesis's good answers.",
    ),
    Allowed(422, "This model has no |The model test makes pictures of at most ", "What a model has is in GET /models."),
    Allowed(
        422,
        "has no area|reaches outside|with every number from 0 to 1",
        "Edges of a box depend on each other and the size.",
    ),
    Allowed(
        422, "This subject has no box|A scene fills the whole picture", "Boxes depend on masks, scenes and the layout."
    ),
    Allowed(422, "[Tt]he auto layout ", "The auto layout excludes other fields and needs the phrases in the prompt."),
    Allowed(
        422,
        "retries needs score|The end must be above the start|leaves no steps|There is no subject |A PNG loses nothing",
        "Fields that depend on each other.",
    ),
    Allowed(422, "There is no '.*' in the cast", "Who is in the cast is in GET /cast."),
    Allowed(422, "pixels, but the result has", "The size of a picture is within its bytes."),
)
# What is told while no worker beats, and none does here.
UNREADY = {("/readyz", 503), ("/assets/{asset_id}/cutout", 503)}


def with_pictures(value: Any) -> Any:
    """The same with a real picture for each string that could be one: a pattern cannot say what is a picture."""
    match value:
        case dict():
            return {name: with_pictures(each) for name, each in value.items()}
        case list():
            return [with_pictures(each) for each in value]
        case str() if re.search(PICTURE_SCHEMA["pattern"], value):
            return PICTURE
        case _:
            return value


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make each good request one that was never sent: a second one under the same id or key is refused, and rightly."""
    if isinstance(case.body, dict | list):
        case.body = with_pictures(case.body)
    key = (case.headers or {}).get(KEY)
    if isinstance(key, str) and re.fullmatch("[!-~]{1,200}", key):
        # The number first and ended: a case may be sent again with the key it has by then, and 0 + 14 + 15 would be 0 + 1415.
        case.headers[KEY] = f"{next(NUMBERS)}-{key}"[:200]
    if case.method == "PUT" and re.fullmatch(JOB_ID_PATTERN, str(case.path_parameters.get("job_id"))):
        case.path_parameters["job_id"] = new_job_id()


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Response) -> bool:
    """Leave out what is allowed."""
    if isinstance(failure, ServerError):
        return (case.operation.path, response.status_code) not in UNREADY
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    details = [error["detail"] for error in problem["errors"]] or [problem["detail"]]
    rows = [row for row in ALLOWED if row.status == response.status_code]
    return not all(any(re.search(row.detail, detail) for row in rows) for detail in details)
