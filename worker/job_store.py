"""Job records, worker records and model cards in Redis; every change of a job is one script, so one step.

Keys::

    msd:job:<id>          hash    the job's record; lives 24 h from its creation
    msd:active:<model>    set     ids of the jobs that have not ended
    msd:worker:<name>     string  JSON of a worker's record; expires when the worker stops beating
    msd:workers:<model>   set     names of the workers of a model
    msd:card:<model>      string  JSON of the model's card
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from enum import StrEnum
from typing import Any, Protocol

from ms_core.config import ModelCard
from worker.records import JobRecord, JobState, WorkerRecord, encode_field

JOB_TTL_S = 24 * 3600
CARD_TTL_S = 24 * 3600

# Every script begins with the record's key; a record that is gone is never made anew.
_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
return 1
"""

_TRANSITION = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state or not cjson.decode(ARGV[1])[cjson.decode(state)] then return 0 end
local kind = ARGV[2]
if kind ~= 'begin' and redis.call('HGET', KEYS[1], 'cancel_requested') == 'true' then
  redis.call('HSET', KEYS[1], 'state', '"canceled"', 'ended_at', ARGV[4])
  kind = 'end'
else
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
if kind == 'begin' then redis.call('HINCRBY', KEYS[1], 'attempt', 1) end
if kind == 'end' then redis.call('SREM', KEYS[2], ARGV[3]) end
return 1
"""

_PROGRESS = """
if redis.call('HGET', KEYS[1], 'state') ~= '"running"' then return 'not_running' end
redis.call('HSET', KEYS[1], unpack(ARGV))
redis.call('HINCRBY', KEYS[1], 'version', 1)
if redis.call('HGET', KEYS[1], 'cancel_requested') == 'true' then return 'cancel' end
return 'continue'
"""

_CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'unknown' end
if state == '"canceled"' then return 'canceled' end
if state == '"queued"' then
  redis.call('HSET', KEYS[1], 'state', '"canceled"', 'cancel_requested', 'true', 'ended_at', ARGV[1])
  redis.call('HINCRBY', KEYS[1], 'version', 1)
  redis.call('SREM', 'msd:active:' .. cjson.decode(redis.call('HGET', KEYS[1], 'model')), ARGV[2])
  return 'canceled'
end
if state ~= '"running"' then return 'ended' end
if redis.call('HGET', KEYS[1], 'cancel_requested') ~= 'true' then
  redis.call('HSET', KEYS[1], 'cancel_requested', 'true')
  redis.call('HINCRBY', KEYS[1], 'version', 1)
end
return 'requested'
"""


class CancelOutcome(StrEnum):
    """What became of a wish to cancel: done now or before, promised, too late, or no such job."""

    CANCELED = "canceled"
    REQUESTED = "requested"
    ENDED = "ended"
    UNKNOWN = "unknown"


