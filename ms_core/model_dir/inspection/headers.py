"""Headers of safetensors files: names, dtypes and shapes of tensors, without their values and without torch.

The format, as the safetensors project describes it: eight bytes with the header's length (little-endian), the header as
JSON, then the values without a gap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LENGTH_BYTES = 8
# What the safetensors library itself refuses to read.
_LONGEST_HEADER = 100_000_000
_STRANGERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the weights themselves",
    b"<!doctype": "a web page, not weights",
    b"<html": "a web page, not weights",
    b"PK\x03\x04": "a file of torch.save under another ending",
    b"GGUF": "a GGUF file, whose weights are packed, not one in float16",
}


class DamageError(Exception):
    """A file cannot be read as weights; the text goes on after the file's name.

    Attributes:
        truncated: whether the file ends too early.
    """

    def __init__(self, text: str, truncated: bool = False) -> None:
        super().__init__(text)
        self.truncated = truncated


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor: safetensors' name of its dtype, such as ``BF16``; its shape; its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file, by name; only its first bytes are read.

    Raises:
        DamageError: it is not a safetensors file, or not as long as its header says.
        OSError: it cannot be read at all.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(64)
        content.seek(_LENGTH_BYTES)
        length = int.from_bytes(start[:_LENGTH_BYTES], "little")
        _check_start(start, size, length)
        text = content.read(length)
    try:
        data: dict[str, Any] = json.loads(text)
        tensors = {name: _tensor(entry) for name, entry in data.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for name, entry in data.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DamageError("is not a safetensors file: its header cannot be read") from error
    _check_length(size, _LENGTH_BYTES + length + end)
    return tensors


def format_size(size: int) -> str:
    """A number of bytes for people, such as ``5.1 GB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def main_dtype(tensors: Mapping[str, TensorHeader]) -> str:
    """The dtype that holds most bytes."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
    return max(sizes, key=sizes.__getitem__, default="none")


def _check_start(start: bytes, size: int, length: int) -> None:
    """Refuse what is not a safetensors file, and one whose header is cut off."""
    if not start.strip(b"\0"):
        raise DamageError("holds nothing but zeros" if start else "is empty", truncated=True)
    for mark, meaning in _STRANGERS.items():
        if start.lower().startswith(mark.lower()):
            raise DamageError(f"is {meaning}")
    if start[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{" or length > _LONGEST_HEADER:
        raise DamageError("is not a safetensors file")
    if _LENGTH_BYTES + length > size:
        raise DamageError(f"is cut off within its header, after {format_size(size)}", truncated=True)


def _check_length(size: int, wanted: int) -> None:
    if size < wanted:
        raise DamageError(f"is cut off: it has {format_size(size)} of {format_size(wanted)}", truncated=True)
    if size > wanted:
        raise DamageError(f"has {format_size(size - wanted)} more than its header says")


def _tensor(entry: dict[str, Any]) -> TensorHeader:
    begin, end = entry["data_offsets"]
    return TensorHeader(str(entry["dtype"]), tuple(int(side) for side in entry["shape"]), int(end) - int(begin))
