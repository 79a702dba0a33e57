"""Scores of single samples: what the judges say of each picture, whole and cut at its boxes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.spec import Box
from ms_core.spec.plain_pictures import decoding, plain
from ms_lab.data.items import Detection, Frame, Pixels
from ms_lab.evaluation.msbench.folder import BenchmarkFolder
from ms_lab.evaluation.msbench.measures import Found
from ms_lab.evaluation.msbench.models import Judges, Rows
from ms_lab.evaluation.msbench.samples import Sample

# Pictures that are looked at together, and whose scores are kept together.
BATCH = 16
# Of two detections of one phrase that overlap more, the surer one stays.
SAME_THING_IOU = 0.5
# What is chosen here, for the result file.
RULES = {
    "crops": "the pixels of the subject's box, edges rounded",
    "resizing": "whole pictures, crops and references are squashed to the model's square (CLIP's own side; DINO 224)",
    "references": "upright, in sRGB, transparent parts on white",
    "clip_t_crops": "a crop and its subject's phrase",
    "detections": f"boxes of one phrase that overlap by more than {SAME_THING_IOU} are one",
    "precision": "float16 on a GPU, float32 on the CPU",
}
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class SampleScore:
    """What the judges say of one picture.

    Attributes:
        sample, type, combination: names.
        pictures, phrases, boxes: of its subjects.
        scenes: which subjects fill the picture.
        clip_t: cosine of picture and prompt.
        clip_t_crops: of each crop and its phrase.
        clip_i, dino: of the whole picture and each reference.
        clip_i_crops, dino_crops: of each crop (row) and each reference (column).
        found: what the detector found by the phrases of subjects that are no scenes.
    """

    sample: str
    type: str
    combination: str
    pictures: tuple[str, ...]
    phrases: tuple[str, ...]
    boxes: tuple[Box, ...]
    scenes: tuple[bool, ...]
    clip_t: float
    clip_t_crops: tuple[float, ...]
    clip_i: tuple[float, ...]
    clip_i_crops: tuple[tuple[float, ...], ...]
    dino: tuple[float, ...]
    dino_crops: tuple[tuple[float, ...], ...]
    found: tuple[Found, ...]


def score_samples(  # noqa: PLR0913 - what, whose, by whom, and where to
    samples: Sequence[Sample],
    folder: BenchmarkFolder,
    judges: Judges,
    origin: Mapping[str, str],
    part: str,
    advance: Callable[[int], None],
) -> None:
    """Score pictures that are there, and keep the scores batch by batch.

    Args:
        samples: whose pictures are scored.
        folder: of pictures and scores.
        judges: look at them.
        origin: what pictures and scores come from; see ``BenchmarkFolder.rows``.
        part: the scores' file.
        advance: called with the number of pictures that have just been scored.

    Raises:
        InvalidInputError: a picture cannot be read.
    """
    references = References(samples, judges)
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        pictures = [_read_made(folder.picture_path(sample)) for sample in batch]
        scores = score_batch(batch, pictures, references, judges)
        folder.add_rows(part, [{**origin, **asdict(score)} for score in scores])
        advance(len(batch))


class References:
    """The embeddings of all references, each made once."""

    def __init__(self, samples: Sequence[Sample], judges: Judges) -> None:
        paths = {subject.picture: subject.path for sample in samples for subject in sample.subjects}
        pictures = [read_pixels(path) for path in paths.values()]
        self._places = {name: place for place, name in enumerate(paths)}
        self._clip, self._dino = judges.clip.pictures(pictures), judges.dino.pictures(pictures)

    def of(self, sample: Sample) -> tuple[Rows, Rows]:
        """CLIP's and DINO's vectors of a sample's references."""
        places = [self._places[subject.picture] for subject in sample.subjects]
        return self._clip[places], self._dino[places]


