"""Bounds what one owner takes of something that all share, so that others are still served."""

from __future__ import annotations

from collections import Counter


class Shares:
    """So much of something; whoever holds as much of it as is left gets no more.

    One owner alone can hold half, two a third each; whoever comes later still gets some.
    """

    def __init__(self, size: int, *, by_owner: bool) -> None:
        """Nobody holds anything yet.

        Args:
            by_owner: there are several owners; else the one may hold all.
        """
        self._left = size
        self._by_owner = by_owner
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """How much all hold together."""
        return self._held.total()

    def has(self, owner: str, amount: int = 1) -> bool:
        """Whether an owner may take so much more."""
        return amount <= self._left and (not self._by_owner or self._held[owner] < self._left)

    def take(self, owner: str, amount: int = 1) -> None:
        """Let an owner hold more, also beyond its share."""
        self._left -= amount
        self._held[owner] += amount

    def give_back(self, owner: str, amount: int = 1) -> None:
        """Let an owner hold less."""
        self.take(owner, -amount)
        if not self._held[owner]:
            del self._held[owner]
