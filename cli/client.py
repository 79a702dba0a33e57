"""A small HTTP client of the service, for the commands and the demo."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from ms_jobs.remaining import remaining_s

DEFAULT_URL = "http://127.0.0.1:8000"
POLL_INTERVAL_S = 0.25
TIMEOUT_S = 30.0
# A restart of Redis or of the API may pass while a job is followed.
PATIENCE_S = 30.0
# The service says something at least every 15 s to those who watch.
SILENCE_S = 40.0
ENDS = ("succeeded", "failed", "canceled", "expired")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServiceClientError(Exception):
    """The service did not do what was asked.

    Attributes:
        detail: a plain sentence for the user.
        status: the HTTP status, or ``None`` if there was no answer.
        problems: JSON pointer and sentence of every value that cannot be used.
        is_lost: the request may have been accepted; only the answer was lost.
    """

    def __init__(
        self,
        detail: str,
        status: int | None = None,
        problems: tuple[tuple[str, str], ...] = (),
        is_lost: bool = False,
    ) -> None:
        super().__init__(detail)
        self.is_lost = is_lost
        self.detail = detail
        self.status = status
        self.problems = problems

    @property
    def may_pass(self) -> bool:
        """Whether asking again in a while may help."""
        return self.status in (None, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class SubjectScore:
    """How well a subject turned out: two probabilities and an estimated overlap with its box, each from 0 to 1.

    All are ``None`` if its references show only one colour.
    """

    subject: int
    present: float | None
    identity: float | None
    box_iou: float | None


@dataclass(frozen=True, slots=True)
class PictureScore:
    """How often a picture was drawn, and how well its subjects turned out in the draw that was kept."""

    draws: int
    subjects: tuple[SubjectScore, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The score of a decoded image resource."""
        subjects = (
            SubjectScore(subject["subject"], subject["present"], subject["identity"], subject["box_iou"])
            for subject in data["subjects"]
        )
        return cls(data["draws"], tuple(subjects))


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service last showed it.

    Attributes:
        version: grows with every change.
        position: jobs ahead of it; ``None`` unless it is queued.
        eta_s: seconds until its end, as the service guesses; ``None`` if it does not.
        phase: what the worker is doing; ``None`` before it has begun.
        step, steps: denoising steps done, and in all; ``None`` before the first.
        fraction: part of the denoising that is done, from 0 to 1.
        image_seeds: the seed of each finished picture.
        image_scores: the score of each; ``None`` unless it was asked for.
        references: positions of the subjects with a picture of what the model sees.
        warnings, error: sentences.
    """

    id: str
    status: str
    version: int
    position: int | None
    eta_s: float | None
    phase: str | None
    step: int | None
    steps: int | None
    fraction: float
    seed: int
    image_seeds: tuple[int, ...]
    image_scores: tuple[PictureScore | None, ...]
    references: tuple[int, ...]
    warnings: tuple[str, ...]
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether the job can change no more."""
        return self.status not in ("queued", "running")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The job of a decoded job resource."""
        progress = data["progress"] or {"phase": None, "step": None, "steps": None, "fraction": 0.0}
        return cls(
            id=data["id"],
            status=data["status"],
            version=data["version"],
            position=data["position"],
            eta_s=data.get("eta_seconds"),
            phase=progress["phase"],
            step=progress["step"],
            steps=progress["steps"],
            fraction=progress["fraction"],
            seed=data["seed"],
            image_seeds=tuple(image["seed"] for image in data["images"]),
            image_scores=tuple(
                None if image.get("score") is None else PictureScore.from_json(image["score"])
                for image in data["images"]
            ),
            references=tuple(reference["subject"] for reference in data["references"]),
            warnings=tuple(warning["detail"] for warning in data["warnings"]),
            error=None if data["error"] is None else data["error"]["detail"],
        )


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service can make pictures.

    Attributes:
        status: ``ready``, ``degraded``, ``starting`` or ``unavailable``.
        detail: a sentence for each thing that it lacks.
    """

    status: str
    detail: str

    @property
    def is_ready(self) -> bool:
        """Whether a picture can be asked for."""
        return self.status in ("ready", "degraded")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The readiness of a decoded answer."""
        lacking = (check["detail"] for check in data["checks"].values() if not check["ok"])
        return cls(data["status"], " ".join(lacking))


class ServiceClient:
    """Asks one service; use it as a context manager.

    Raises (every method):
        ServiceClientError: the service does not answer, or refuses.
    """

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        # A proxy of the environment cannot reach this machine's own addresses.
        is_local = urlsplit(self.url).hostname in _LOOPBACK
        try:
            self._client = httpx2.Client(base_url=self.url, timeout=timeout_s, trust_env=not is_local)
        except (httpx2.InvalidURL, ValueError) as error:
            raise ServiceClientError(f"{url} is not the address of a service, such as {DEFAULT_URL}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def submit(self, request: dict[str, Any]) -> Job:
        """Queue a request, in the form of the API's documentation; once, even if an answer is lost on the way."""
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        lost_at: float | None = None
        while True:
            try:
                return Job.from_json(self._ask("POST", "/generate", json=request, headers=headers).json())
            except ServiceClientError as error:
                if error.is_lost and lost_at is None:
                    lost_at = time.monotonic()
                # Once it may have been accepted it is asked for again until it is known.
                may_pass = error.may_pass or error.status == HTTPStatus.CONFLICT
                if lost_at is None or not may_pass or time.monotonic() - lost_at > PATIENCE_S:
                    raise
            time.sleep(POLL_INTERVAL_S)

    def job(self, job_id: str) -> Job:
        """Fetch the current state of a job."""
        return Job.from_json(self._ask("GET", f"/jobs/{job_id}").json())

    def wait(self, job_id: str, on_progress: Callable[[Job], None] | None = None) -> Job:
        """Follow a job to its end; ``on_progress`` sees whatever is new.

        While the job is queued it is polled, for its position in the queue; while it runs it is watched
        live. Where that does not work, it is polled all the time.
        """
        report = on_progress or (lambda _: None)
        last_answer = time.monotonic()
        while True:
            try:
                job = self.job(job_id)
            except ServiceClientError as error:
                if not error.may_pass or time.monotonic() - last_answer > PATIENCE_S:
                    raise
            else:
                report(job)
                if job.status == "running":
                    for seen in self._watch(job):
                        report(seen)
                        job = seen
                if job.ended:
                    return job
                last_answer = time.monotonic()
            time.sleep(POLL_INTERVAL_S)

    def _watch(self, job: Job) -> Iterator[Job]:
        """The job at each event from now on, to its end; ends early where it cannot be watched, or not any more."""
        begin = time.monotonic()
        headers = {"Last-Event-ID": str(job.version)}
        timeout = httpx2.Timeout(TIMEOUT_S, read=SILENCE_S)
        try:
            with self._client.stream("GET", f"/jobs/{job.id}/events", headers=headers, timeout=timeout) as response:
                if response.status_code != HTTPStatus.OK:
                    return
                for event in httpx2.EventSource(response):
                    if event.event == "progress":
                        progress = json.loads(event.data)
                        told = {name: progress[name] for name in ("phase", "step", "steps", "fraction")}
                        now = replace(job, version=int(event.id), **told)
                        yield replace(now, eta_s=_eta_s(job, now, time.monotonic() - begin))
                    elif event.event in ENDS:
                        yield Job.from_json(json.loads(event.data))
                    elif event.event == "status":
                        # It may wait its turn again.
                        return
        except httpx2.TransportError:
            return

    def image(self, job_id: str, index: int) -> bytes:
        """Fetch the PNG of a finished picture."""
        return self._ask("GET", f"/jobs/{job_id}/images/{index}").content

    def reference_url(self, job_id: str, subject: int) -> str:
        """Where the PNG is of what the model sees of a subject."""
        return f"{self.url}/jobs/{job_id}/references/{subject}"

    def cancel(self, job_id: str) -> Job:
        """Cancel a job, or ask for it while it runs."""
        return Job.from_json(self._ask("POST", f"/jobs/{job_id}/cancel").json())

    def readiness(self) -> Readiness:
        """Ask whether the service can make pictures now, and what it lacks."""
        response = self._send("GET", "/readyz")
        if response.status_code not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            raise _refusal(response)
        return Readiness.from_json(response.json())

    def _ask(self, method: str, path: str, **content: Any) -> httpx2.Response:
        response = self._send(method, path, **content)
        if not response.is_success:
            raise _refusal(response)
        return response

    def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            return self._client.request(method, path, **content)
        except httpx2.TimeoutException as error:
            is_lost = not isinstance(error, httpx2.ConnectTimeout)
            sentence = f"The service at {self.url} does not answer in time; try again."
            raise ServiceClientError(sentence, is_lost=is_lost) from error
        except ValueError as error:
            raise ServiceClientError(f"The request cannot be written as JSON: {error}.") from error
        except httpx2.TransportError as error:
            is_lost = not isinstance(error, httpx2.ConnectError)
            sentence = f"No service answers at {self.url}; start one with: msd up"
            raise ServiceClientError(sentence, is_lost=is_lost) from error


def _eta_s(job: Job, now: Job, elapsed_s: float) -> float | None:
    """What is left of a job ``now``, by the service's estimate for ``job``, which is ``elapsed_s`` old."""
    if job.eta_s is None:
        return None
    begin = job.step or 0
    step, steps = (value if value is None else value - begin for value in (now.step, now.steps))
    return remaining_s(job.eta_s, elapsed_s, step, steps)


def _refusal(response: httpx2.Response) -> ServiceClientError:
    """The error behind a response that is not a success."""
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        detail = f"The program at {response.url.host} is not this service (HTTP status {response.status_code})."
        return ServiceClientError(detail, response.status_code)
    problem = response.json()
    problems = tuple((item["pointer"], item["detail"]) for item in problem["errors"])
    return ServiceClientError(problem["detail"], response.status_code, problems)
