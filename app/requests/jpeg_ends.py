"""JPEGs that lack only the two bytes of their end marker: all rows are there, but Pillow waits for more."""

from __future__ import annotations

import hashlib
import io
import math
import re
import zlib
from collections.abc import Iterator

from PIL import Image

START = b"\xff\xd8"
END = b"\xff\xd9"

_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_SCAN = 0xDA
_RESTART_INTERVAL = 0xDD
# In a scan, these are data, restarts and fill bytes.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_COEFFICIENTS = 64
# So many different continuations change no pixel of a complete picture.
_CONTINUATIONS = 7


def with_end_marker(encoded: bytes) -> bytes | None:
    """A JPEG with the end marker that it lacks; ``None`` if anything else is missing too.

    The decoder makes up rows that are missing before an end marker. So other data are put there: a picture of which all rows
    are there stays the same.
    """
    # Half of the marker may be there.
    body = encoded.rstrip(b"\xff")
    if not _Scans(body).are_complete:
        return None
    pixels = _pixels(body + END)
    is_complete = all(_pixels(body + _continuation(number) + END) == pixels for number in range(_CONTINUATIONS))
    return body + END if is_complete else None


def _pixels(encoded: bytes) -> int:
    """A checksum of all pixels."""
    with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as picture:
        return zlib.crc32(picture.tobytes())


def _continuation(number: int) -> bytes:
    """Some arbitrary bytes without a marker."""
    return hashlib.sha256(bytes([number])).digest().replace(b"\xff", b"") * 8


class _Scans:
    """The scans of a JPEG, by their headers and restart markers.

    Attributes:
        missing: component and coefficient of what no scan has sent to its last bit.
    """

    def __init__(self, encoded: bytes) -> None:
        self.missing: set[tuple[int, int]] = set()
        self._encoded = encoded
        self._frame = b""
        self._is_progressive = False
        self._interval = 0
        self._has_all_restarts = False
        for marker, content, end in self._segments():
            if marker in _FRAMES:
                self._begin(marker, content)
            elif marker == _RESTART_INTERVAL:
                self._interval = int.from_bytes(content[:2], "big")
            elif marker == _SCAN:
                self._take(content, end)

    @property
    def are_complete(self) -> bool:
        """Whether each scan was begun, and the last one has its last interval between restarts."""
        return bool(self._frame) and not self.missing and self._has_all_restarts

    def _segments(self) -> Iterator[tuple[int, bytes, int]]:
        """Marker, content and end of each segment."""
        end = len(START)
        while (found := _MARKER.search(self._encoded, end)) is not None:
            begin = found.end()
            end = begin + int.from_bytes(self._encoded[begin : begin + 2], "big")
            yield found[0][1], self._encoded[begin + 2 : end], end

    def _begin(self, marker: int, content: bytes) -> None:
        self._frame = content
        self._is_progressive = marker == _PROGRESSIVE
        self.missing = {(name, number) for name in self._factors() for number in range(_COEFFICIENTS)}

    def _factors(self) -> dict[int, tuple[int, int]]:
        """Horizontal and vertical sampling factor of each component."""
        components = zip(self._frame[6::3], self._frame[7::3], strict=False)
        return {name: divmod(factors, 16) for name, factors in components}

    def _take(self, content: bytes, end: int) -> None:
        names = content[1 : 1 + 2 * content[0] : 2]
        first, last, bits = content[1 + 2 * content[0] :][:3]
        numbers = range(_COEFFICIENTS)
        if self._is_progressive:
            numbers = range(first, last + 1) if bits % 16 == 0 else range(0)
        self.missing -= {(name, number) for name in names for number in numbers}
        following = _MARKER.search(self._encoded, end)
        restarts = len(_RESTART.findall(self._encoded, end, following.start() if following else len(self._encoded)))
        intervals = math.ceil(self._units(names) / self._interval) if self._interval else 1
        self._has_all_restarts = restarts == intervals - 1 and end < len(self._encoded)

    def _units(self, names: bytes) -> int:
        """How many coded units a scan of these components has; those of one component are its blocks."""
        height, width = (int.from_bytes(self._frame[place : place + 2], "big") for place in (1, 3))
        factors = self._factors()
        most_across, most_down = (max(values) for values in zip(*factors.values(), strict=True))
        across, down = factors[names[0]] if len(names) == 1 else (1, 1)
        columns = math.ceil(width * across / (8 * most_across))
        return columns * math.ceil(height * down / (8 * most_down))
