"""Which workers are alive, and the cards of the models they serve.

Keys::

    msd:worker:<name>     string  JSON of a worker's record; expires when the worker stops beating
    msd:workers:<model>   set     names of the workers of a model
    msd:card:<model>      string  JSON of the model's card
"""

from __future__ import annotations

import json

from ms_core.config import ModelCard
from ms_jobs.records import WorkerRecord
from ms_jobs.redis_client import RedisClient, as_text

CARD_TTL_S = 24 * 3600
# A Redis without memory lets a script write that has removed something: who lives must be seen to live all the same.
_BEAT = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
"""


class Registry:
    """Reads and changes what Redis knows of workers and models.

    The errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._beat = client.register_script(_BEAT)

    def publish_worker(self, record: WorkerRecord, ttl_s: int) -> None:
        """Say that a worker is alive for ``ttl_s`` more seconds."""
        keys = [_worker_key(record.name), _workers_key(record.model)]
        self._beat(keys=keys, args=[record.model_dump_json(), ttl_s, record.name])

    def retire_worker(self, name: str, model: str) -> None:
        """Say that a worker is gone."""
        self._client.delete(_worker_key(name))
        self._client.srem(_workers_key(model), name)

    def workers(self, model: str) -> list[WorkerRecord]:
        """The workers of a model that are alive, or that failed a short while ago."""
        names = sorted(map(as_text, self._client.smembers(_workers_key(model))))
        if not names:
            return []
        texts = self._client.mget([_worker_key(name) for name in names])
        gone = [name for name, text in zip(names, texts, strict=True) if text is None]
        if gone:
            self._client.srem(_workers_key(model), *gone)
        return [WorkerRecord.from_beat(text) for text in texts if text is not None]

    def publish_card(self, model: str, card: ModelCard) -> None:
        """Make a model's card known for 24 h."""
        self._client.set(_card_key(model), json.dumps(card.to_dict()), ex=CARD_TTL_S)

    def card(self, model: str) -> ModelCard | None:
        """The card that a worker of the model published, or ``None`` before the first worker is ready."""
        text = self._client.get(_card_key(model))
        return None if text is None else ModelCard.from_dict(json.loads(text))


def _worker_key(name: str) -> str:
    return f"msd:worker:{name}"


def _workers_key(model: str) -> str:
    return f"msd:workers:{model}"


def _card_key(model: str) -> str:
    return f"msd:card:{model}"
