"""base64 as encoders write it, read as browsers read it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.requests.data_uris import bytes_of_data_uri
from ms_core.errors import PictureError

CONTENT = bytes(range(251)) + b"\xff\xfe\xfb\xef\xbe"
PLAIN = base64.b64encode(CONTENT).decode()
HEADER = "data:image/png;base64,"


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param(HEADER + base64.encodebytes(CONTENT).decode(), id="lines of 76"),
        pytest.param(HEADER + PLAIN + "\r\n", id="line end"),
        pytest.param(HEADER + " \t\f" + PLAIN[:7] + " " + PLAIN[7:], id="blanks"),
        pytest.param(HEADER + PLAIN.rstrip("="), id="no padding"),
        pytest.param(HEADER + PLAIN.replace("=", "%3D").replace("+", "%2B").replace("/", "%2f"), id="percent"),
        pytest.param(HEADER + PLAIN[:9] + "%0A" + PLAIN[9:], id="escaped line end"),
        pytest.param(f"\n DATA:image/png;charset=x; BASE64 ,{PLAIN}", id="header"),
    ],
)
def test_base64_is_read_as_browsers_read_it(uri: str) -> None:
    assert "=" in PLAIN
    assert bytes_of_data_uri(uri) == CONTENT


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ("AA==AA==", 'character 3 is "=", which may only fill up the end'),
        ("AAA=AAAA", 'character 4 is "="'),
        ("AA=", 'character 3 is "="'),
        ("A===", 'character 2 is "="'),
        ("AAAAA", "last character is missing, or one is too many"),
        ("AA-_", 'character 3 is "-", from the URL-safe alphabet; send "+" for "-" and "/" for "_"'),
        ("AAA\n_", 'character 4 is "_", from the URL-safe alphabet'),
        ("AAA!", "character 4 is '!', which base64 does not have"),
        ("AA\u00e4A", "character 3 is '\u00e4'"),
        ("\ud83dAAA", "character 1 is"),
        ("", "the data URI ends after the comma"),
        (" \n", "the data URI ends after the comma"),
    ],
)
def test_what_is_wrong_with_base64_is_named(payload: str, sentence: str) -> None:
    with pytest.raises(PictureError) as caught:
        bytes_of_data_uri(HEADER + payload)
    assert sentence in caught.value.detail


@given(st.binary(min_size=1, max_size=40), st.integers(1, 9))
def test_any_bytes_come_back(content: bytes, width: int) -> None:
    encoded = base64.b64encode(content).decode().rstrip("=")
    lines = "\n".join(encoded[start : start + width] for start in range(0, len(encoded), width))
    assert bytes_of_data_uri(HEADER + lines) == content
