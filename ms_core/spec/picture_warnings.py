"""What the user should know of a request's pictures."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from ms_core.config import ModelCard
from ms_core.spec.generation import GenerationSpec, GenerationWarning
from ms_core.spec.picture_notes import ignored_parts, is_one_coloured

_ONE_COLOUR = "The picture has only one colour, so it shows no subject and gets no score; send one in which the subject can be seen."


def picture_warnings(spec: GenerationSpec, card: ModelCard | None) -> Iterator[GenerationWarning]:
    """References of one colour, on the model's background if it is known, and damaged parts that were ignored."""
    background = None if card is None else card.reference.background
    for index, subject in enumerate(spec.subjects):
        for image, field in zip(subject.images, subject.image_fields, strict=True):
            pointer = f"/subjects/{index}/{field}"
            yield from _ignored(image, pointer)
            if is_one_coloured(image, background):
                yield GenerationWarning("one_colour", _ONE_COLOUR, pointer)
        if subject.mask is not None:
            yield from _ignored(subject.mask, f"/subjects/{index}/mask")
    for index, control in enumerate(spec.controls):
        yield from _ignored(control.image, f"/controls/{index}/image")
    if spec.start is not None:
        yield from _ignored(spec.start.image, "/start/image")


def _ignored(picture: Image.Image, pointer: str) -> Iterator[GenerationWarning]:
    for name, purpose in ignored_parts(picture).items():
        detail = f"The {purpose} of this PNG (its chunk {name}) is damaged and is ignored; save the picture again."
        yield GenerationWarning("picture_part_ignored", detail, pointer)
