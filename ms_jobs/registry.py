"""Which workers are alive, and the cards of the models they serve."""

from __future__ import annotations

import json

from redis import Redis

from ms_core.config import ModelCard
from ms_jobs import keys
from ms_jobs.records import WorkerRecord, as_text

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

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._beat = client.register_script(_BEAT)

    def publish_worker(self, record: WorkerRecord, ttl_s: int) -> None:
        """Say that a worker is alive for ``ttl_s`` more seconds."""
        names = [keys.worker(record.name), keys.workers(record.model)]
        self._beat(keys=names, args=[record.model_dump_json(), ttl_s, record.name])

    def retire_worker(self, name: str, model: str) -> None:
        """Say that a worker is gone."""
        self._client.delete(keys.worker(name))
        self._client.srem(keys.workers(model), name)

    def workers(self, model: str) -> list[WorkerRecord]:
        """The workers of a model that are alive, or that failed a short while ago."""
        names = sorted(map(as_text, self._client.smembers(keys.workers(model))))
        if not names:
            return []
        texts = self._client.mget([keys.worker(name) for name in names])
        gone = [name for name, text in zip(names, texts, strict=True) if text is None]
        if gone:
            self._client.srem(keys.workers(model), *gone)
        return [WorkerRecord.from_beat(text) for text in texts if text is not None]

    def publish_card(self, model: str, card: ModelCard) -> None:
        """Make a model's card known for 24 h."""
        self._client.set(keys.card(model), json.dumps(card.to_dict()), ex=CARD_TTL_S)

    def card(self, model: str) -> ModelCard | None:
        """The card that a worker of the model published, or ``None`` before the first worker is ready."""
        text = self._client.get(keys.card(model))
        return None if text is None else ModelCard.from_dict(json.loads(text))
