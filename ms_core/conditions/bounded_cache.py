"""What was computed lately, found again by its source's content, up to a number of bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedCache(Generic[T]):
    """The values that were used last; those of one process and one thread."""

    def __init__(self, max_bytes: int, size_of: Callable[[T], int]) -> None:
        """Make an empty cache.

        Args:
            max_bytes: of all values together; 0 keeps none.
            size_of: the bytes that a value takes.
        """
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._values: OrderedDict[bytes, T] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """How many values are kept."""
        return len(self._values)

    def get(self, key: bytes) -> T | None:
        """The value kept under ``key``, which is now the last used; ``None`` if there is none."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: bytes, value: T) -> None:
        """Keep a value under a key that has none; those that were not used for longest make room for it.

        A value larger than the whole cache is not kept.
        """
        size = self._size_of(value)
        if size > self._max_bytes:
            return
        while self._bytes + size > self._max_bytes:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= self._size_of(dropped)
        self._values[key] = value
        self._bytes += size


def content_key(*parts: bytes | str) -> bytes:
    """The SHA-256 of some parts of a content, in order; other parts or another split give another key."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()
