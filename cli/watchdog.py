"""Notices that a child process runs but does not answer."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from contextlib import closing, suppress

from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from ms_jobs.connection import quick_client
from worker.process import ManagedProcess

LOOK_EVERY_S = 3.0
ANSWER_TIMEOUT_S = 3.0
# In a row; a busy machine may leave some unanswered.
MOST_UNANSWERED = 15


class Watchdog:
    """Asks one child again and again, in a thread; the caller ends a child that it finds frozen."""

    def __init__(self, process: ManagedProcess, answers: Callable[[], bool]) -> None:
        """Start asking; the thread ends with this process, or at ``stop``."""
        self._process = process
        self._answers = answers
        self._unanswered = 0
        self._has_answered = False
        self._pid: int | None = None
        self._told: int | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._look_until_stopped, name="watchdog", daemon=True).start()

    def finds_frozen(self) -> bool:
        """Whether the child that runs has not answered for long; says so once for each child."""
        if self._unanswered < MOST_UNANSWERED or self._process.pid != self._pid or self._pid in (None, self._told):
            return False
        self._told = self._pid
        return True

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _look_until_stopped(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            pid = self._process.pid
            if pid is None or pid != self._pid:
                self._unanswered, self._pid, self._has_answered = 0, pid, False
            if self._answers():
                self._unanswered, self._has_answered = 0, True
            elif self._has_answered:
                # Before its first answer it starts, which may take long.
                self._unanswered += 1


def api_answers(host: str, port: int) -> bool:
    """Whether the API says that it is alive."""
    with (
        suppress(OSError, http.client.HTTPException),
        closing(http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)) as connection,
    ):
        connection.request("GET", "/livez")
        connection.getresponse().close()
        return True
    return False


def redis_answers(url: str) -> bool:
    """Whether Redis says anything, if only that it is still loading."""
    client = quick_client(url)
    try:
        client.ping()
    except (BusyLoadingError, ResponseError):
        return True
    except RedisError:
        return False
    finally:
        client.close()
    return True
