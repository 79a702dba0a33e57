"""The bounded memory: what goes first, and that only equal contents share a key."""

from __future__ import annotations

import pytest

from ms_core.conditions.bounded_cache import BoundedCache, content_key


def cache_of(*values: bytes, max_bytes: int = 10) -> BoundedCache[bytes]:
    """A cache with each value under itself."""
    cache = BoundedCache[bytes](max_bytes, len)
    for value in values:
        cache.put(value, value)
    return cache


def test_what_fits_is_found_again() -> None:
    cache = cache_of(b"12345", b"67890")
    assert (cache.get(b"12345"), cache.get(b"67890"), cache.get(b"?")) == (b"12345", b"67890", None)


def test_the_oldest_goes_first() -> None:
    cache = cache_of(b"1234", b"5678", b"90")
    cache.put(b"abcd", b"abcd")
    assert cache.get(b"1234") is None
    assert (cache.get(b"5678"), cache.get(b"90"), len(cache)) == (b"5678", b"90", 3)


def test_what_was_used_stays() -> None:
    cache = cache_of(b"1234", b"5678", b"90")
    cache.get(b"1234")
    cache.put(b"abcd", b"abcd")
    assert (cache.get(b"1234"), cache.get(b"5678")) == (b"1234", None)


def test_a_value_above_the_bound_drives_nothing_out() -> None:
    cache = cache_of(b"1234")
    cache.put(b"long", b"12345678901")
    assert (cache.get(b"long"), cache.get(b"1234")) == (None, b"1234")


def test_a_bound_of_nothing_keeps_nothing() -> None:
    assert len(cache_of(b"1", max_bytes=0)) == 0


def test_equal_parts_have_one_key() -> None:
    assert content_key(b"picture", "size") == content_key(b"picture", "size")


@pytest.mark.parametrize("parts", [("ab", "cd"), ("abcd",), ("a", "bc"), ("abc", ""), ("c", "ab")])
def test_another_content_or_split_has_another_key(parts: tuple[str, ...]) -> None:
    assert content_key(*parts) != content_key("ab", "c")
