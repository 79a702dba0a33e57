"""Samples before any model has read them: cropped to one size, with boxes of that crop and references as the model sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ms_core.conditions.references import ReferencePreprocessor
from ms_core.errors import InvalidInputError
from ms_core.method.boxes import fit_boxes
from ms_core.spec import Box
from ms_lab.data.records import SubjectRecord, TrainingSample

# A subject of which the crop holds less than this share of its box is left out.
LEAST_SEEN = 0.5


class Size(NamedTuple):
    """Of the targets, in pixels."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """One sample as the encoders take it.

    Attributes:
        image: the target, 0 to 255.
        references: pixel values for the image encoder, one picture for each subject.
        boxes: normalised xyxy in the target.
        places: where in its box each subject is to stand, as the resampler is told; normalised xyxy.
        time_ids: SDXL's size conditioning: original size, crop corner, target size, each vertical before horizontal.
        caption, phrases: in the order of the subjects.
    """

    image: UInt8[Tensor, "3 height width"]
    references: Float[Tensor, "subjects 3 side side"]
    boxes: Float[Tensor, "subjects 4"]
    places: Float[Tensor, "subjects 4"]
    time_ids: Float[Tensor, " 6"]
    caption: str
    phrases: tuple[str, ...]


def require_size(size: Size, factor: int) -> None:
    """Refuse targets that a base cannot draw.

    Args:
        size: of the targets.
        factor: pixels of the base's pictures for each cell of its latents.

    Raises:
        InvalidInputError: the base cannot draw them.
    """
    if size.height % factor or size.width % factor:
        raise InvalidInputError(
            f"The base's pictures have sides that are multiples of {factor}, not {size.height} x {size.width}."
        )


def prepare(sample: TrainingSample, size: Size, preprocessor: ReferencePreprocessor) -> PreparedSample:
    """Crop a sample to ``size`` and prepare its references as serving does."""
    cropped, corner = crop(sample, size)
    seen = [preprocessor.see(subject.reference) for subject in cropped.subjects]
    boxes = torch.tensor([subject.box.as_tuple() for subject in cropped.subjects])
    places = boxes
    if preprocessor.reference.keep_proportions:
        places = fit_boxes(boxes, torch.tensor([picture.aspect for picture in seen]), size.width / size.height)
    return PreparedSample(
        image=torch.as_tensor(np.array(cropped.image)).permute(2, 0, 1).contiguous(),
        references=torch.stack([preprocessor.pixel_values(picture) for picture in seen]),
        boxes=boxes,
        places=places,
        time_ids=torch.tensor([sample.height, sample.width, *corner, *size], dtype=torch.float32),
        caption=cropped.caption,
        phrases=tuple(subject.phrase for subject in cropped.subjects),
    )


def crop(sample: TrainingSample, size: Size) -> tuple[TrainingSample, tuple[int, int]]:
    """Scale a sample to cover ``size`` and cut it around its subjects.

    Returns:
        the sample in the crop, without subjects of which too little is left; and the crop's upper left corner, vertical
        before horizontal, in pixels of the scaled picture.
    """
    scale = max(size.height / sample.height, size.width / sample.width)
    height, width = (
        max(own, round(scale * side)) for own, side in zip(size, (sample.height, sample.width), strict=True)
    )
    scaled = sample.image.resize((width, height), Image.Resampling.LANCZOS)
    # Around all subjects, or around the largest if the crop then held none.
    boxes = [subject.box for subject in sample.subjects]
    largest = max(boxes, key=lambda box: (box.x_max - box.x_min) * (box.y_max - box.y_min))
    for around in (boxes, [largest]):
        top, left = _corner(around, (height, width), size)
        subjects = [_cropped(subject, (top, left), (height, width), size) for subject in sample.subjects]
        if kept := tuple(subject for subject in subjects if subject is not None):
            break
    else:
        # It is larger than the crop can be; what is seen of it fills the crop.
        kept = tuple(
            replace(subject, box=Box(0, 0, 1, 1), mask=None) for subject in sample.subjects if subject.box == largest
        )
    image = scaled.crop((left, top, left + size.width, top + size.height))
    return replace(sample, image=image, height=size.height, width=size.width, subjects=kept), (top, left)


def _corner(boxes: list[Box], scaled: tuple[int, int], size: Size) -> tuple[int, int]:
    """Of the crop whose middle is that of the boxes, as far as the picture goes."""
    middle_y = (min(box.y_min for box in boxes) + max(box.y_max for box in boxes)) / 2
    middle_x = (min(box.x_min for box in boxes) + max(box.x_max for box in boxes)) / 2
    top, left = (
        min(max(round(middle * whole - own / 2), 0), whole - own)
        for middle, whole, own in zip((middle_y, middle_x), scaled, size, strict=True)
    )
    return top, left


def _cropped(
    subject: SubjectRecord, corner: tuple[int, int], scaled: tuple[int, int], size: Size
) -> SubjectRecord | None:
    """A subject with its box in the crop; ``None`` if too little of it is there. Its mask is not kept."""
    box = subject.box
    ys, xs = (
        [(value * whole - start) / own for value in edges]
        for edges, start, whole, own in zip(
            ((box.y_min, box.y_max), (box.x_min, box.x_max)), corner, scaled, size, strict=True
        )
    )
    inside_y, inside_x = ([min(max(value, 0.0), 1.0) for value in edges] for edges in (ys, xs))
    whole_area = (ys[1] - ys[0]) * (xs[1] - xs[0])
    left = (inside_y[1] - inside_y[0]) * (inside_x[1] - inside_x[0])
    if left <= 0 or left < LEAST_SEEN * whole_area:
        return None
    return replace(subject, box=Box(inside_x[0], inside_y[0], inside_x[1], inside_y[1]), mask=None)
