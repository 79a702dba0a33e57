"""Stores uploaded pictures: each is decoded once, into the variants that requests need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from PIL import Image
from pydantic import Field, ValidationError, WithJsonSchema

from app.config import MEBIBYTE, Settings
from app.requests.body import Body
from app.requests.data_uris import bytes_of_data_uri
from app.requests.decoding import PictureLimits, check_total, cost_of, decode, encode_png
from app.requests.forms import read_form
from app.requests.intake import read_json
from app.requests.turns import Turn
from app.service.errors import InvalidRequestError
from ms_core.errors import InvalidInputError
from ms_core.spec.declared import Declared, FieldError, collected, declared, invalid_inputs
from ms_core.spec.picture_notes import dump_notes
from ms_core.spec.pictures import DATA_URI_SCHEMA
from ms_jobs.asset_variants import Asset, NewVariant
from ms_jobs.assets import AssetStore, NewAssets


@declared()
class AssetUpload(Declared):
    """One picture in JSON."""

    image: Annotated[
        str,
        WithJsonSchema(DATA_URI_SCHEMA),
        Field(description="The picture: a data URI with a PNG, JPEG or WebP in base64."),
    ]


def measure_pictures(body: Body, limits: PictureLimits) -> tuple[dict[str, bytes], int]:
    """The encoded pictures of a body by their pointers (position of the part, or field of the JSON), and their pixels.

    Raises:
        HTTPProblem: the body is no JSON or form.
        InvalidRequestError: there is none, or they are too large together.
    """
    pictures = pictures_in(body)
    if not pictures:
        raise InvalidRequestError([FieldError("Send at least one picture.", "", "missing_field")])
    pixels = sum(cost for cost in map(cost_of, pictures.values()) if cost <= limits.max_pixels)
    check_total(pixels, limits)
    return pictures, pixels


def store_pictures(
    pictures: Mapping[str, bytes], assets: AssetStore, limits: PictureLimits, turn: Turn, settings: Settings
) -> list[Asset]:
    """Store all pictures, or none.

    Args:
        pictures: of ``measure_pictures``.
        settings: how much is to be left free on the volume, and how much the owner's assets may take.

    Raises:
        AssetsFullError: they would be more than the owner may keep.
        ClientLeftError: nobody waits for them.
        InvalidRequestError: with an error for each that cannot be stored.
        StorageError: the volume cannot be written.
    """
    turn.require_client()
    errors: list[InvalidInputError] = []
    with assets.adding(settings.min_free_disk_mb * MEBIBYTE) as new:
        for pointer, encoded in pictures.items():
            with collected(errors, pointer), turn.take(cost_of(encoded)):
                _store(encoded, new, limits)
        if errors:
            raise InvalidRequestError(errors)
        return assets.publish(new, settings.max_asset_mb * MEBIBYTE)


def pictures_in(body: Body) -> dict[str, bytes]:
    """The encoded pictures of a body by their pointers: position of the part, or field of the JSON.

    Raises:
        HTTPProblem: the body is no JSON or form.
        InvalidRequestError: the JSON holds no data URI.
    """
    if body.is_picture:
        return {"": body.content}
    if body.boundary is not None:
        return {f"/{number}": part.content for number, part in enumerate(read_form(body.content, body.boundary))}
    try:
        return {"/image": bytes_of_data_uri(read_json(body.content, AssetUpload).image)}
    except ValidationError as error:
        raise InvalidRequestError(invalid_inputs(error, AssetUpload)) from error
    except InvalidInputError as error:
        raise InvalidRequestError([error.below("/image")]) from error


def _store(encoded: bytes, new: NewAssets, limits: PictureLimits) -> None:
    shown = decode(encoded, limits, "exact")
    shown_variant = exact_variant = _variant(shown)
    # Below that side nothing is reduced.
    if max(shown.size) > limits.max_side:
        # One large picture after the other, for they take much memory.
        del shown
        shown = decode(encoded, limits, "shown")
        shown_variant = _variant(shown)
    mask = decode(encoded, limits, "mask")
    mask_variant = _variant(mask, shown_variant.png if _is_same(mask, shown) else None)
    new.add(_is_transparent(shown), {"shown": shown_variant, "exact": exact_variant, "mask": mask_variant})


def _variant(picture: Image.Image, png: bytes | None = None) -> NewVariant:
    png = encode_png(picture) if png is None else png
    return NewVariant(png, picture.width, picture.height, dump_notes(picture))


def _is_same(first: Image.Image, second: Image.Image) -> bool:
    return (first.mode, first.size) == (second.mode, second.size) and first.tobytes() == second.tobytes()


def _is_transparent(picture: Image.Image) -> bool:
    return picture.mode == "RGBA" and picture.getchannel("A").point([1] * 255 + [0]).getbbox() is not None
