"""Endpoint that reads how a picture was made, out of the picture."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.assets.uploads import pictures_in
from app.requests.body import Body, BodyReaderDependency, Measured, SettingsDependency
from app.requests.recipes import Inspection, inspect_picture
from app.requests.submitted import KeepsDependency
from app.schemas import InspectionResource
from app.service.errors import InvalidRequestError
from app.service.files import BINARY
from app.service.problems import SCHEMA_REF, problem_responses
from ms_core.spec.declared import FieldError

router = APIRouter(tags=["assets"])

PICTURE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"$ref": SCHEMA_REF.format(model="InspectForm")}},
        "application/json": {"schema": {"$ref": SCHEMA_REF.format(model="AssetUpload")}},
        "image/*": BINARY,
    },
}
INSPECT_FORM: dict[str, Any] = {
    "description": "One picture, in a part of any name.",
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": {"type": "string", "format": "binary"},
}


@router.post(
    "/inspect",
    operation_id="inspect_picture",
    summary="Read how a picture was made",
    responses=problem_responses(400, 413, 415, 422, 503),
    openapi_extra={"requestBody": PICTURE_BODY},
)
async def inspect(
    reader: BodyReaderDependency,
    settings: SettingsDependency,
    keeps: KeepsDependency,
    request: Request,
    response: Response,
) -> InspectionResource:
    """The `recipe` of a picture that was made here is the body of `POST /generate` that makes it again: on the same device and
    versions with the same bytes. It names pictures by their SHA-256, which works while the service keeps them; in place of each in
    `missing` a request needs the picture itself.

    Other pictures, and those that were encoded again, are answered with `recipe: null` and a sentence.
    """

    def measure(body: Body) -> Measured[Inspection]:
        files = list(pictures_in(body).values())
        if len(files) != 1:
            raise InvalidRequestError([FieldError(f"Send one picture, not {len(files)}.", "", "missing_field")])
        # No pixel is decoded.
        return Measured(0, lambda _: inspect_picture(files[0], settings.max_picture_pixels, keeps.assets.pictures.has))

    found = await reader.read(request, measure, takes_picture=True)
    # What is missing changes with the jobs and assets that are kept.
    response.headers["Cache-Control"] = "no-store"
    return InspectionResource.model_validate(found, from_attributes=True)
