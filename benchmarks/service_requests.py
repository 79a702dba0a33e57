"""Requests for benchmarks of the service: endless ones, of which no two have a picture in common."""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import struct
import threading
import zlib
from typing import Any, Protocol

from PIL import Image, ImageChops

SIDE = 512
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PROMPT, _PHRASES = "a cat and a teapot on the beach", ("cat", "teapot")
_BOXES = ([0.05, 0.3, 0.45, 0.8], [0.55, 0.3, 0.95, 0.8])


class Maker(Protocol):
    """Makes bodies of ``POST /generate``; may be used from several threads."""

    def body(self) -> bytes:
        """One more request."""
        ...


class AssetRequestMaker:
    """Makes requests for two subjects with these assets."""

    def __init__(self, asset_ids: list[str], **fields: Any) -> None:
        subjects = [
            {"phrase": phrase, "box": box, "image": f"asset:{asset_id}"}
            for phrase, box, asset_id in zip(_PHRASES, _BOXES, asset_ids, strict=True)
        ]
        self._body = json.dumps({"prompt": _PROMPT, **fields, "subjects": subjects}).encode()

    def body(self) -> bytes:
        """One more request; a seed is drawn for each."""
        return self._body


class RequestMaker:
    """Makes bodies of ``POST /generate`` with two subjects; may be used from several threads."""

    def __init__(self, picture: Image.Image, **fields: Any) -> None:
        """``picture`` is each subject's, except for its last row; ``fields`` are added to the request."""
        self._variants = _Variants(picture)
        beginning = json.dumps({"prompt": _PROMPT, **fields})
        self._beginning = beginning[:-1].encode() + b', "subjects": ['

    @property
    def picture_bytes(self) -> int:
        """Size of one PNG."""
        return len(base64.b64decode(self._variants.base64()))

    def body(self) -> bytes:
        """One more request."""
        parts = [self._beginning]
        for phrase, box in zip(_PHRASES, _BOXES, strict=True):
            subject = json.dumps({"phrase": phrase, "box": box})
            # Put together by hand: to escape a megabyte of base64 costs more than the rest.
            parts += [subject[:-1].encode(), b', "image": "data:image/png;base64,', self._variants.base64(), b'"}, ']
        parts[-1] = b'"}]}'
        return b"".join(parts)


class _Variants:
    """PNGs that differ in their last row; all that comes before is compressed once."""

    def __init__(self, picture: Image.Image) -> None:
        row = 1 + 3 * picture.width
        compressor = zlib.compressobj(6)
        rows = _filtered_rows(picture)
        head = compressor.compress(rows[:-row]) + compressor.flush(zlib.Z_FULL_FLUSH)
        header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 0)
        beginning = _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", head)
        # Base64 goes by three bytes.
        whole = len(beginning) - len(beginning) % 3
        self._encoded, self._rest = base64.b64encode(beginning[:whole]), beginning[whole:]
        self._compressor = compressor
        self._width = picture.width
        self._count = itertools.count()
        self._lock = threading.Lock()

    def base64(self) -> bytes:
        """One more PNG."""
        with self._lock:
            colour = next(self._count).to_bytes(3, "big")
            compressor = self._compressor.copy()
        tail = compressor.compress(b"\0" + colour * self._width) + compressor.flush()
        return self._encoded + base64.b64encode(self._rest + _chunk(b"IDAT", tail) + _chunk(b"IEND", b""))


def photo_like(seed: int = 1, side: int = SIDE) -> Image.Image:
    """Soft light, soft shapes and the grain of a sensor: as hard to compress as a photograph, some 550 kB as PNG."""
    source = random.Random(seed)
    bands: list[Image.Image] = []
    for _ in range(3):
        light = _soft(source, 8, side)
        shapes = _soft(source, 64, side)
        grain = Image.frombytes("L", (side, side), source.randbytes(side * side))
        grain = grain.point([120 + value // 16 for value in range(256)])
        bands.append(ImageChops.add(Image.blend(light, shapes, 0.25), grain, offset=-128))
    return Image.merge("RGB", bands)


def flat(side: int = SIDE, colour: str = "teal") -> Image.Image:
    """One colour everywhere."""
    return Image.new("RGB", (side, side), colour)


def upload_body(picture: Image.Image) -> bytes:
    """A body of ``POST /assets``."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return json.dumps({"image": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}).encode()


def _soft(source: random.Random, cells: int, side: int) -> Image.Image:
    noise = Image.frombytes("L", (cells, cells), source.randbytes(cells * cells))
    return noise.resize((side, side), Image.Resampling.BICUBIC)


def _filtered_rows(picture: Image.Image) -> bytes:
    """What a PNG of the picture compresses: each row behind the number of its filter."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    png, at, content = buffer.getvalue(), len(_SIGNATURE), b""
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        if png[at + 4 : at + 8] == b"IDAT":
            content += png[at + 8 : at + 8 + length]
        at += 12 + length
    return zlib.decompress(content)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
