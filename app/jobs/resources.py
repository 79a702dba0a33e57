"""Turns job records into resources and responses."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response

from app.auth.signatures import Signer
from app.jobs.eta import Outlook, rounded
from app.jobs.manage import shown_images, shown_references
from app.jobs.read import JobView
from app.schemas import (
    ImageResource,
    JobErrorResource,
    JobResource,
    JobUrls,
    ProgressResource,
    RedrawResource,
    ReferenceResource,
    RequestResource,
    ScoreResource,
    SignedUrls,
    SubjectScoreResource,
    TimingsResource,
)
from app.service.addresses import service_url
from app.service.problems import INTERNAL_ERROR, START_DEADLINE_PASSED, WAITED_TOO_LONG, problem_of_code
from ms_jobs.job_request import with_addresses
from ms_jobs.records import JobError, JobRecord, JobState, PictureScore, StoredImage

POLL_AFTER_S = "1"
REPLAYED = "Idempotency-Replayed"
PREFERENCE_APPLIED = "Preference-Applied"
# Scripts in browsers may read these only if CORS allows them.
RESPONSE_HEADERS = ("ETag", REPLAYED, "Location", PREFERENCE_APPLIED, "Retry-After")


def job_url(job_id: str, base_url: str = "") -> str:
    """Make the URL of a job; ``base_url`` is that of the service."""
    return f"{base_url}/jobs/{job_id}"


def job_resource(record: JobRecord, outlook: Outlook | None = None, base_url: str = "") -> JobResource:
    """Make the resource of a job; ``outlook`` is needed until it has ended."""
    url = job_url(record.id, base_url)
    outlook = outlook or Outlook()
    error = _why_expired(record) if record.state is JobState.EXPIRED else record.error
    return JobResource(
        id=record.id,
        status=record.state,
        version=record.version,
        owner=record.owner,
        model=record.model,
        position=outlook.position,
        eta_seconds=rounded(outlook.eta_s),
        cancel_requested=record.cancel_requested,
        progress=_progress(record),
        seed=record.seed,
        images=[_image(image, url) for image in shown_images(record)],
        references=[_reference(subject, url) for subject in shown_references(record)],
        warnings=list(record.warnings),
        error=None if error is None else _error(error),
        retried_from=record.retried_from,
        attempt=record.attempt,
        device=record.device,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        started_at=_moment(record.started_at),
        ended_at=_moment(record.ended_at),
        expires_at=_moment(record.expires_at),
        cancel_at=_moment(record.cancel_at),
        start_before=_moment(record.start_before),
        timings=_timings(record),
        urls=JobUrls(
            job=url,
            events=f"{url}/events",
            cancel=f"{url}/cancel",
            retry=f"{url}/retry",
            request=f"{url}/request",
            signed=None,
        ),
    )


def request_resource(record: JobRecord, asked: dict[str, Any], base_url: str = "") -> RequestResource:
    """Make the resource of a job's request; ``asked`` names pictures by their SHA-256."""
    pictures = f"{job_url(record.id, base_url)}/pictures"
    request = with_addresses(asked, lambda sha256: f"{pictures}/{sha256}")
    return RequestResource(job=record.id, model=record.model, seed=record.seed, request=request)


def _signed_urls(record: JobRecord, base_url: str, signer: Signer) -> SignedUrls:
    # What is signed is the path alone: a proxy may remove what stands before it.
    path = job_url(record.id)

    def signed(rest: str) -> str:
        return f"{base_url}{path}{rest}?{signer.sign(path + rest)}"

    return SignedUrls(
        expires_at=datetime.fromtimestamp(signer.signed.expires_at, UTC),
        events=signed("/events"),
        images=[signed(f"/images/{image.index}") for image in shown_images(record)],
        references=[signed(f"/references/{subject}") for subject in shown_references(record)],
    )


def _progress(record: JobRecord) -> ProgressResource | None:
    if record.attempt == 0 or record.state is JobState.QUEUED:
        return None
    fraction = record.step / record.steps if record.step is not None and record.steps else 0.0
    if record.state is JobState.SUCCEEDED:
        fraction = 1.0
    return ProgressResource(phase=record.phase, step=record.step, steps=record.steps, fraction=round(fraction, 4))


