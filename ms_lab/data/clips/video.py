"""A video's frames, upright and small, one after another, with their times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from ms_lab.data.items import Pixels
from ms_lab.data.sources import SourceError

# Longer side of what the shot detector sees.
LOOK_SIDE = 128
_ENCRYPTED = ("encrypted", "encryption", "decrypt")


class VideoFrame(NamedTuple):
    """One decoded frame.

    Attributes:
        time_s: of its presentation.
        look: small, BGR, for the shot detector.
        decoded: PyAV's frame, for ``kept_pixels``.
    """

    time_s: float
    look: Pixels
    decoded: Any


def read_frames(path: Path) -> Iterator[VideoFrame]:
    """All frames that can be decoded, in the order of their times.

    A file that breaks off gives what stands before the break, at least one frame.

    Raises:
        SourceError: nothing can be decoded; its reason says why.
    """
    if path.stat().st_size == 0:
        raise SourceError("zero_length", "The file is empty.")
    count, last = 0, float("-inf")
    try:
        opened: Any = av.open(str(path.absolute()))
        with closing(opened) as container:
            if not container.streams.video:
                raise SourceError("no_video", "It holds no video stream.")
            stream: Any = container.streams.video[0]
            # Here and below: tasks already take all cores, and FFmpeg's threads, one for each, would wait for one another.
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                # Without a time of its own a frame stands where the stream's rate puts it.
                time_s = float(frame.time) if frame.time is not None else count / float(stream.average_rate or 25)
                if time_s <= last:
                    continue
                last = time_s
                count += 1
                yield VideoFrame(time_s, _look(frame), frame)
    except (av.error.FFmpegError, ValueError, EOFError) as error:
        if count:
            return
        said = _sentence(error)
        if any(word in said.lower() for word in _ENCRYPTED):
            raise SourceError("encrypted", "It is encrypted.") from error
        raise SourceError("unreadable", f"It cannot be decoded: {said}.") from error
    if not count:
        raise SourceError("no_frames", "No frame of it can be decoded; it may be encrypted or cut off.")


def kept_pixels(decoded: Any, max_side: int) -> Pixels:
    """A frame as RGB, made smaller to ``max_side`` and turned as its metadata says."""
    height, width = _fitting(decoded.height, decoded.width, max_side)
    pixels = decoded.reformat(width=width, height=height, format="rgb24", threads=1).to_ndarray()
    turns = round(float(getattr(decoded, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _look(decoded: Any) -> Pixels:
    height, width = _fitting(decoded.height, decoded.width, LOOK_SIDE)
    return decoded.reformat(
        width=width, height=height, format="bgr24", interpolation="FAST_BILINEAR", threads=1
    ).to_ndarray()


def _fitting(height: int, width: int, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(height, width))
    return max(2, round(height * scale)), max(2, round(width * scale))


def _sentence(error: Exception) -> str:
    # Not the whole text, which holds the path.
    text = getattr(error, "strerror", None) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
