"""Footage to clips: shots, equal distances, times, rotation, and what cannot be used."""

from __future__ import annotations

import gc
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_lab.data.clips.reading import Fault, read_clips
from ms_lab.data.clips.shots import equally_distant
from ms_lab.data.clips.video import kept_pixels, read_frames
from ms_lab.data.config import load_config
from ms_lab.data.items import Clip
from ms_lab.data.sources import find_footage
from tests.ms_lab.data.made_clips import takes, write_video

CONFIG = load_config().clips


def read(folder: Path, **changes: object) -> tuple[list[Clip], list[Fault]]:
    config = load_config(None, {"clips": changes}).clips
    items = [item for footage in find_footage([folder]) for item in read_clips(footage, config)]
    return [i for i in items if isinstance(i, Clip)], [i for i in items if isinstance(i, Fault)]


def test_a_video_is_cut_into_its_shots(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", takes(3))
    clips, faults = read(tmp_path)
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    assert faults == []
    assert [len(clip.frames) for clip in clips] == [6, 6, 6]


def test_a_long_shot_is_several_clips(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", takes(1, 32))
    clips, _ = read(tmp_path, max_clip_s=2.0)
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(0.0, 2.0), (2.0, 4.0)]


def test_ids_come_from_content_and_never_from_names(tmp_path: Path) -> None:
    for name in ("a.mp4", "with blank and 😀\nnewline.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, takes(1))
    one, other = read(tmp_path)[0]
    assert one.id == other.id
    assert [frame.id for frame in one.frames] == [frame.id for frame in other.frames]
    write_video(tmp_path / "a.mp4", takes(2)[16:])
    assert len({clip.id for clip in read(tmp_path)[0]}) == 2


def test_frames_are_at_equal_distances() -> None:
    times = [number / 10 for number in range(100)]
    chosen = [times[index] for index in equally_distant(times, 0.0, 10.0, 5)]
    assert chosen == pytest.approx([1.0, 3.0, 5.0, 7.0, 9.0], abs=0.051)
    assert equally_distant([0.0, 0.1], 0.0, 0.2, 6) == [0, 1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="With one core nothing starts threads.")
def test_reading_stays_on_the_core_that_its_task_was_given(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", takes(1, side=256))
    gc.collect()  # Threads of films that other tests have written.
    threads = set(os.listdir("/proc/self/task"))
    for frame in read_frames(tmp_path / "film.mp4"):
        assert set(os.listdir("/proc/self/task")) <= threads
        kept_pixels(frame.decoded, 128)
        assert set(os.listdir("/proc/self/task")) <= threads


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    times = [0, 100, 150, 900, 1000, 1900]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for time_ms in times:
            frame = av.VideoFrame.from_ndarray(takes(1, 1)[0], format="rgb24")
            frame.pts, frame.time_base = time_ms // 50, Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert [round(1000 * frame.time_s) for frame in read_frames(path)] == times


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_is_upright(tmp_path: Path, degrees: int) -> None:
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:32, :64] = (255, 0, 0)
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    write_video(plain, [picture] * 4)
    content = plain.read_bytes()
    turned.write_bytes(with_rotation(content, degrees))
    frame = next(iter(read_frames(turned)))
    pixels = kept_pixels(frame.decoded, 128)
    # The metadata says clockwise; the red quarter goes with the picture.
    expected = np.rot90(picture, -degrees // 90)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 12


def with_rotation(content: bytes, degrees: int) -> bytes:
    """An MP4 whose track header says that it is to be turned clockwise."""
    one = 1 << 16
    cosine, sine = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    start = content.index(b"tkhd") + 4 + 40
    matrix = [cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30]
    packed = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    return content[:start] + packed + content[start + 36 :]


def test_large_pictures_are_kept_small(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", [np.zeros((720, 1280, 3), np.uint8)] * 2)
    frame = next(iter(read_frames(tmp_path / "film.mp4")))
    assert frame.look.shape == (72, 128, 3)
    assert kept_pixels(frame.decoded, 640).shape == (360, 640, 3)


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_every_bad_video_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", takes(1))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "junk.mp4").write_bytes(b"no video" * 999)
    audio_only(tmp_path / "sound.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:300])
    write_video(tmp_path / "notes.mp4", takes(2)[16:])
    (tmp_path / "notes.mp4.json").write_text('{"license": "CC0-1.0"}')
    clips, faults = read(tmp_path)
    assert len(clips) == 1
    assert {Path(fault.path).name: fault.reason for fault in faults} == {
        "empty.mp4": "zero_length",
        "junk.mp4": "unreadable",
        "sound.mp4": "no_video",
        "cut.mp4": "unreadable",
        "notes.mp4": "bad_notes",
    }


def test_an_encrypted_video_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, takes(1))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    rng = np.random.default_rng(0)
    content[start : start + 20_000] = rng.integers(
        0, 256, len(content[start : start + 20_000]), dtype=np.uint8
    ).tobytes()
    path.write_bytes(bytes(content))
    clips, faults = read(tmp_path)
    assert not clips
    assert [fault.reason for fault in faults] == ["unreadable"]


def test_a_video_that_breaks_off_gives_what_stands_before(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width = stream.height = 64
        for picture in takes(1, 60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4 // 188 * 188 + 60])
    clips, faults = read(tmp_path)
    assert len(clips) == 1
    assert clips[0].end_s - clips[0].start_s < 2.2
    assert faults == []


def test_a_video_of_one_frame_is_a_clip_of_one(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", takes(1, 1))
    clips, _ = read(tmp_path)
    assert [len(clip.frames) for clip in clips] == [1]


def test_pictures_are_clips_of_their_own_and_bad_ones_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "good.png")
    Image.new("RGBA", (40, 30), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    pictures = [Image.new("RGB", (40, 30), (value, 9, 9)) for value in (0, 200)]
    pictures[0].save(tmp_path / "moving.webp", save_all=True, append_images=pictures[1:])
    (tmp_path / "junk.jpg").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("L", (3000, 2000)).save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "large.png").read_bytes()[:200])
    (tmp_path / "notes.json").write_text(json.dumps({"licence": "CC0-1.0", "pictures": {"good.png": "a dot"}}))
    clips, faults = read(tmp_path, max_pixels=1_000_000)
    assert [(clip.source.licence, clip.frames[0].caption) for clip in clips] == [("CC0-1.0", "a dot")]
    assert {Path(fault.path).name: fault.reason for fault in faults} == {
        "clear.png": "damaged",
        "moving.webp": "animated",
        "junk.jpg": "no_picture",
        "empty.png": "zero_length",
        "large.png": "too_large",
        "broken.png": "too_large",
    }


def test_a_folder_of_frames_is_one_clip(tmp_path: Path) -> None:
    for number, picture in enumerate(takes(1, 8)):
        Image.fromarray(picture).save(tmp_path / f"{number:03d}.png")
    clips, _ = read(tmp_path, pictures="frames", frames_per_clip=4)
    assert [[frame.time_s for frame in clip.frames] for clip in clips] == [[0.0, 1.0, 2.0, 3.0]] or len(
        clips[0].frames
    ) == 4


def test_captions_and_names_of_the_notes_are_taken(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", takes(2))
    notes = {"source": "reel 7", "licence": "CC-BY-4.0", "captions": [{"text": "a dog", "start_s": 0, "end_s": 2}]}
    (tmp_path / "film.mp4.json").write_text(json.dumps(notes))
    clips, _ = read(tmp_path)
    assert [clip.frames[0].caption for clip in clips] == ["a dog", ""]
    assert clips[0].source.id != clips[0].source.content[:24]


def test_a_folder_without_footage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no video and no picture"):
        find_footage([tmp_path])
    with pytest.raises(InvalidInputError, match="There is no folder"):
        find_footage([tmp_path / "missing"])


def test_clips_of_one_source_can_be_joined(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", takes(2))
    (footage,) = find_footage([tmp_path])
    (joined,) = read_clips(footage, CONFIG, across_clips=True)
    assert isinstance(joined, Clip)
    assert len(joined.frames) == 12
    assert len({frame.clip for frame in joined.frames}) == 2
