"""A clip's result as one file: its samples with their pictures, and the reasons for all that was dropped.

Parts make a run restartable: a clip whose part is there is done. The shards are written from them in one ordered pass.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from PIL import Image

from ms_lab.data.config import WriteConfig
from ms_lab.data.filters.hashes import perceptual_hash
from ms_lab.data.geometry import area
from ms_lab.data.items import ChosenSample, ChosenSubject, Clip, Pixels, Place, Reason, Source
from ms_lab.data.run_lengths import run_lengths
from ms_lab.data.writing.files import new_file
from ms_lab.data.writing.members import PartError, add_member

INDEX = "index.json"
_THUMB_SIDE = 72


@dataclass(frozen=True, slots=True)
class Part:
    """What a part holds beside its pictures.

    Attributes:
        path: of the file.
        index: its JSON.
    """

    path: Path
    index: dict[str, Any]

    @property
    def source(self) -> Source:
        """Where its clip is from."""
        return Source(**self.index["source"])


def part_path(folder: Path, clip: str) -> Path:
    """Where the part of a clip stands; 256 folders keep each small."""
    return folder / clip[:2] / f"{clip}.tar"


def write_part(folder: Path, clip: Clip, config: WriteConfig) -> Path:
    """Write a clip's part; the same clip gives the same bytes."""
    pictures: dict[str, bytes] = {}
    samples = [_sample(clip, sample, config, pictures) for sample in clip.samples]
    thumbs = _thumbs(clip, pictures)
    index = {
        "clip": clip.id,
        "source": {
            "id": clip.source.id,
            "content": clip.source.content,
            "licence": clip.source.licence,
            "provenance": clip.source.provenance,
        },
        "times": [clip.start_s, clip.end_s],
        "frames": len(clip.frames),
        "hash": _hash(clip.frames[len(clip.frames) // 2].pixels),
        "notes": list(clip.notes),
        "samples": samples,
        "detections": [_detection(clip, place) for place in clip.places()],
        "pairs": [_pair(clip, pair.one, pair.other, pair.similarity, pair.reasons) for pair in clip.pairs],
        "thumbs": thumbs,
    }
    path = part_path(folder, clip.id)
    with new_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        add_member(archive, INDEX, json.dumps(index, ensure_ascii=False).encode())
        for name, content in pictures.items():
            add_member(archive, name, content)
    return path


def read_index(path: Path) -> Part:
    """A part without its pictures.

    Raises:
        PartError: it is damaged.
    """
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
            content = archive.extractfile(first) if first is not None and first.name == INDEX else None
            if content is None:
                raise PartError(f"The part {path.name} has no index.")
            return Part(path, json.load(content))
    except (tarfile.TarError, ValueError, OSError) as error:
        raise PartError(f"The part {path.name} is damaged.") from error


def encode_picture(pixels: Pixels, config: WriteConfig) -> bytes:
    """A picture as the shards hold it."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if config.picture == "png":
        picture.save(buffer, "PNG", compress_level=6)
    else:
        picture.save(buffer, "JPEG", quality=config.quality, subsampling=0)
    return buffer.getvalue()


def _sample(clip: Clip, sample: ChosenSample, config: WriteConfig, pictures: dict[str, bytes]) -> dict[str, Any]:
    """The sample's JSON; its pictures are added to ``pictures``."""
    target = clip.frames[sample.target]
    ending = "jpg" if config.picture == "jpeg" else "png"
    pictures[f"{sample.id}.target.{ending}"] = encode_picture(target.pixels, config)
    subjects: list[dict[str, Any]] = []
    for number, subject in enumerate(sample.subjects):
        name = f"reference{number}.{ending}"
        frame, detection = clip.at(subject.reference)
        pictures[f"{sample.id}.{name}"] = encode_picture(frame.crop(detection.box), config)
        subjects.append(_subject(clip, subject, name))
    return {
        "id": sample.id,
        "hash": _hash(target.pixels),
        "record": {
            "caption": target.caption,
            "height": target.height,
            "width": target.width,
            "subjects": subjects,
            "source": clip.source.id,
            "licence": clip.source.licence,
            "provenance": clip.source.provenance,
            "clip": clip.id,
            "frame": target.id,
            "time_s": round(target.time_s, 6),
            "single_frame": sample.single_frame,
            "target": f"target.{ending}",
        },
    }


def _hash(pixels: Pixels) -> str:
    return f"{perceptual_hash(pixels):016x}"


def _subject(clip: Clip, subject: ChosenSubject, name: str) -> dict[str, Any]:
    _, standing = clip.at(subject.target)
    frame, seen = clip.at(subject.reference)
    x_min, y_min, x_max, y_max = frame.pixel_box(seen.box)
    inside = frame.mask_of(seen)[y_min:y_max, x_min:x_max]
    return {
        "phrase": standing.phrase,
        "phrase_span": list(subject.phrase_span),
        "box": [round(value, 6) for value in standing.box.as_tuple()],
        "mask": list(standing.mask) if standing.mask is not None else None,
        "score": round(standing.score, 4),
        "reference": name,
        "reference_source": f"{clip.source.id}/{frame.id}",
        "reference_mask": list(run_lengths(inside)) if seen.mask is not None else None,
        "reference_time_s": round(frame.time_s, 6),
        "similarity": round(subject.similarity, 4),
    }


def _detection(clip: Clip, place: Place) -> dict[str, Any]:
    frame, detection = clip.at(place)
    return {
        "frame": frame.id,
        "phrase": detection.phrase,
        "box": [round(value, 4) for value in detection.box.as_tuple()],
        "score": round(detection.score, 4),
        "reasons": [list(reason) for reason in clip.reasons.get(place, ())],
    }


def _pair(clip: Clip, one: Place, other: Place, similarity: float, reasons: Sequence[Reason]) -> dict[str, Any]:
    ends = [[clip.frames[place.frame].id, place.detection] for place in (one, other)]
    return {"ends": ends, "similarity": similarity, "reasons": [list(reason) for reason in reasons]}


def _thumbs(clip: Clip, pictures: dict[str, bytes]) -> dict[str, str]:
    """For each reason one small picture of a detection that it speaks against, the largest of them."""
    largest: dict[str, Place] = {}
    against = [(place, reason.filter) for place, reasons in clip.reasons.items() for reason in reasons]
    against += [(pair.one, reason.filter) for pair in clip.pairs for reason in pair.reasons]
    for place, name in sorted(against, key=lambda item: (-area(clip.at(item[0])[1].box), item)):
        largest.setdefault(name, place)
    names: dict[str, str] = {}
    for name, place in sorted(largest.items()):
        frame, detection = clip.at(place)
        names[name] = f"thumb-{name}.jpg"
        pictures[names[name]] = _thumb(frame.crop(detection.box))
    return names


def _thumb(crop: Pixels) -> bytes:
    scale = _THUMB_SIDE / max(crop.shape[:2])
    size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
    buffer = io.BytesIO()
    Image.fromarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def first_reasons(items: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many items each filter dropped first."""
    return Counter(str(item["reasons"][0][0]) for item in items if item["reasons"])