class ProgressReply(StrEnum):
    """What a worker is to do after it reported progress."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    NOT_RUNNING = "not_running"


class RedisClient(Protocol):
    """The commands used here, as ``redis.Redis`` has them."""

    def delete(self, *names: str) -> Any: ...
    def eval(self, script: str, numkeys: int, /, *keys_and_args: Any) -> Any: ...
    def get(self, name: str, /) -> Any: ...
    def hgetall(self, name: str, /) -> Any: ...
    def mget(self, keys: list[str], /) -> Any: ...
    def sadd(self, name: str, /, *values: str) -> Any: ...
    def set(self, name: str, value: str, /, *, ex: int) -> Any: ...
    def smembers(self, name: str, /) -> Any: ...
    def srem(self, name: str, /, *values: str) -> Any: ...


class JobStore:
    """Reads and changes what Redis knows of jobs, workers and models.

    The errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    def create(self, record: JobRecord) -> bool:
        """Write a new record; false, and nothing written, if the id is taken."""
        fields = _pairs(record.to_hash())
        keys = [_job_key(record.id), _active_key(record.model)]
        return self._client.eval(_CREATE, 2, *keys, JOB_TTL_S, record.id, *fields) == 1

    def get(self, job_id: str) -> JobRecord | None:
        """The job's record, or ``None`` if there is no such job."""
        fields = self._client.hgetall(_job_key(job_id))
        return JobRecord.from_hash(fields) if fields else None

    def active_ids(self, model: str) -> set[str]:
        """Ids of a model's jobs that have not ended."""
        return set(map(_text, self._client.smembers(_active_key(model))))

    def forget(self, job_id: str, model: str) -> None:
        """Count a job no longer among those that have not ended, for its record is gone."""
        self._client.srem(_active_key(model), job_id)

    def transition(self, job_id: str, allowed_from: Collection[JobState], to: JobState, **fields: Any) -> bool:
        """Move a job to the state ``to`` if its state is one of ``allowed_from``; one step in Redis.

        Sets ``fields`` of the record too, and grows its version. ``running`` also sets ``started_at`` and grows
        ``attempt``; an ended state sets ``ended_at``; ``queued`` clears the progress. A job whose cancel was promised
        ends ``canceled`` wherever else it was to go.

        Returns:
            Whether the job was moved; false also for a job that is gone.
        """
        record = self.get(job_id)
        if record is None:
            return False
        changes = {**_changes_of_state(to), **fields}
        kind = "begin" if to is JobState.RUNNING else "end" if to.ended else "requeue"
        allowed = json.dumps({state.value: True for state in allowed_from})
        keys = [_job_key(job_id), _active_key(record.model)]
        now = encode_field(time.time())
        return self._client.eval(_TRANSITION, 2, *keys, allowed, kind, job_id, now, *_encode(changes)) == 1

    def progress(self, job_id: str, **fields: Any) -> ProgressReply:
        """Set ``phase``, ``step``, ``steps``, ``warnings`` and the like of a job that is running.

        Returns:
            Whether the worker is to go on. Nothing is written unless the job is running.
        """
        return ProgressReply(_text(self._client.eval(_PROGRESS, 1, _job_key(job_id), *_encode(fields))))

    def request_cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a queued job now, or ask the worker of a running one to stop; one step in Redis."""
        now = encode_field(time.time())
        return CancelOutcome(_text(self._client.eval(_CANCEL, 1, _job_key(job_id), now, job_id)))

    def publish_worker(self, record: WorkerRecord, ttl_s: int) -> None:
        """Say that a worker is alive for ``ttl_s`` more seconds."""
        self._client.set(_worker_key(record.name), record.model_dump_json(), ex=ttl_s)
        self._client.sadd(_workers_key(record.model), record.name)

    def retire_worker(self, name: str, model: str) -> None:
        """Say that a worker is gone."""
        self._client.delete(_worker_key(name))
        self._client.srem(_workers_key(model), name)

    def workers(self, model: str) -> list[WorkerRecord]:
        """The workers of a model that are alive, or that failed a short while ago."""
        names = sorted(map(_text, self._client.smembers(_workers_key(model))))
        if not names:
            return []
        texts = self._client.mget([_worker_key(name) for name in names])
        gone = [name for name, text in zip(names, texts, strict=True) if text is None]
        if gone:
            self._client.srem(_workers_key(model), *gone)
        return [WorkerRecord.model_validate_json(text) for text in texts if text is not None]

    def publish_card(self, model: str, card: ModelCard) -> None:
        """Make a model's card known for 24 h."""
        self._client.set(_card_key(model), json.dumps(card.to_dict()), ex=CARD_TTL_S)

    def card(self, model: str) -> ModelCard | None:
        """The card that a worker of the model published, or ``None`` before the first worker is ready."""
        text = self._client.get(_card_key(model))
        return None if text is None else ModelCard.from_dict(json.loads(text))


def _changes_of_state(to: JobState) -> dict[str, Any]:
    """The fields that go with a new state."""
    if to is JobState.QUEUED:
        return {"state": to, "started_at": None, "phase": None, "step": None, "steps": None, "worker": None}
    return {"state": to, "ended_at" if to.ended else "started_at": time.time()}


def _encode(changes: dict[str, Any]) -> list[str]:
    """Field names and values for HSET; names that a record does not have are a programming error."""
    unknown = sorted(set(changes) - set(JobRecord.model_fields))
    if unknown:
        raise TypeError(f"A job record has no field {', '.join(unknown)}.")
    # A partly filled model is enough to turn nested models into JSON-ready data.
    partial = JobRecord.model_construct(**changes)
    data = partial.model_dump(mode="json", include=set(changes))
    return _pairs({name: encode_field(value) for name, value in data.items()})


def _pairs(fields: dict[str, str]) -> list[str]:
    return [item for pair in fields.items() for item in pair]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _job_key(job_id: str) -> str:
    return f"msd:job:{job_id}"


def _active_key(model: str) -> str:
    return f"msd:active:{model}"


def _worker_key(name: str) -> str:
    return f"msd:worker:{name}"


def _workers_key(model: str) -> str:
    return f"msd:workers:{model}"


def _card_key(model: str) -> str:
    return f"msd:card:{model}"
