"""Job records in Redis. Every change of a job is one script, so atomic; ``docs/architecture/job-life.md`` draws them.

``ms_jobs.keys`` lists the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from ms_core.errors import UnreadableJobError
from ms_jobs import keys
from ms_jobs.connection import is_transient
from ms_jobs.keys import JobKey
from ms_jobs.limits import NO_LIMITS, SLOT_S, WINDOW_S, Limits, limit_error
from ms_jobs.measures import BUCKETS
from ms_jobs.outcomes import CancelOutcome, CreateOutcome, Gone, ProgressReply, Requeue
from ms_jobs.records import (
    LOCAL_OWNER,
    MAX_ATTEMPTS,
    ErasedJob,
    JobError,
    JobRecord,
    JobState,
    as_text,
    encode_field,
    unreadable_job,
)

DEFAULT_LIFETIME_S = 24 * 3600
GONE_MARK_TTL_S = 7 * 24 * 3600
PROGRESS_ENTRIES = 48

_LUA = Path(__file__).parent / "lua"
_SCRIPT_NAMES = ("create", "begin", "progress", "finish", "requeue", "cancel", "pass_time", "erase", "join", "leave")
_BUCKETS = f"local buckets = {{{', '.join(map(repr, BUCKETS))}}}"
_WINDOW = f"local slot_s, window_s = {SLOT_S}, {WINDOW_S}"
_PRELUDE = f"{_BUCKETS}\n{_WINDOW}\n{(_LUA / 'prelude.lua').read_text()}"
_SCRIPTS = {name: f"{_PRELUDE}\n{(_LUA / f'{name}.lua').read_text()}" for name in _SCRIPT_NAMES}


# Small numbers, which Redis stores as shared objects.
_GONE_OF_MARK = {"1": Gone.EXPIRED, "2": Gone.DELETED}
_MARK_OF_GONE = {reason: mark for mark, reason in _GONE_OF_MARK.items()}


class JobStore:
    """Reads and changes the job records of one owner.

    A worker passes the number of its attempt; its changes apply only while that attempt runs. Errors of the client, such as
    ``redis.exceptions.ConnectionError``, pass through unchanged.

    Raises (every method about one job):
        UnreadableJobError: its record is damaged, or a newer version wrote what this one does not know.
    """

    def __init__(
        self,
        client: Redis,
        owner: str = LOCAL_OWNER,
        lifetime_s: float = DEFAULT_LIFETIME_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Send nothing to Redis yet.

        Args:
            lifetime_s: how long a job may wait, and how long it is kept after its end.
            clock: returns Unix seconds; by default the clock of Redis, which all hosts share.
        """
        self._client = client
        self._owner = owner
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._scripts = {name: client.register_script(text) for name, text in _SCRIPTS.items()}

    def for_owner(self, owner: str) -> JobStore:
        """Get the store of another owner's jobs."""
        if owner == self._owner:
            return self
        return JobStore(self._client, owner, self._lifetime_s, self._clock)

    def create(
        self,
        record: JobRecord,
        idempotency_key: str | None = None,
        cancel_after_s: float | None = None,
        start_within_s: float | None = None,
        entry: Sequence[Sequence[Any]] = (),
        limits: Limits = NO_LIMITS,
    ) -> tuple[CreateOutcome, str]:
        """Write a new record, unless its id is or was in use, or its idempotency key names another job.

        Args:
            idempotency_key: of letters, digits, '-' and '_'; kept as long as the job.
            cancel_after_s: the job is canceled if it has not ended after so many seconds.
            start_within_s: the job expires if it has not started after so many seconds.
            entry: commands that put the job into the queue, run in the same step if the record is written.
            limits: what the owner, and all together, may have.

        Returns:
            The outcome, and the id of the job that the caller gets.

        Raises:
            LimitError: nothing was written, since it would be more than ``limits``.
        """
        record = record.model_copy(update={"owner": self._owner, "idempotency_key": idempotency_key})
        deadlines = ["" if limit is None else limit for limit in (cancel_after_s, start_within_s)]
        fields = _pairs(record.to_hash())
        commands = [word for command in entry for word in (len(command), *command)]
        arguments = (
            idempotency_key or "",
            *deadlines,
            *limits,
            keys.queue(record.model),
            len(fields),
            *fields,
            *commands,
        )
        answer, text = map(as_text, self.run("create", record.id, *arguments))
        outcome = CreateOutcome(answer)
        error = limit_error(outcome, limits, int(text) if outcome is CreateOutcome.STEPS_SPENT else 0)
        if error is not None:
            raise error
        return outcome, text

    def get(self, job_id: str) -> JobRecord | None:
        """Read a job's record; ``None`` if there is no such job."""
        found = self.get_many([job_id])[0]
        if isinstance(found, UnreadableJobError):
            raise found
        return found

    def get_many(self, job_ids: Sequence[str]) -> list[JobRecord | UnreadableJobError | None]:
        """Read the records of several jobs in one round trip; ``None`` for missing ones, an error for unreadable ones."""
        return self.get_all([JobKey(self._owner, job_id) for job_id in job_ids])

    def get_all(self, jobs: Sequence[JobKey]) -> list[JobRecord | UnreadableJobError | None]:
        """Do what ``get_many`` does for jobs of any owners."""
        if not jobs:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.hgetall(keys.job(job))
            return [read_record(answer) for answer in pipeline.execute(raise_on_error=False)]

    def is_known(self, jobs: Sequence[JobKey]) -> list[bool]:
        """Whether there is such a job, or was until it was erased; of any owners."""
        with self._client.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.exists(keys.job(job), keys.gone(job))
            return [count > 0 for count in pipeline.execute()]

    def by_key(self, idempotency_key: str) -> str | None:
        """Find the job of an idempotency key; ``None`` if there is none."""
        job_id = self._client.get(keys.idempotency(self._owner, idempotency_key))
        return None if job_id is None else as_text(job_id)

    def gone(self, job_id: str) -> Gone | None:
        """Get why a job was erased; ``None`` if it was not, or more than seven days ago."""
        mark = self._client.get(keys.gone(JobKey(self._owner, job_id)))
        # A newer version may know more reasons.
        return None if mark is None else _GONE_OF_MARK.get(as_text(mark), Gone.DELETED)

    def active(self, model: str) -> set[JobKey]:
        """List the jobs of a model, of all owners, that have not ended."""
        return {JobKey.parse(as_text(member)) for member in self._client.smembers(keys.active(model))}

    def due(self, model: str, now: float, limit: int = 100) -> list[JobKey]:
        """List the jobs of a model, of all owners, with a deadline that has passed at ``now``."""
        members: list[Any] = self._client.zrangebyscore(keys.due(model), "-inf", now, start=0, num=limit)
        return [JobKey.parse(as_text(member)) for member in members]

    def forget(self, key: JobKey, model: str) -> None:
        """Drop a job without a record from the model's sets."""
        self._client.srem(keys.active(model), str(key))
        self._client.srem(keys.running(model), str(key))
        self._client.zrem(keys.due(model), str(key))

    def begin(self, job_id: str, worker: str, device: str) -> JobRecord | None:
        """Start a new attempt at a queued job.

        Returns:
            The record with the attempt's number; ``None`` if the job is not queued. A worker that repeats the call for the
            job it runs gets the same record again.
        """
        flat = self.run("begin", job_id, encode_field(worker), encode_field(device))
        return None if flat is None else _record(flat)

    def progress(self, job_id: str, attempt: int, preview: bytes = b"", **fields: Any) -> ProgressReply:
        """Set fields such as ``phase``, ``step``, ``steps`` and ``warnings``; a ``preview`` replaces the last one.

        Returns:
            What the worker must do.
        """
        reply = self.run("progress", job_id, attempt, preview, PROGRESS_ENTRIES, *_encode(fields))
        return ProgressReply(as_text(reply))

    def finish(self, job_id: str, attempt: int, state: JobState, **fields: Any) -> JobState | None:
        """End a running job; it ends ``canceled``, whatever ``state`` says, if a cancel was requested.

        Returns:
            The final state; ``None`` if this attempt does not run the job.
        """
        return _state_if_any(self.run("finish", job_id, attempt, state.value, *_encode(fields)))

    def requeue(self, job_id: str, attempt: int, reason: Requeue, error: JobError) -> JobState | None:
        """Requeue a running job; the caller adds the queue entry if the result is ``queued``.

        Returns:
            ``queued``; ``failed``, with ``error``, after the last attempt; ``canceled`` if a cancel was requested; ``None``
            if the attempt is not the latest, or for ``ABANDONED`` if its worker still reports the job.
        """
        text = encode_field(error.model_dump(mode="json"))
        return _state_if_any(self.run("requeue", job_id, attempt, reason.value, MAX_ATTEMPTS, text))

    def request_cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a queued job now, or ask the worker of a running one to stop."""
        return CancelOutcome(as_text(self.run("cancel", job_id)))

    def pass_time(self, job_id: str) -> tuple[JobState, bool] | None:
        """Apply the deadlines of a job.

        Returns:
            Its state, and whether it has ended and is past its lifetime; ``None`` if there is no such job.
        """
        answer = self.run("pass_time", job_id)
        return None if answer is None else (_state(answer[0]), answer[1] == 1)

    def erase(self, job_id: str, reason: Gone | None) -> ErasedJob | None:
        """Remove a job's record, also one that cannot be read.

        Args:
            reason: kept as a mark for seven days. ``EXPIRED`` removes only a job past its lifetime; ``None``, for a job that was
                never accepted, leaves no mark.

        Returns:
            What else is to be removed; ``None`` if nothing was.
        """
        only_expired = "1" if reason is Gone.EXPIRED else "0"
        mark = "" if reason is None else _MARK_OF_GONE[reason]
        flat = self.run("erase", job_id, reason or "", GONE_MARK_TTL_S, only_expired, mark)
        return None if flat is None else ErasedJob.from_hash(JobKey(self._owner, job_id), _pairwise(flat))

    def ids(self, before: float | str = "+inf", limit: int = 100) -> list[tuple[str, float]]:
        """List ids and creation times of the owner's jobs, newest first, up to ``before`` (``"(t"`` excludes ``t``)."""
        found: list[Any] = self._client.zrevrangebyscore(
            keys.jobs(self._owner), before, "-inf", start=0, num=limit, withscores=True
        )
        return [(as_text(member), float(score)) for member, score in found]

    def run(self, script: str, job_id: str, *arguments: Any) -> Any:
        """Run one of the scripts in ``ms_jobs/lua`` on a job; each says what arguments it takes from the fifth on."""
        now = "" if self._clock is None else self._clock()
        try:
            return self._scripts[script](
                keys=[self._key(job_id)], args=[now, self._owner, job_id, self._lifetime_s, *arguments]
            )
        except ResponseError as error:
            if is_transient(error):
                raise
            # The script met a field that it cannot use.
            raise unreadable_job() from error

    def _key(self, job_id: str) -> str:
        return keys.job(JobKey(self._owner, job_id))


