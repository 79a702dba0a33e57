"""Reads the recipe in a picture, as a request that can be sent again.

Anybody can write anything into a file, so a recipe passes the checks of a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from PIL import Image
from pydantic import ValidationError

from app.requests.decoding import check_pixels
from app.requests.intake import read_json
from app.schemas import MadeResource
from app.service.errors import HTTPProblem
from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec.declared import changed, invalid_inputs
from ms_core.spec.pictures import KEPT, PictureUse
from ms_jobs.job_request import GenerateRequest, as_sent, asked_document
from ms_jobs.records import SHA256_PATTERN
from ms_jobs.result_files import RecipeError, read_recipe

NO_RECIPE = "This picture holds no recipe: it was made elsewhere, or was encoded again since it was made here."
NOT_OURS = "The recipe of this picture cannot be used: another version of the service made it, or it was changed."


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a picture says of how it was made.

    Attributes:
        recipe: the body of ``POST /generate`` that makes it again, with pictures by their SHA-256; ``None`` without one.
        made: how it was made; with a recipe only.
        missing: SHA-256 of the recipe's pictures that are not kept any more.
        detail: why there is no recipe.
    """

    recipe: dict[str, Any] | None = None
    made: MadeResource | None = None
    missing: tuple[str, ...] = ()
    detail: str | None = None


def inspect_picture(encoded: bytes, max_pixels: int, is_kept: Callable[[str], bool]) -> Inspection:
    """Read the recipe in the file of a picture.

    Args:
        max_pixels: of a picture.
        is_kept: whether the caller's picture with a SHA-256 is still there.

    Raises:
        PictureTooLargeError: the header gives more pixels.
    """
    check_pixels(encoded, max_pixels)
    try:
        recipe = read_recipe(encoded)
        if recipe is None:
            return Inspection(detail=NO_RECIPE)
        pictures = _NamedPictures()
        request = _request_of(recipe, pictures)
        made = MadeResource.model_validate({**recipe, "model": recipe["model"]["name"]})
    except RecipeError as error:
        return Inspection(detail=str(error))
    except InvalidInputError as error:
        return Inspection(detail=f"{NOT_OURS} {error.pointer}: {error.detail}")
    except (KeyError, TypeError, AttributeError, ValueError, HTTPProblem):
        return Inspection(detail=NOT_OURS)
    missing = tuple(name for name in dict.fromkeys(pictures.names) if not is_kept(name))
    return Inspection(asked_document(request, pictures), made, missing)


@dataclass(slots=True)
class _NamedPictures:
    """Pictures that are no more than their SHA-256, as ``ms_core.spec.Pictures``.

    Attributes:
        names: those read so far.
    """

    names: list[str] = field(default_factory=list[str])
    _read: list[tuple[Image.Image, str]] = field(default_factory=list[tuple[Image.Image, str]])

    def read(self, text: str, use: PictureUse) -> Image.Image:
        """A picture that stands for the one with this SHA-256."""
        if re.fullmatch(SHA256_PATTERN, text) is None:
            raise PictureError("This is no SHA-256.")
        self.names.append(text)
        picture = Image.new("L", (8, 8), "white")
        self._read.append((picture, text))
        return picture

    def name(self, picture: Image.Image) -> str:
        """How a request names it."""
        return KEPT + next(name for known, name in self._read if known is picture)


def _request_of(recipe: dict[str, Any], pictures: _NamedPictures) -> GenerateRequest:
    """The request of a recipe, checked as far as that needs no pixels.

    Raises:
        InvalidInputError: the first thing that is wrong.
        KeyError, TypeError, AttributeError, ValueError, HTTPProblem: it is nothing like a recipe.
    """
    document = as_sent(cast("dict[str, Any]", recipe["request"]))
    try:
        request = read_json(json.dumps(document).encode(), GenerateRequest, pictures)
    except ValidationError as error:
        raise invalid_inputs(error, GenerateRequest)[0] from error
    # Only the pictures themselves can tell whether they have the size of the result.
    for conflict in changed(request, height=None, width=None).conflicts():
        raise conflict
    return request
