"""The calls of the clients, as flows."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from msd_client._flow import (
    IDEMPOTENCY_KEY,
    POLL_INTERVAL_S,
    Answer,
    Connect,
    Flow,
    Patience,
    Pause,
    Report,
    Request,
    ask,
    ask_once,
    is_success,
    next_event,
    refusal,
)
from msd_client.errors import ApiError, InputError, MsdError, job_error
from msd_client.events import EndEvent, GoneEvent, PreviewEvent, ProgressEvent, StatusEvent
from msd_client.jobs import Asset, Inspection, Job, Model, Readiness
from msd_client.pictures import PictureFile, PictureSource, read_picture
from msd_client.requests import pictures_of, with_pictures
from msd_client.results import Picture, Result

# Whoever presses Ctrl-C waits no longer for the job to be canceled.
CANCEL_TIMEOUT_S = 5.0
_NO_ASSETS = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client deals with failures that may pass.

    Attributes:
        patience_s: how long one call goes on after a failure; after a 429, 10 s at most, and only if it says when to come back.
        refusals: whether a request that was refused (429, 502, 503, 504) or did not arrive is sent again. One whose answer
            was lost always is: with the same idempotency key, so that there is one job.
    """

    patience_s: float = 30.0
    refusals: bool = True


DEFAULT_RETRIES = Retries()


