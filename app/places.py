"""Where the subjects of a request stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import collected
from app.fields import PixelBox
from app.generate_request import GenerateRequest, SubjectRequest
from ms_core.errors import InvalidInputError, LayoutError
from ms_core.spec import Box, check_scene_box, check_scene_mask


def find_places(
    request: GenerateRequest, values: Mapping[str, Any]
) -> tuple[tuple[Box | None, ...], list[InvalidInputError]]:
    """The normalised box of each subject, and what is wrong with their places."""
    boxes: list[Box | None] = []
    errors: list[InvalidInputError] = []
    for index, subject in enumerate(request.subjects):
        with collected(errors, f"/subjects/{index}"):
            boxes.append(_box(subject, request, values))
        if subject.scene:
            with collected(errors, f"/subjects/{index}"):
                check_scene_mask(subject.mask, "/mask")
    return tuple(boxes), errors


def _box(subject: SubjectRequest, request: GenerateRequest, values: Mapping[str, Any]) -> Box | None:
    box = subject.box
    if box is None and request.layout is None and subject.mask is None and not subject.scene:
        raise LayoutError("This subject has no box; give one, or a mask, or ask for the auto layout.", "/box")
    if isinstance(box, PixelBox):
        height, width = values["height"], values["width"]
        if height is None or width is None:
            detail = "Pixel boxes need width and height in the request until a worker has loaded the model."
            raise LayoutError(detail, "/box")
        try:
            box = Box.from_pixels(box.values, height, width)
        except LayoutError as error:
            raise error.below("/box") from error
    if subject.scene:
        check_scene_box(box, "/box")
    return box