def _image(image: StoredImage, job_address: str) -> ImageResource:
    return ImageResource(
        index=image.index,
        url=f"{job_address}/images/{image.index}",
        width=image.width,
        height=image.height,
        seed=image.seed,
        sha256=image.sha256,
        content_type=image.content_type,
        score=None if image.score is None else _score(image.score),
    )


def _score(score: PictureScore) -> ScoreResource:
    subjects = [
        SubjectScoreResource(subject=index, **subject._asdict())
        for index, subject in enumerate(score.subjects)
        if subject is not None
    ]
    redraws = [RedrawResource(**redraw._asdict()) for redraw in score.redraws]
    return ScoreResource(draws=score.draws, subjects=subjects, redraws=redraws)


def _reference(subject: int, job_address: str) -> ReferenceResource:
    return ReferenceResource(subject=subject, url=f"{job_address}/references/{subject}")


def _why_expired(record: JobRecord) -> JobError:
    start_before, ended_at = record.start_before, record.ended_at
    if record.attempt == 0 and start_before is not None and ended_at is not None and ended_at >= start_before:
        detail = "No worker was free before X-Start-Deadline; send it again later, or with more time."
        return JobError(code=START_DEADLINE_PASSED.code, detail=detail)
    detail = "No worker took the job within its lifetime; send it again when a worker is ready."
    return JobError(code=WAITED_TOO_LONG.code, detail=detail)


def _error(error: JobError) -> JobErrorResource:
    kind = problem_of_code(error.code) or INTERNAL_ERROR
    return JobErrorResource(
        type=f"/problems/{kind.code}", title=kind.title, status=kind.status, code=error.code, detail=error.detail
    )


def _timings(record: JobRecord) -> TimingsResource:
    """Seconds in the queue and running, until now or the job's end."""
    until = time.time() if record.ended_at is None else record.ended_at
    began = until if record.started_at is None else record.started_at
    running_s = None if record.started_at is None else _seconds(record.started_at, until)
    return TimingsResource(queued_s=_seconds(record.created_at, began), running_s=running_s)


def _seconds(start: float, end: float) -> float:
    # The clocks of two hosts may differ a little.
    return round(max(0.0, end - start), 3)


def _moment(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)


def job_answer(
    view: JobView,
    request: Request,
    status: HTTPStatus = HTTPStatus.OK,
    headers: dict[str, str] | None = None,
    signer: Signer | None = None,
) -> Response:
    """Answer with a job; with a ``signer``, also with signed addresses."""
    resource = job_resource(view.record, view.outlook, service_url(request))
    if signer is not None:
        resource.urls.signed = _signed_urls(view.record, service_url(request), signer)
    # Serialized here, since FastAPI would validate our own data again.
    body = resource.model_dump_json(by_alias=True)
    return Response(body, status, {**_headers(view), **(headers or {})}, media_type="application/json")


def unchanged_answer(view: JobView) -> Response:
    """Answer 304: nothing has changed."""
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_headers(view))


def own_url(view: JobView, request: Request) -> str:
    """Make the URL of a viewed job."""
    return job_url(view.record.id, service_url(request))


def job_response(description: str, *headers: str) -> dict[str, Any]:
    """Make the OpenAPI response of an endpoint that answers with a job."""
    return {"model": JobResource, "description": description, "headers": {name: HEADERS[name] for name in headers}}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


HEADERS = {
    "ETag": _header("Weak; changes with the job and its position in the queue."),
    "Location": _header("URL of the job."),
    "Retry-After": _header("Seconds after which to ask again; absent once the job has ended.", "integer"),
    REPLAYED: _header("`true` if this request was sent before; the answer is that job."),
    PREFERENCE_APPLIED: _header("The preference that was applied."),
}


def _headers(view: JobView) -> dict[str, str]:
    # A browser may cache it but must revalidate, with the entity tag.
    always = {"Cache-Control": "private, no-cache", "ETag": view.etag}
    return always if view.record.state.ended else {**always, "Retry-After": POLL_AFTER_S}
