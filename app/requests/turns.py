"""Turns for decoding: the owner, and then the request, that will have been served least goes first.

Start-time fair queuing (Goyal, Vin and Cheng, 1996): whoever has nothing waiting begins where all others are.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.service.shares import Shares
from ms_jobs.records import LOCAL_OWNER

# Decoding a WebP at the limit takes some 900 MB: two at a time bound the process's memory.
AT_ONCE = 2
# A request whose client has left notices it within this time.
LOOK_AGAIN_S = 0.5


class ClientLeftError(Exception):
    """Nobody waits for this request any more."""


@dataclass(slots=True)
class _Owner:
    """How an owner stands.

    Attributes:
        begins_at: how far it was served, in pixels on the clock of all owners; its next picture begins there.
        clock: where its new requests begin: as if served already, so that they do not pass by a waiting one for ever.
        waiting: places of its requests, by pixels on ``clock``.
    """

    begins_at: int = 0
    clock: int = 0
    waiting: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def rank(self) -> tuple[int, int]:
        """Of its first request among all owners'; of two that stand the same, who came first."""
        return self.begins_at, min(self.waiting)[1]


class Turns:
    """Shares out decoding among owners and their requests, picture by picture, so that a small request waits for no large ones."""

    def __init__(self, at_once: int = AT_ONCE, *, by_owner: bool = False) -> None:
        """Nobody waits yet.

        Args:
            by_owner: there are several owners; as a picture is decoded to its end, none holds all turns.
        """
        self._held = Shares(at_once, by_owner=by_owner)
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._clock = 0
        self._owners = defaultdict[str, _Owner](_Owner)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._changed:
            return sum(len(owner.waiting) for owner in self._owners.values())

    @contextmanager
    def take(self, request: Turn, pixels: int) -> Generator[None]:
        """Wait for a turn and hold it during the block; the request and its owner are charged for ``pixels``."""
        with self._changed:
            self._wait(request, pixels)
        try:
            yield
        finally:
            with self._changed:
                self._held.give_back(request.owner)
                self._changed.notify_all()

    def _wait(self, request: Turn, pixels: int) -> None:
        owner = self._owners[request.owner]
        if not owner.waiting:
            owner.begins_at = max(owner.begins_at, self._clock)
        if request.begins_at is None:
            request.begins_at = owner.clock
        place = (request.begins_at + request.pixels + pixels, next(self._order))
        owner.waiting.append(place)
        try:
            while place != self._next():
                request.require_client()
                self._changed.wait(LOOK_AGAIN_S)
            request.require_client()
            self._held.take(request.owner)
            self._charge(owner, place, pixels)
            request.pixels += pixels
        finally:
            owner.waiting.remove(place)
            self._changed.notify_all()

    def _next(self) -> tuple[int, int] | None:
        """The place whose turn it is."""
        able = [owner for name, owner in self._owners.items() if owner.waiting and self._held.has(name)]
        return min(min(able, key=lambda owner: owner.rank).waiting) if able else None

    def _charge(self, owner: _Owner, place: tuple[int, int], pixels: int) -> None:
        owner.clock = max(owner.clock, place[0])
        self._clock = max(self._clock, owner.begins_at)
        owner.begins_at += pixels


# Of this process.
TURNS = Turns()


class Turn:
    """One request's share of the turns.

    Attributes:
        owner: whose request it is.
        pixels: decoded for it, with those at work.
        begins_at: what its owner's clock showed when it first waited.
    """

    def __init__(self, turns: Turns = TURNS, owner: str = LOCAL_OWNER) -> None:
        self.owner = owner
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
