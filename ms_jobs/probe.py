"""Asks Redis whether jobs can be accepted and taken: whether it writes, and whether RQ was suspended."""

from __future__ import annotations

from redis import Redis

from ms_jobs import keys

# What accepting a job does, on keys that are gone at once. Not the deletion first: a full Redis accepts writes after one.
_WRITE = """
for _, command in ipairs({
  {'HSET', KEYS[1], 'a', '1'}, {'RPUSH', KEYS[2], '1'}, {'SADD', KEYS[1], '1'}, {'ZADD', KEYS[1], '1', '1'},
  {'XADD', KEYS[1], '1-0', 'a', '1'}, {'SET', KEYS[1], '1'}
}) do
  redis.call(unpack(command))
  redis.call('DEL', command[2])
end
return redis.call('EXISTS', KEYS[3])
"""


class WriteProbe:
    """Tries what accepting a job needs of Redis."""

    def __init__(self, client: Redis) -> None:
        """Send nothing to Redis yet."""
        self._script = client.register_script(_WRITE)

    def is_suspended(self) -> bool:
        """Write and delete; returns whether ``rq suspend`` keeps all workers of this Redis from taking jobs.

        Raises:
            redis.exceptions.RedisError: Redis is away, or refuses to write.
        """
        return self._script(keys=[keys.NOTHING, keys.RQ_NOTHING, keys.RQ_SUSPENDED]) == 1
