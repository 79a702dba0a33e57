"""Turns for decoding: who will have been served least goes first; a new request counts as served up to now."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator
from contextlib import contextmanager

# Decoding a WebP at the limit takes some 900 MB: two at a time bound the process's memory.
AT_ONCE = 2
# A request whose client has left notices it within this time.
LOOK_AGAIN_S = 0.5


class ClientLeftError(Exception):
    """Nobody waits for this request any more."""


class Turns:
    """Shares out decoding among requests, picture by picture, so that a small request does not wait for large ones."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._changed = threading.Condition()
        self._order = itertools.count()
        # Where new requests begin: as if served already, so that they do not pass by a waiting one for ever.
        self._clock = 0
        self._waiting: list[tuple[int, int]] = []

    @contextmanager
    def take(self, request: Turn, pixels: int) -> Generator[None]:
        """Wait for a turn and hold it during the block; the request is charged for ``pixels``."""
        with self._changed:
            if request.begins_at is None:
                request.begins_at = self._clock
            place = (request.begins_at + request.pixels + pixels, next(self._order))
            self._waiting.append(place)
            try:
                while not (self._free and place == min(self._waiting)):
                    request.require_client()
                    self._changed.wait(LOOK_AGAIN_S)
                request.require_client()
                self._free -= 1
                self._clock = max(self._clock, place[0])
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            request.pixels += pixels
            with self._changed:
                self._free += 1
                self._changed.notify_all()


# Of this process.
TURNS = Turns()


class Turn:
    """One request's share of the turns.

    Attributes:
        pixels: decoded for it so far.
        begins_at: what the turns' clock showed when it first waited.
    """

    def __init__(self, turns: Turns = TURNS) -> None:
        self.pixels = 0
        self.begins_at: int | None = None
        self._turns = turns
        self._has_left = False

    def leave(self) -> None:
        """Note that the client has left: no further picture is decoded."""
        self._has_left = True

    def require_client(self) -> None:
        """Raise ``ClientLeftError`` if the client has left."""
        if self._has_left:
            raise ClientLeftError

    @contextmanager
    def take(self, pixels: int) -> Generator[None]:
        """Wait for a turn and hold it during the block.

        Raises:
            ClientLeftError: nobody waits for the picture.
        """
        with self._turns.take(self, pixels):
            yield