def score_batch(
    samples: Sequence[Sample], pictures: Sequence[Pixels], references: References, judges: Judges
) -> list[SampleScore]:
    """What the judges say of pictures, one for each sample."""
    frames = [Frame(sample.name, "", 0.0, pixels) for sample, pixels in zip(samples, pictures, strict=True)]
    seen: list[Pixels] = []
    for sample, frame in zip(samples, frames, strict=True):
        seen += [frame.pixels, *(frame.crop(subject.box) for subject in sample.subjects)]
    clip, dino = judges.clip.pictures(seen), judges.dino.pictures(seen)
    found = _detect(samples, frames, judges)
    scores: list[SampleScore] = []
    start = 0
    for sample, own in zip(samples, found, strict=True):
        rows = slice(start, start + 1 + len(sample.subjects))
        scores.append(_score(sample, clip[rows], dino[rows], references, judges, own))
        start = rows.stop
    return scores


def read_pixels(path: Path) -> Pixels:
    """A picture as the service sees it: upright, RGB, in sRGB; transparent parts on white.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        content = path.read_bytes()
        with decoding(), Image.open(io.BytesIO(content)) as opened:
            picture = plain(opened).convert("RGBA")
    except OSError as error:
        raise InvalidInputError(f"The picture {path} cannot be read: {error.strerror}.") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"The picture {path} cannot be read. {error.detail}") from error
    ground = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(ground, picture).convert("RGB"))


def _read_made(path: Path) -> Pixels:
    try:
        return read_pixels(path)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error.detail} Delete it and run the command again, which makes it anew.") from error


def _score(  # noqa: PLR0913 - one sample and all that is known of it
    sample: Sample, clip: Rows, dino: Rows, references: References, judges: Judges, found: tuple[Found, ...]
) -> SampleScore:
    """One sample; the first row is the whole picture's, the others are its crops'."""
    subjects = sample.subjects
    phrases = tuple(subject.phrase for subject in subjects)
    clip_references, dino_references = references.of(sample)
    texts = judges.clip.texts([sample.prompt, *phrases])
    of_texts = _rounded((clip * texts).sum(1))
    by_clip, by_dino = clip @ clip_references.T, dino @ dino_references.T
    return SampleScore(
        sample=sample.name,
        type=sample.type,
        combination=sample.combination,
        pictures=tuple(subject.picture for subject in subjects),
        phrases=phrases,
        boxes=tuple(subject.box for subject in subjects),
        scenes=tuple(subject.is_scene for subject in subjects),
        clip_t=of_texts[0],
        clip_t_crops=of_texts[1:],
        clip_i=_rounded(by_clip[0]),
        clip_i_crops=tuple(map(_rounded, by_clip[1:])),
        dino=_rounded(by_dino[0]),
        dino_crops=tuple(map(_rounded, by_dino[1:])),
        found=found,
    )


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)


def _detect(samples: Sequence[Sample], frames: Sequence[Frame], judges: Judges) -> list[tuple[Found, ...]]:
    """What is found in each picture by the phrases of its subjects that are no scenes."""
    phrases = [list(dict.fromkeys(s.phrase for s in sample.subjects if not s.is_scene)) for sample in samples]
    answers = judges.detector.detect(frames, phrases)
    return [
        tuple(found for phrase in own for found in _each_once([each for each in answer if each.phrase == phrase]))
        for own, answer in zip(phrases, answers, strict=True)
    ]


def _each_once(detections: Sequence[Detection]) -> list[Found]:
    """The detections of one phrase without those that show what a surer one shows."""
    corners = [each.box.as_tuple() for each in detections]
    boxes = [(left, top, right - left, bottom - top) for left, top, right, bottom in corners]
    # The library has overlaps of whole pixels in mind.
    kept: Any = cv2.dnn.NMSBoxes(
        [tuple(value * 10_000 for value in box) for box in boxes],
        [each.score for each in detections],
        0.0,
        SAME_THING_IOU,
    )
    found = (detections[int(index)] for index in kept)
    return [Found(each.phrase, each.box, round(each.score, _DIGITS)) for each in found]
