"""A text as XMP, in packets and in the segments of a JPEG; only packets that were written here are read.

A JPEG's segment holds 64 kB. What is longer travels as ExtendedXMP (XMP Specification Part 3, section 1.1.3.1): the StandardXMP
names its MD5, and further segments hold its pieces.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape, unescape

STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
MAX_STANDARD_BYTES = 65_502
MAX_PIECE_BYTES = 65_400

_APP1 = 0xE1
_START_OF_SCAN = 0xDA
_STANDALONE = (0x01, *range(0xD0, 0xD9))
_HEADER = struct.Struct(">32sII")
_NAMESPACE = "urn:ms-diffusion-service:recipe#"
_NAMES = {"&quot;": '"', "&apos;": "'"}
_TEXT = re.compile(rb"<msd:recipe>([^<]*)</msd:recipe>")
_GUID = re.compile(rb'xmpNote:HasExtendedXMP="([0-9A-F]{32})"')


class DamagedXmpError(Exception):
    """XMP that lacks a piece, or has a wrong one."""


def packet_of(text: str) -> bytes:
    """An XMP packet with this text, which holds only what XML allows."""
    return _wrapped(_tree_of(text))


def text_in(packet: bytes) -> str | None:
    """The text of ``packet_of``; ``None`` if it is another packet."""
    found = _TEXT.search(packet)
    return None if found is None else unescape(found[1].decode("utf-8", "replace"), _NAMES)


def with_text(jpeg: bytes, text: str) -> bytes:
    """A JPEG of Pillow with this text as XMP behind its first segment, which says JFIF."""
    (length,) = struct.unpack_from(">H", jpeg, 4)
    place = 4 + length
    segments = (b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content for content in _segments_of(text))
    return b"".join((jpeg[:place], *segments, jpeg[place:]))


def text_in_jpeg(jpeg: bytes) -> str | None:
    """The text of ``with_text``; ``None`` if there is none.

    Raises:
        DamagedXmpError: a piece is missing or wrong.
    """
    segments = list(_app1_segments(jpeg))
    standard = next((part.removeprefix(STANDARD) for part in segments if part.startswith(STANDARD)), b"")
    guid = _GUID.search(standard)
    if guid is None:
        return text_in(standard)
    return text_in(_joined(guid[1], (part.removeprefix(EXTENSION) for part in segments if part.startswith(EXTENSION))))


def _segments_of(text: str) -> Iterator[bytes]:
    packet = packet_of(text)
    if len(packet) <= MAX_STANDARD_BYTES:
        yield STANDARD + packet
        return
    # Only the StandardXMP has a packet's wrapper.
    extended = _tree_of(text).encode()
    guid = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid}"'
    yield STANDARD + _wrapped(_tree(note, ""))
    for offset in range(0, len(extended), MAX_PIECE_BYTES):
        header = _HEADER.pack(guid.encode(), len(extended), offset)
        yield EXTENSION + header + extended[offset : offset + MAX_PIECE_BYTES]


class _Piece(NamedTuple):
    offset: int
    total: int
    content: bytes


def _joined(guid: bytes, parts: Iterator[bytes]) -> bytes:
    """The ExtendedXMP of this MD5, from its pieces in any order; those of another are passed over."""
    pieces: list[_Piece] = []
    for part in parts:
        if part.startswith(guid) and len(part) >= _HEADER.size:
            _, total, offset = _HEADER.unpack_from(part)
            pieces.append(_Piece(offset, total, part[_HEADER.size :]))
    extended = b"".join(piece.content for piece in sorted(pieces))
    if hashlib.md5(extended, usedforsecurity=False).hexdigest().upper().encode() != guid:
        raise DamagedXmpError("The picture's XMP is not complete.")
    return extended


def _app1_segments(jpeg: bytes) -> Iterator[bytes]:
    """What the APP1 segments before the pixels hold.

    Raises:
        DamagedXmpError: the file ends within them.
    """
    place = 2
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        marker = jpeg[place + 1]
        if marker == _START_OF_SCAN:
            return
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if end > len(jpeg):
            raise DamagedXmpError("The JPEG is cut off.")
        if marker == _APP1:
            yield jpeg[place + 4 : end]
        place = max(end, place + 4)


def _tree_of(text: str) -> str:
    return _tree(f'xmlns:msd="{_NAMESPACE}"', f"<msd:recipe>{escape(text)}</msd:recipe>")


def _tree(attributes: str, content: str) -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {attributes}>{content}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )


def _wrapped(tree: str) -> bytes:
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{tree}<?xpacket end="r"?>'.encode()
