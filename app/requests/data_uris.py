"""Data URIs with base64, read as forgivingly as browsers do: https://infra.spec.whatwg.org/#forgiving-base64-decode."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from urllib.parse import unquote_to_bytes

from ms_core.errors import PictureError

_HEADER = re.compile(r"\s*data:[^,]*;[ ]*base64\s*", re.IGNORECASE)
_BLANKS = b" \t\n\f\r"
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")


def bytes_of_data_uri(data_uri: str) -> bytes:
    """The content of a data URI.

    Blanks, missing padding and percent escapes are taken.

    Raises:
        PictureError: it is no data URI in base64, or holds nothing.
    """
    header, comma, payload = data_uri.partition(",")
    if not comma or _HEADER.fullmatch(header) is None:
        raise PictureError('Send the picture as a data URI: "data:image/png;base64," followed by its bytes in base64.')
    content = _decode(payload)
    if not content:
        raise PictureError("The picture is empty: the data URI ends after the comma.")
    return content


def _decode(payload: str) -> bytes:
    with suppress(ValueError):
        # Nearly all are plain base64, which this reads without looking for what is wrong.
        return base64.b64decode(payload, validate=True)
    # UTF-8 would turn half a surrogate into an error of its own.
    encoded = unquote_to_bytes(payload) if "%" in payload else payload.encode("utf-8", "surrogatepass")
    encoded = encoded.translate(None, _BLANKS)
    if len(encoded) % 4 == 0:
        encoded = encoded.removesuffix(b"=").removesuffix(b"=")
    wrong = _NO_BASE64.search(encoded)
    if wrong is not None:
        raise PictureError(_complaint(encoded, wrong.start()))
    if len(encoded) % 4 == 1:
        raise PictureError(
            "The data URI is not valid base64 after the comma: its last character is missing, or one is too many."
        )
    return base64.b64decode(encoded + b"=" * (-len(encoded) % 4))


def _complaint(encoded: bytes, place: int) -> str:
    """What is wrong with base64 at a character, counted without blanks."""
    # A character beyond ASCII has several bytes.
    character = encoded[place : place + 4].decode("utf-8", "replace")[0]
    where = f"The data URI is not valid base64 after the comma: its character {place + 1}"
    if character in "-_":
        return f'{where} is "{character}", from the URL-safe alphabet; send "+" for "-" and "/" for "_".'
    if character == "=":
        return f'{where} is "=", which may only fill up the end to a multiple of four characters.'
    return f"{where} is {character!r}, which base64 does not have."
