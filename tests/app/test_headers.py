"""What headers and cursors say, and that nothing a client writes into them gets through as something else."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.jobs.headers import (
    DURATION_PATTERN,
    MAX_DURATION_S,
    MAX_WAIT_S,
    Preference,
    is_match,
    parse_duration,
    parse_idempotency_key,
    parse_preference,
)
from app.jobs.list import Cursor
from app.service.errors import HTTPProblem
from ms_jobs.records import JOB_ID_PATTERN

HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=300)
JOB_IDS = st.from_regex(JOB_ID_PATTERN, fullmatch=True)
MOMENTS = st.floats(0, 4e9, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1),
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        (" 5M ", 300),
        ("030", 30),
        ("720h", MAX_DURATION_S),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration("Cancel-After", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5", "1.5", "5 m", "1d", "s", "m5", "721h", "9" * 400, "٣", "1e3", "inf"]
)
def test_what_is_no_duration_is_told_with_the_header(text: str) -> None:
    with pytest.raises(HTTPProblem, match=r"X-Start-Deadline must be a whole number .* such as 30, 30s, 5m or 1h"):
        parse_duration("X-Start-Deadline", text)


@given(HEADER_TEXT)
def test_a_duration_is_within_its_bounds_or_refused(text: str) -> None:
    with suppress(HTTPProblem):
        seconds = parse_duration("Cancel-After", text)
        assert seconds is not None
        assert 1 <= seconds <= MAX_DURATION_S


@given(st.sampled_from([1, 60, 3600]), st.integers(-2, 2) | st.integers(1, MAX_DURATION_S))
@example(1, MAX_DURATION_S)
def test_the_document_and_the_parser_have_one_range_of_durations(unit_s: int, distance: int) -> None:
    number = max(0, MAX_DURATION_S // unit_s - distance)
    text = f"{number}" + {1: "s", 60: "m", 3600: "h"}[unit_s]
    try:
        is_taken = parse_duration("Cancel-After", text) is not None
    except HTTPProblem:
        is_taken = False
    assert (re.search(DURATION_PATTERN, text) is not None) == is_taken


@given(st.integers(1, MAX_DURATION_S))
def test_seconds_mean_themselves(seconds: int) -> None:
    assert parse_duration("Cancel-After", str(seconds)) == parse_duration("Cancel-After", f"{seconds}s") == seconds


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("wait=10", Preference(10, "wait=10")),
        ("wait=100", Preference(MAX_WAIT_S, "wait=60")),
        ("wait=0", Preference(0, "wait=0")),
        ('Wait = "7"', Preference(7, "wait=7")),
        ("respond-async", Preference(0, "respond-async")),
        ("respond-async, wait=10", Preference(10, "wait=10")),
        ("return=minimal; foo=bar, wait=5", Preference(5, "wait=5")),
        ("wait=5;strict", Preference(5, "wait=5")),
        ("wait=1, wait=2", Preference(1, "wait=1")),
    ],
)
def test_preferences(text: str, preference: Preference) -> None:
    assert parse_preference(text) == preference


@pytest.mark.parametrize(
    "text", [None, "", "wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "handling=strict", ",,;="]
)
def test_preferences_that_say_nothing_to_us_are_ignored(text: str | None) -> None:
    assert parse_preference(text) == Preference(0, None)


@given(HEADER_TEXT)
def test_no_preference_is_an_error_or_waits_for_ever(text: str) -> None:
    preference = parse_preference(text)
    assert 0 <= preference.wait_s <= MAX_WAIT_S
    assert preference.applied in (None, "respond-async", f"wait={preference.wait_s}")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
@example("!" * 255)
def test_keys_are_kept_as_their_digest(key: str) -> None:
    assert parse_idempotency_key(key) == hashlib.sha256(key.encode()).hexdigest()


@given(HEADER_TEXT.filter(lambda text: not re.fullmatch("[!-~]{1,255}", text)))
@example("")
@example("two words")
@example("x" * 256)
@example("é")
@example("a\n")
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(HTTPProblem, match="1 to 255 visible ASCII"):
        parse_idempotency_key(key)


@pytest.mark.parametrize("header", ['W/"5-0"', '"5-0"', '"1", W/"5-0"', 'W/"1",W/"5-0" ', "*"])
def test_entity_tags_match_weakly(header: str) -> None:
    assert is_match(header, 'W/"5-0"')


@pytest.mark.parametrize("header", [None, "", '"5"', 'W/"5-1"', "5-0", 'W/"15-0"', '"5-0', '"W/"5-0'])
def test_other_entity_tags_do_not_match(header: str | None) -> None:
    assert not is_match(header, 'W/"5-0"')


@given(MOMENTS, JOB_IDS)
def test_a_cursor_comes_back_exactly(created_at: float, job_id: str) -> None:
    cursor = Cursor(created_at, job_id)
    assert Cursor.decode(cursor.encode(), JOB_ID_PATTERN, "/jobs") == cursor
    assert re.fullmatch("[A-Za-z0-9_-]+", cursor.encode())


@given(st.text(max_size=120))
@example("")
@example("bmFuIGFhYWFhYWFhYWFhYWFhYWE")  # nan
@example("MSBz")  # an id that is none
@example("%00")
@example("é")
def test_other_cursors_are_refused(text: str) -> None:
    """What is no cursor by chance is one that means itself."""
    with suppress(HTTPProblem):
        cursor = Cursor.decode(text, JOB_ID_PATTERN, "/jobs")
        assert Cursor.decode(cursor.encode(), JOB_ID_PATTERN, "/jobs") == cursor
