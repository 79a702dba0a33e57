"""Reads a form, multipart/form-data (RFC 7578), that has arrived as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import parse_options_header

from app.service.errors import HTTPProblem
from app.service.problems import BODY_TOO_LARGE, MALFORMED_MULTIPART

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# The largest request names 149 pictures.
MAX_PARTS = 256
REQUEST_PART = "request"


class Part(NamedTuple):
    """A part of a form; what type it says it has does not count."""

    name: str
    content: bytes


def read_form(body: bytes, boundary: bytes) -> list[Part]:
    """The parts of a form, in their order.

    Raises:
        HTTPProblem: the body is no form, is cut off, or has too many parts.
    """
    # Before anything is built: a search is many times faster.
    if body.count(b"--" + boundary) > MAX_PARTS + 1:
        raise HTTPProblem(BODY_TOO_LARGE, f"The form has more than {MAX_PARTS} parts; no request needs so many.")
    collector = _Collector()
    try:
        MultipartParser(boundary, collector.callbacks()).write(body)
    except MultipartParseError as error:
        raise malformed(f"The form is broken at its byte {error.offset}.") from error
    except FormParserError as error:
        raise malformed("The boundary of the form is too long.") from error
    if not collector.is_complete:
        raise malformed("The form is cut off: its closing boundary is missing.")
    return collector.parts


def request_and_pictures(parts: list[Part]) -> tuple[bytes, dict[str, bytes]]:
    """The part with the request, and all others by their names.

    Raises:
        HTTPProblem: there is no request, or two parts have the same name.
    """
    named = dict(parts)
    if len(named) != len(parts):
        raise malformed("Two parts of the form have the same name; give each picture its own.")
    if REQUEST_PART not in named:
        raise malformed(f"The form has no part named {REQUEST_PART!r}; send the request there, as JSON.")
    return named.pop(REQUEST_PART), named


def malformed(detail: str) -> HTTPProblem:
    """Make the problem of a form that cannot be read."""
    return HTTPProblem(MALFORMED_MULTIPART, detail)


class _Collector:
    """Gathers what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.is_complete = False
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._content: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_content,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    def _begin(self) -> None:
        self._headers, self._content = {}, []

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        self.parts.append(Part(_name_in(self._headers.get(b"content-disposition")), b"".join(self._content)))

    def _complete(self) -> None:
        self.is_complete = True


def _name_in(disposition: bytes | None) -> str:
    """The name that a part's ``Content-Disposition`` gives."""
    kind, options = parse_options_header(disposition)
    if kind != b"form-data" or b"name" not in options:
        raise malformed('A part of the form has no name; each begins with Content-Disposition: form-data; name="...".')
    try:
        return options[b"name"].decode()
    except UnicodeDecodeError as error:
        raise malformed("The name of a part of the form is not UTF-8.") from error
