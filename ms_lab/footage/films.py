"""Films to files: H.264 videos and their side file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np

from ms_lab.footage.drawing import Painter
from ms_lab.footage.script import Film
from ms_lab.footage.truth import TrueFrame, Truth, true_frame
from ms_lab.mini.sprites import SpritePack

VIDEOS, TRUTH = "videos", "truth.jsonl.gz"


def write_footage(folder: Path, films: Iterable[Film], pack: SpritePack) -> int:
    """Write ``videos/`` and ``truth.jsonl.gz`` into a folder; returns how many films there are."""
    (folder / VIDEOS).mkdir(parents=True, exist_ok=True)
    painter, truth, count = Painter(pack), list[TrueFrame](), 0
    for number, film in enumerate(films):
        truth += _write_film(folder / VIDEOS / f"film-{number:05d}.mp4", number, film, painter)
        count += 1
    Truth.save(folder / TRUTH, truth)
    return count


def _write_film(path: Path, number: int, film: Film, painter: Painter) -> list[TrueFrame]:
    painted = list(painter.frames(film))
    content = encode_video([frame.pixels for frame in painted], film.frames_per_s)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    fault = "near_duplicate" if film.copy_of is not None else ""
    # A copy shows the same shots as what it copies.
    shown = number if film.copy_of is None else film.copy_of
    return [true_frame(digest, shown, film.shots[frame.shot], frame, fault) for frame in painted]


def encode_video(pictures: list[np.ndarray], frames_per_s: int, options: dict[str, str] | None = None) -> bytes:
    """An MP4 of RGB pictures of one size; the same pictures give the same bytes."""
    buffer = io.BytesIO()
    container: Any = av.open(buffer, "w", format="mp4")
    stream = container.add_stream("libx264", rate=frames_per_s)
    stream.height, stream.width = pictures[0].shape[:2]
    stream.pix_fmt = "yuv420p"
    # One thread and no B-frames: times are plain and bytes do not depend on the machine's cores.
    stream.thread_count = 1
    stream.options = {"crf": "14", "preset": "veryfast", "bf": "0", "x264-params": "threads=1", **(options or {})}
    for picture in pictures:
        frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)
    container.close()
    return buffer.getvalue()
