"""Connections that wait for jobs: one that sends a request again joins the job of the first, and nobody's job is canceled."""

from __future__ import annotations

from typing import Any, Literal

from redis import Redis

from ms_jobs import keys
from ms_jobs.job_store import JobStore
from ms_jobs.records import LOCAL_OWNER, as_text


class Waiters:
    """Those who wait for the jobs of one owner, as all processes of the API see them.

    A digest names what a client sent; several jobs may have the same one.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, store: JobStore, window_s: float, owner: str = LOCAL_OWNER) -> None:
        """Ask nothing of Redis yet.

        Args:
            window_s: how long a job waits for somebody to come back, in seconds; then it is canceled.
        """
        self._client = client
        self._store = store
        self._window_s = window_s
        self._owner = owner

    def begin(self, job_id: str, digest: str) -> None:
        """Wait for the job that was just made."""
        self._join(job_id, digest, "own")

    def rejoin(self, digest: str, is_retry: bool) -> str | None:
        """Wait for the job of the same request whose connection was lost within the window.

        Args:
            is_retry: the client says that it sends the request again: then it may also be one that still has a connection,
                which may be dead, or had its answer within the window, which may not have arrived.

        Returns:
            The job's id; ``None`` if there is none.
        """
        found: list[Any] = self._client.zrevrange(keys.twins(self._owner, digest), 0, -1)
        twins = [as_text(member) for member in found]
        for which in ("lost", "any") if is_retry else ("lost",):
            for job_id in twins:
                if self._join(job_id, digest, which):
                    return job_id
        return None

    def end(self, job_id: str, digest: str, answered: bool) -> None:
        """Wait no longer; a job that nobody waits for and nobody was answered with is canceled after the window."""
        self._store.run("leave", job_id, digest, "answered" if answered else "lost", self._window_s)

    def _join(self, job_id: str, digest: str, which: Literal["own", "lost", "any"]) -> bool:
        reply: Any = self._store.run("join", job_id, digest, which, self._window_s)
        return reply == 1
