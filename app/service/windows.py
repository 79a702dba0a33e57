"""Counts in Redis of what each owner does within a time, for all API processes together."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import Redis

from ms_jobs import keys


class Window:
    """One count for each owner of a model."""

    def __init__(self, client: Redis, item: RateLimitItem, *names: str) -> None:
        """Ask nothing of Redis yet.

        Args:
            item: the most within which time.
            names: what is counted, and of which model.
        """
        storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=keys.RATE)
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._item = item
        self._names = names

    def take(self, owner: str, amount: int = 1) -> bool:
        """Count so much unless it would be too much; whether it was counted.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        return self._limiter.hit(self._item, *self._names, owner, cost=amount)

    def left(self, owner: str) -> tuple[int, int]:
        """How much is left, and in how many seconds there will be more.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        stats = self._limiter.get_window_stats(self._item, *self._names, owner)
        return stats.remaining, max(1, math.ceil(stats.reset_time - time.time()))
