"""Registry in Redis of live workers and of their models' cards."""

from __future__ import annotations

import json
import logging

from redis import Redis

from ms_core.config import ModelCard
from ms_core.errors import CheckpointError
from ms_jobs import keys
from ms_jobs.records import WorkerRecord, as_text, read_beats

log = logging.getLogger(__name__)

CARD_TTL_S = 24 * 3600
# A full Redis accepts writes only after a DEL; heartbeats must get through.
_BEAT = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
"""


class Registry:
    """Reads and changes the records of workers and the cards of models.

    Errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._beat = client.register_script(_BEAT)

    def publish_worker(self, record: WorkerRecord, ttl_s: int) -> None:
        """Publish a worker's record for ``ttl_s`` seconds."""
        names = [keys.worker(record.name), keys.workers(record.model)]
        self._beat(keys=names, args=[record.model_dump_json(), ttl_s, record.name])

    def retire_worker(self, name: str, model: str) -> None:
        """Remove a worker's record."""
        self._client.delete(keys.worker(name))
        self._client.srem(keys.workers(model), name)

    def workers(self, model: str) -> list[WorkerRecord]:
        """List the workers of a model that are alive, or failed recently."""
        names = sorted(map(as_text, self._client.smembers(keys.workers(model))))
        if not names:
            return []
        texts = self._client.mget([keys.worker(name) for name in names])
        gone = [name for name, text in zip(names, texts, strict=True) if text is None]
        if gone:
            self._client.srem(keys.workers(model), *gone)
        return list(read_beats(texts))

    def publish_card(self, model: str, card: ModelCard) -> None:
        """Publish a model's card for 24 hours."""
        self._client.set(keys.card(model), json.dumps(card.to_dict()), ex=CARD_TTL_S)

    def card(self, model: str) -> ModelCard | None:
        """Read a model's card, also of a newer version; ``None`` before its first worker is ready, or if it cannot be read."""
        text = self._client.get(keys.card(model))
        try:
            return None if text is None else ModelCard.from_dict(json.loads(text), newer=True)
        except (ValueError, CheckpointError) as error:
            log.warning("the card of model %s cannot be read: %s", model, error)
            return None
