"""The chunks of a PNG that decide how it looks, without those that do not: texts, and whatever else may be left out.

A decoder may ignore what is damaged in an ancillary chunk; Pillow refuses the picture. https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import ExifTags, Image

from ms_core.spec.colour_profiles import profile_of_code_points

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Bytes of chunks that are of one length.
_LENGTHS = {b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"cICP": 4}
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
# Many times as many as a large picture has.
_MAX_CHUNKS = 100_000
_ANCILLARY = {*_LENGTHS, b"tRNS", b"iCCP", b"eXIf"}
# The picture looks wrong without them.
_MISSED = {b"tRNS": "transparency", b"iCCP": "colour profile", b"eXIf": "orientation"}
_TRANSPARENCY_BYTES = {0: 2, 2: 6}
_PALETTE = 3
_MAX_PALETTE = 256
_MAX_PROFILE_BYTES = 4 * 2**20


class _Chunk(NamedTuple):
    name: bytes
    content: memoryview
    whole: memoryview
    is_intact: bool


@dataclass(slots=True)
class PngChunks:
    """What of a PNG decides how it looks.

    Attributes:
        parts: of a PNG with only that.
        profile: the ICC profile of its numbers.
        is_animated: it has a frame beside its picture.
        ignored: chunks that are damaged and would have changed the picture, with what each holds.
    """

    parts: list[bytes | memoryview] = field(default_factory=lambda: [SIGNATURE])
    profile: bytes | None = None
    is_animated: bool = False
    ignored: dict[str, str] = field(default_factory=dict[str, str])
    _colour_type: int | None = None
    _palette_size: int = _MAX_PALETTE
    _has_animation: bool = False
    _seen: set[bytes] = field(default_factory=set[bytes])

    @classmethod
    def read(cls, encoded: bytes) -> PngChunks:
        """Read a file that begins with ``SIGNATURE``; whatever is wrong with the rest is left to the decoder."""
        chunks = cls()
        for chunk in _chunks(encoded):
            chunks._add(chunk)
        return chunks

    @property
    def encoded(self) -> bytes:
        """A PNG of what was kept."""
        return b"".join(self.parts)

    def _add(self, chunk: _Chunk) -> None:
        if chunk.name in _CRITICAL:
            self._note(chunk)
            self.parts.append(chunk.whole)
        elif chunk.name in (b"acTL", b"fdAT"):
            self._has_animation |= chunk.name == b"acTL" and chunk.is_intact
            self.is_animated |= chunk.name == b"fdAT" and self._has_animation
        elif chunk.name in _ANCILLARY and chunk.name not in self._seen:
            self._add_ancillary(chunk)
        self._seen.add(chunk.name)

    def _note(self, chunk: _Chunk) -> None:
        """Remember what other chunks are read by."""
        if chunk.name == b"IHDR" and len(chunk.content) > 9:
            self._colour_type = chunk.content[9]
        elif chunk.name == b"PLTE":
            self._palette_size = len(chunk.content) // 3

    def _add_ancillary(self, chunk: _Chunk) -> None:
        # Only EXIF may follow the pixels.
        is_in_place = chunk.name == b"eXIf" or b"IDAT" not in self._seen
        if not (chunk.is_intact and is_in_place and self._is_well_formed(chunk)):
            if chunk.name in _MISSED:
                self.ignored[chunk.name.decode()] = _MISSED[chunk.name]
        elif chunk.name == b"cICP":
            self.profile = profile_of_code_points(bytes(chunk.content)) or self.profile
        elif chunk.name == b"iCCP":
            # Not by Pillow, which refuses large ones. Code points come before profiles, in the file and in rank.
            self.profile = self.profile or _profile(chunk.content)
        else:
            self.parts.append(chunk.whole)

    def _is_well_formed(self, chunk: _Chunk) -> bool:
        size = len(chunk.content)
        if chunk.name == b"tRNS":
            if self._colour_type == _PALETTE:
                return 1 <= size <= self._palette_size
            return size == _TRANSPARENCY_BYTES.get(self._colour_type or 0, size)
        if chunk.name == b"iCCP":
            return _profile(chunk.content) is not None
        if chunk.name == b"eXIf":
            return _is_exif(bytes(chunk.content))
        return size == _LENGTHS[chunk.name]


def _chunks(encoded: bytes) -> Iterator[_Chunk]:
    """All chunks up to the end of the picture, of which the header is first; the last may be cut off."""
    content, place = memoryview(encoded), len(SIGNATURE)
    for number in range(_MAX_CHUNKS):
        if place + 8 > len(encoded):
            return
        size, name = struct.unpack_from(">I4s", encoded, place)
        # By its first chunk the picture was measured.
        if not name.isalpha() or (name == b"IHDR") != (number == 0):
            return
        end = place + 12 + size
        body = content[place + 8 : end - 4]
        is_whole = end <= len(encoded)
        # The decoder checks what is critical.
        is_intact = is_whole and (
            name[:1].isupper() or zlib.crc32(body, zlib.crc32(name)) == int.from_bytes(content[end - 4 : end], "big")
        )
        yield _Chunk(name, body, content[place:end], is_intact)
        if name == b"IEND":
            return
        place = end


def _profile(content: memoryview) -> bytes | None:
    """The ICC profile of an iCCP chunk; ``None`` if it is damaged or too large."""
    _, end_of_name, rest = bytes(content).partition(b"\0")
    if not end_of_name or rest[:1] != b"\0":
        return None
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(rest[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if decompressor.eof and profile else None


def _is_exif(content: bytes) -> bool:
    try:
        exif = Image.Exif()
        exif.load(content)
        exif.get(ExifTags.Base.Orientation)
    except Exception:  # whatever Pillow may raise for such bytes
        return False
    return True