class Calls:
    """The calls of one client, which remembers what it has uploaded."""

    def __init__(self, retries: Retries, uploads: bool) -> None:
        self._retries = retries
        self._uploads = uploads
        # By the SHA-256 of the file.
        self._assets: dict[str, str] = {}

    def generate(self, request: dict[str, Any], key: str | None) -> Flow[Result]:
        """Make pictures; reports jobs and previews. Who breaks it off cancels the job."""
        job = yield from self.submit(request, key)
        try:
            job = yield from self.wait(job.id, bool(request.get("previews")))
        except (MsdError, GeneratorExit):
            raise
        except BaseException:
            yield from self._give_up(job.id)
            raise
        if job.status != "succeeded":
            raise job_error(job)
        pictures: list[Picture] = []
        for image in job.images:
            content = yield from self.image(job.id, image.index)
            pictures.append(Picture.read(content, image))
        return Result(job, tuple(pictures))

    def submit(self, request: dict[str, Any], key: str | None) -> Flow[Job]:
        """Queue a request: one job, even if an answer is lost on the way."""
        headers = {IDEMPOTENCY_KEY: key or secrets.token_urlsafe(16)}
        files = pictures_of(request)
        yield from self._upload_missing(files)
        try:
            return (yield from self._submit(request, headers))
        except InputError as error:
            used = [file.sha256 for file in files if file.sha256 in self._assets]
            if not used or all(problem.code != "asset_not_found" for problem in error.errors):
                raise
        # An upload was deleted meanwhile.
        for sha256 in used:
            self._assets.pop(sha256, None)
        yield from self._upload_missing(files)
        return (yield from self._submit(request, headers))

    def _submit(self, request: dict[str, Any], headers: dict[str, str]) -> Flow[Job]:
        body = with_pictures(request, self._text_of)
        answer = yield from self._ask(Request("POST", "/generate", headers, json=body))
        return answer.read(Job.from_json)

    def job(self, job_id: str) -> Flow[Job]:
        """Fetch the current state of a job."""
        answer = yield from self._ask(Request("GET", _path(job_id)))
        return answer.read(Job.from_json)

    def wait(self, job_id: str, previews: bool = False) -> Flow[Job]:
        """Follow a job to its end; reports the job whenever it is new, and previews.

        While the job is queued it is polled, for its position in the queue; while it runs it is watched live. Where that does
        not work, it is polled all the time.
        """
        patience = Patience(self._retries.patience_s)
        while True:
            try:
                answer = yield from ask_once(Request("GET", _path(job_id)))
            except MsdError as error:
                if not error.may_pass:
                    raise
                yield patience.pause_after(error)
                continue
            patience.renew()
            job = answer.read(Job.from_json)
            yield Report(job)
            if job.status == "running":
                job = yield from self._follow(job, previews)
            if job.ended:
                return job
            yield Pause(POLL_INTERVAL_S)

    def _follow(self, job: Job, previews: bool) -> Flow[Job]:
        """The job at each event from now on, to its end; ends early where it cannot be watched, or not any more."""
        try:
            if not (yield from _connect(job.id, job.version, previews)):
                return job
        except MsdError:
            return job
        while (event := (yield from next_event())) is not None:
            if isinstance(event, ProgressEvent):
                job = job.advanced(event)
                yield Report(job)
            elif isinstance(event, PreviewEvent):
                yield Report(event)
            elif isinstance(event, EndEvent):
                yield Report(event.job)
                return event.job
            elif isinstance(event, StatusEvent):
                # It may wait its turn again.
                return job
        return job

    def watch(self, job_id: str, after: int, previews: bool) -> Flow[None]:
        """Report the events of a job above a version, to its end; a connection that is cut is taken up where it was."""
        patience = Patience(self._retries.patience_s)
        while True:
            try:
                if not (yield from _connect(job_id, after, previews)):
                    return
                pause = Pause(POLL_INTERVAL_S)
            except MsdError as error:
                if not error.may_pass:
                    raise
                pause = patience.pause_after(error)
            else:
                patience.renew()
                while (event := (yield from next_event())) is not None:
                    yield Report(event)
                    if isinstance(event, (EndEvent, GoneEvent)):
                        return
                    after = max(after, event.version)
            yield pause

    def image(self, job_id: str, index: int) -> Flow[bytes]:
        """Fetch a finished picture, encoded."""
        answer = yield from self._ask(Request("GET", f"{_path(job_id)}/images/{index}"))
        return answer.content

    def cancel(self, job_id: str) -> Flow[Job]:
        """Cancel a job, or ask for it while it runs."""
        answer = yield from self._ask(Request("POST", f"{_path(job_id)}/cancel"))
        return answer.read(Job.from_json)

    def _give_up(self, job_id: str) -> Flow[None]:
        """Cancel a job that nobody waits for any more, if that goes quickly."""
        try:
            yield Request("POST", f"{_path(job_id)}/cancel", timeout_s=CANCEL_TIMEOUT_S, is_last=True)
        except MsdError:
            return

    def models(self) -> Flow[tuple[Model, ...]]:
        """List the service's models."""
        answer = yield from self._ask(Request("GET", "/models"))
        return answer.read(lambda found: tuple(Model.from_json(model) for model in found["models"]))

    def readiness(self) -> Flow[Readiness]:
        """Ask whether the service can make pictures now, and what it lacks."""
        answer: Answer = yield Request("GET", "/readyz")
        if not is_success(answer.status) and answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise refusal(answer)
        return answer.read(Readiness.from_json)

    def upload(self, source: PictureSource) -> Flow[Asset]:
        """Keep a picture on the service."""
        picture = read_picture(source)
        if isinstance(picture, PictureFile):
            request = Request("POST", "/assets", files=(_part(picture),))
        elif picture.startswith("asset:"):
            request = Request("GET", f"/assets/{quote(picture.removeprefix('asset:'), safe='')}")
        else:
            request = Request("POST", "/assets", json={"image": picture})
        answer = yield from self._ask(request)
        asset = answer.read(lambda found: Asset.from_json(found["assets"][0] if "assets" in found else found))
        if isinstance(picture, PictureFile):
            self._assets[picture.sha256] = asset.reference
        return asset

    def inspect(self, source: PictureSource) -> Flow[Inspection]:
        """Read the recipe in the file of a picture."""
        picture = read_picture(source)
        if isinstance(picture, PictureFile):
            request = Request("POST", "/inspect", files=(_part(picture),))
        else:
            request = Request("POST", "/inspect", json={"image": picture})
        answer = yield from self._ask(request)
        return answer.read(Inspection.from_json)

    def _upload_missing(self, files: Sequence[PictureFile]) -> Flow[None]:
        """Upload each picture once. What the service does not take here goes into the request, whose errors say where."""
        missing = {file.sha256: file for file in files if file.sha256 not in self._assets}
        if not self._uploads or not missing:
            return
        parts = tuple(_part(file) for file in missing.values())
        try:
            answer = yield from self._ask(Request("POST", "/assets", files=parts))
        except InputError:
            return
        except ApiError as error:
            if error.status not in _NO_ASSETS:
                raise
            # An older service.
            self._uploads = False
            return
        assets = answer.read(lambda found: [Asset.from_json(asset) for asset in found["assets"]])
        self._assets |= {sha256: asset.reference for sha256, asset in zip(missing, assets, strict=True)}

    def _text_of(self, file: PictureFile) -> str:
        return self._assets.get(file.sha256) or file.data_uri

    def _ask(self, request: Request) -> Flow[Answer]:
        return ask(request, self._retries.patience_s, self._retries.refusals)


def _connect(job_id: str, after: int, previews: bool) -> Flow[bool]:
    """Open the stream of a job's events above a version; whether there are any.

    Raises:
        MsdError: no answer, or a refusal.
    """
    query = f"?{urlencode({'preview': 'true'})}" if previews else ""
    answer: Answer = yield Connect(f"{_path(job_id)}/events{query}", {"Last-Event-ID": str(after)})
    if not is_success(answer.status):
        raise refusal(answer)
    return answer.status != HTTPStatus.NO_CONTENT


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _part(file: PictureFile) -> tuple[str, bytes, str]:
    return (file.sha256, file.content, file.media_type)
