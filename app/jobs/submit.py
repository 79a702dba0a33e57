"""Accepts jobs: one job for each request, however often it is sent."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, NamedTuple, cast

import redis
from PIL import Image

from app.config import MEBIBYTE, Settings
from app.dependencies import owned
from app.jobs.manage import Jobs
from app.requests.intake import SentRequest, UnresolvedRequestError
from app.service.errors import InvalidRequestError
from ms_core.config import ModelCard
from ms_core.errors import (
    JobConflictError,
    JobGoneError,
    JobNotFoundError,
    LimitError,
    QueueUnavailableError,
    RequestMismatchError,
    StorageError,
)
from ms_core.spec import MAX_SEED, AutoLayout, Pictures, Subject
from ms_core.spec.resolve import Resolution, resolve
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_request import GenerateRequest, JobRequest, asked_document
from ms_jobs.job_store import JobStore
from ms_jobs.limits import Limits, charge_of
from ms_jobs.outcomes import CreateOutcome
from ms_jobs.pace import Shape
from ms_jobs.queue import JobQueue
from ms_jobs.records import JobRecord, new_job_id
from ms_jobs.registry import Registry

log = logging.getLogger(__name__)

# Each time, another client has deleted the job of the same key in between.
MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Options of a submission: chosen id, idempotency key, deadlines.

    Attributes:
        job_id: the id that the client chose.
        idempotency_key: as returned by ``app.jobs.headers.parse_idempotency_key``.
        cancel_after_s: the job is canceled if it has not ended after so many seconds.
        start_within_s: the job expires if it has not started after so many seconds.
        request_id: id of the HTTP request, for the logs.
    """

    job_id: str | None = None
    idempotency_key: str | None = None
    cancel_after_s: int | None = None
    start_within_s: int | None = None
    request_id: str | None = None


class Submitted(NamedTuple):
    """The job of a submission; ``replayed``: an earlier submission made it."""

    record: JobRecord
    replayed: bool


class Submissions:
    """Accepts the jobs of one owner and model.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached. Whether the job was accepted is unknown, so its files stay for
            the housekeeper.
        StorageError: the artifact store cannot be written; no files are left.
        JobGoneError: the id is that of a deleted or expired job.
        RequestMismatchError: the id or key is used for another request.
        LimitError: the owner, or all together, have as much as they may; no files are left.
    """

    def __init__(self, client: redis.Redis, artifacts: ArtifactStore, jobs: Jobs, settings: Settings) -> None:
        self._store = JobStore(client, jobs.owner, settings.lifetime_s)
        self._registry = Registry(client)
        self._client = client
        self._artifacts = artifacts
        self._jobs = jobs
        self._model = settings.model
        self._limits = Limits(settings.max_waiting, settings.max_queue, settings.max_steps_per_day)
        self._timeout_s = settings.job_timeout_s
        self._min_free_bytes = settings.min_free_disk_mb * MEBIBYTE

    def submit(self, sent: SentRequest | UnresolvedRequestError, options: SubmitOptions) -> Submitted:
        """Store the request and its pictures, and queue a job.

        Raises:
            InvalidRequestError: values do not fit each other or the model, or the request is unresolved and no repeat.
        """
        if isinstance(sent, UnresolvedRequestError):
            known = self._known(None, sent.sent_hash, options)
            if known is None:
                raise sent
            return known
        # First, so that without Redis nothing is written to disk, and a repeat does not depend on the model's card.
        request = sent.request
        asked = request_hash(request, sent.pictures)
        known = self._known(asked, sent.sent_hash, options)
        if known is not None:
            return known
        resolution = require_valid(request, self._registry.card(self._model))
        self._artifacts.require_room(self._min_free_bytes + sum(map(len, sent.pictures.pngs.values())))
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        job_id = options.job_id or new_job_id()
        with self._artifacts.new_folder(job_id) as folder:
            stored = JobRequest.of(resolution.spec, seed, self._model)
            for png in sent.pictures.pngs.values():
                folder.save_picture(png)
            for kept in sent.pictures.kept.values():
                folder.link_picture(kept.path)
            folder.save_request(stored, sent.pictures, asked_document(request, sent.pictures))
        draft = JobRecord(
            id=job_id,
            owner=self._jobs.owner,
            model=self._model,
            folder=folder.name,
            request_hash=asked,
            sent_hash=sent.sent_hash,
            request_id=options.request_id,
            seed=seed,
            num_images=request.num_images,
            warnings=resolution.warnings,
            shape=str(Shape.of(stored) or ""),
            charge=charge_of(stored),
        )
        return self._create(draft, options)

    def retry(self, job_id: str, options: SubmitOptions) -> Submitted:
        """Queue a new job with the request and seed of one that has ended.

        Raises:
            JobConflictError: the job has not ended.
            JobNotFoundError: there is no such job.
        """
        asked = retry_hash(job_id)
        known = self._known(asked, None, options)
        if known is not None:
            return known
        old = self._jobs.find(job_id)
        if not old.state.ended:
            raise JobConflictError(f"The job is still {old.state}; cancel it, or wait until it ends.")
        self._artifacts.require_room(self._min_free_bytes)
        new_id = new_job_id()
        try:
            folder = self._artifacts.copy_request(old.folder, new_id)
        except (JobNotFoundError, StorageError):
            # The job may have been deleted in this moment.
            self._jobs.find(job_id)
            raise
        draft = JobRecord(
            id=new_id,
            owner=self._jobs.owner,
            model=old.model,
            folder=folder,
            request_hash=asked,
            request_id=options.request_id,
            retried_from=job_id,
            seed=old.seed,
            num_images=old.num_images,
            warnings=old.warnings,
            shape=old.shape,
            charge=old.charge,
        )
        return self._create(draft, options)

    def _known(self, asked: str | None, sent_hash: str | None, options: SubmitOptions) -> Submitted | None:
        """Find the job that an earlier submission of this request made; ``asked`` is ``None`` if it cannot be resolved."""
        job_id = options.job_id
        if job_id is None and options.idempotency_key is not None:
            job_id = self._store.by_key(options.idempotency_key)
        if job_id is None:
            return None
        try:
            return _replayed(self._jobs.find(job_id), asked, sent_hash)
        except JobGoneError:
            if options.job_id is not None:
                raise
            # A key is kept as long as its job.
            return None
        except JobNotFoundError:
            return None

    def _create(self, draft: JobRecord, options: SubmitOptions) -> Submitted:
        """Write the job's record and queue it in one step; of several at once, one wins."""
        for _ in range(MOST_TRIES):
            outcome, job_id = self._create_once(draft, options)
            try:
                record = self._jobs.find(job_id)
            except JobNotFoundError:
                if outcome is CreateOutcome.KEY_USED:
                    # That job was erased in between, and its key with it.
                    continue
                self._artifacts.remove(draft.folder)
                raise
            # Not by the outcome: the command may have been sent twice, if an answer was lost.
            if record.folder == draft.folder:
                log.info("job accepted", extra={"job_id": record.id})
                return Submitted(record, replayed=False)
            self._artifacts.remove(draft.folder)
            return _replayed(record, draft.request_hash, draft.sent_hash)
        self._artifacts.remove(draft.folder)
        raise QueueUnavailableError(
            "The job of this idempotency key is deleted again and again; send the request again."
        )

    def _create_once(self, draft: JobRecord, options: SubmitOptions) -> tuple[CreateOutcome, str]:
        try:
            return self._store.create(
                draft,
                options.idempotency_key,
                options.cancel_after_s,
                options.start_within_s,
                entry=JobQueue(self._client, draft.model, self._timeout_s).entry(draft),
                limits=self._limits,
            )
        except LimitError:
            self._artifacts.remove(draft.folder)
            raise


