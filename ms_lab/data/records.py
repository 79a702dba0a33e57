"""One training sample, shared by composed scenes, the data pipeline and the trainers."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ms_core.spec import Box


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """One subject of a sample.

    Attributes:
        phrase: the words that name it.
        phrase_span: half-open character span of the phrase in the caption.
        box: where it stands, normalised xyxy in the image.
        mask: run lengths of its silhouette over the image's rows, first run False; ``None`` if unknown.
        reference: a picture of the same subject that is not cut from the image as it stands.
        reference_source: where the reference comes from, such as ``twemoji/teapot``.
    """

    phrase: str
    phrase_span: tuple[int, int]
    box: Box
    mask: tuple[int, ...] | None
    reference: Image.Image
    reference_source: str


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One picture with its caption and subjects.

    Attributes:
        image: the target picture, RGB.
        caption: what it shows; holds every subject's phrase.
        height, width: of the image, in pixels.
        subjects: in the order of the caption.
        source: where the sample comes from.
        licence: SPDX names of everything in the image, joined by " AND ".
        split: ``train`` or ``heldout``.
    """

    image: Image.Image
    caption: str
    height: int
    width: int
    subjects: tuple[SubjectRecord, ...]
    source: str
    licence: str
    split: str