def _record(flat: list[Any]) -> JobRecord:
    """Parse a hash as scripts return it: names and values in turn."""
    return JobRecord.from_hash(_pairwise(flat))


def _pairwise(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_record(answer: Any) -> JobRecord | UnreadableJobError | None:
    """Read one answer of a pipeline, run with ``raise_on_error=False``, that asked for a job's hash.

    Returns:
        The record; ``None``: there is none; an error that concerns this job alone.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if isinstance(answer, RedisError):
        if is_transient(answer):
            raise answer
        return unreadable_job()
    try:
        return JobRecord.from_hash(answer) if answer else None
    except UnreadableJobError as error:
        return error


def _state(text: bytes | str) -> JobState:
    try:
        return JobState(as_text(text))
    except ValueError as error:
        raise unreadable_job() from error


def _state_if_any(text: bytes | str | None) -> JobState | None:
    return None if text is None else _state(text)


def _encode(changes: dict[str, Any]) -> list[str]:
    """Encode fields for HSET.

    Raises:
        TypeError: a record has no such field.
    """
    unknown = sorted(set(changes) - set(JobRecord.model_fields))
    if unknown:
        raise TypeError(f"A job record has no field {', '.join(unknown)}.")
    return [text for name, value in changes.items() for text in (name, encode_field(to_jsonable_python(value)))]


def _pairs(fields: dict[str, str]) -> list[str]:
    return [item for pair in fields.items() for item in pair]