SubmissionsDependency = Annotated[Submissions, owned("submissions")]


def _replayed(record: JobRecord, asked: str | None, sent_hash: str | None) -> Submitted:
    is_sent_again = sent_hash is not None and record.sent_hash == sent_hash
    if record.request_hash != asked and not is_sent_again:
        detail = "This id or key is already used for another request; send that request unchanged, or choose another."
        raise RequestMismatchError(detail)
    return Submitted(record, replayed=True)


def require_valid(request: GenerateRequest, card: ModelCard | None) -> Resolution[GenerateRequest]:
    """Fill in the model's values.

    Raises:
        InvalidRequestError: values do not fit each other or the model.
    """
    resolution = resolve(request, card)
    if resolution.errors:
        raise InvalidRequestError(resolution.errors)
    return resolution


def request_hash(request: GenerateRequest, pictures: Pictures) -> str:
    """Hash a request (SHA-256, hexadecimal): two bodies that mean the same have the same hash.

    The model's defaults are not filled in, so that a worker that becomes ready does not change it, and values at the API's
    own defaults are left out, so that a new field does not either.
    """
    text = json.dumps(_plain(request, pictures), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def retry_hash(job_id: str) -> str:
    """Hash the retry of a job, as ``request_hash`` hashes a request."""
    return hashlib.sha256(f"retry {job_id}".encode()).hexdigest()


def _plain(value: Any, pictures: Pictures) -> Any:
    """Convert to JSON-ready data: pictures by their SHA-256, and only fields that are not at their defaults."""
    if isinstance(value, Image.Image):
        return pictures.name(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, pictures) for item in cast("Iterable[Any]", value)]
    if not is_dataclass(value):
        return value
    given = {
        item.name: getattr(value, item.name) for item in fields(value) if getattr(value, item.name) != _default(item)
    }
    if isinstance(value, Subject) and isinstance(value.image, tuple):
        given["images"] = given.pop("image")
    if isinstance(value, AutoLayout):
        given["mode"] = value.mode
    return {name: _plain(item, pictures) for name, item in given.items()}


def _default(item: Field[Any]) -> Any:
    return None if item.default is MISSING else item.default
