"""Endpoints of assets: pictures that are uploaded once and named in many requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.assets.cutouts import CutoutsDependency
from app.assets.resources import Asset, AssetsPage, AssetsUploaded, asset_resource
from app.assets.uploads import measure_pictures, store_pictures
from app.requests.body import Body, BodyReaderDependency, Measured, SettingsDependency
from app.requests.submitted import KeepsDependency, PictureLimitsDependency
from app.requests.turns import Turn
from app.service.addresses import service_url
from app.service.files import BINARY, file_answer
from app.service.pages import DEFAULT_PAGE, Cursor, CursorText, Limit, next_page
from app.service.problems import SCHEMA_REF, problem_responses
from ms_core.spec.pictures import ASSET_ID_PATTERN
from ms_jobs.result_files import PNG

router = APIRouter(tags=["assets"])

AssetId = Annotated[str, Path(description="Id of the asset.", json_schema_extra={"pattern": f"^{ASSET_ID_PATTERN}$"})]
ModelName = Annotated[
    str | None, Query(description="Name of the model, as listed by `GET /models`. Default: the service's own.")
]
UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"$ref": SCHEMA_REF.format(model="AssetForm")}},
        "application/json": {"schema": {"$ref": SCHEMA_REF.format(model="AssetUpload")}},
    },
}
ASSET_FORM: dict[str, Any] = {
    "description": "Pictures to be uploaded: PNG, JPEG or WebP, in parts of any names.",
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "string", "format": "binary"},
}


async def _page_cursor(cursor: CursorText = None) -> Cursor | None:
    return None if cursor is None else Cursor.decode(cursor, ASSET_ID_PATTERN, "/assets")


PageCursor = Annotated[Cursor | None, Depends(_page_cursor)]


@router.post(
    "/assets",
    status_code=HTTPStatus.CREATED,
    operation_id="upload_assets",
    summary="Upload pictures",
    responses=problem_responses(400, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": UPLOAD_BODY},
)
async def upload_assets(
    reader: BodyReaderDependency,
    limits: PictureLimitsDependency,
    settings: SettingsDependency,
    keeps: KeepsDependency,
    request: Request,
) -> AssetsUploaded:
    """Store pictures under ids, which requests name as `asset:` and the id, wherever they take a picture.

    Send a form with one or several files, or JSON with one data URI. All are stored, or none; an error's pointer is the
    position of its part, counted from 0. The same pixels have the same id, so sending them again is safe and keeps them for
    longer. An asset is erased when it was not used for some days (`expires_at`), or by `DELETE /assets/{asset_id}`; jobs that
    name it keep its picture.
    """

    def measure(body: Body) -> Measured[AssetsUploaded]:
        pictures, pixels = measure_pictures(body, limits)

        def store(turn: Turn) -> AssetsUploaded:
            stored = store_pictures(pictures, keeps.assets, limits, turn, settings)
            return AssetsUploaded(assets=[asset_resource(asset, service_url(request)) for asset in stored])

        return Measured(pixels, store)

    return await reader.read(request, measure)


@router.get(
    "/assets",
    operation_id="list_assets",
    summary="List assets",
    responses=problem_responses(400, 503),
)
def list_assets(
    keeps: KeepsDependency, request: Request, response: Response, cursor: PageCursor, limit: Limit = DEFAULT_PAGE
) -> AssetsPage:
    """Newest first, in pages."""
    found, more = keeps.assets.page(limit, cursor)
    response.headers["Cache-Control"] = "no-store"
    last = Cursor(found[-1].created_at, found[-1].id) if more else None
    following = next_page(f"{service_url(request)}/assets", last, limit)
    return AssetsPage(
        assets=[asset_resource(asset, service_url(request)) for asset in found],
        next_cursor=following.cursor,
        next=following.url,
    )


@router.get(
    "/assets/{asset_id}",
    operation_id="get_asset",
    summary="Get an asset",
    responses=problem_responses(404, 503),
)
def get_asset(asset_id: AssetId, keeps: KeepsDependency, request: Request, response: Response) -> Asset:
    """What is known of the picture. To read an asset is no use of it: that keeps it for no longer."""
    response.headers["Cache-Control"] = "no-store"
    return asset_resource(keeps.assets.find(asset_id), service_url(request))


@router.get(
    "/assets/{asset_id}/picture",
    operation_id="get_asset_picture",
    summary="Get the picture of an asset",
    response_class=Response,
    responses={200: {"content": {PNG: BINARY}, "description": "The PNG."}, **problem_responses(404, 503)},
)
def get_asset_picture(asset_id: AssetId, keeps: KeepsDependency) -> Response:
    """As models are shown it: upright, in sRGB, without metadata, at most 2048 pixels a side."""
    return file_answer(keeps.assets.picture(asset_id), f"{asset_id}.png")


@router.get(
    "/assets/{asset_id}/cutout",
    operation_id="get_cutout",
    summary="Get the cut-out of an asset",
    response_class=Response,
    responses={
        200: {"content": {PNG: BINARY}, "description": "The PNG."},
        202: {
            "description": "A worker makes it; ask again after `Retry-After` seconds.",
            "headers": {
                "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
            },
        },
        **problem_responses(400, 404, 503),
    },
)
def get_cutout(asset_id: AssetId, cutouts: CutoutsDependency, model: ModelName = None) -> Response:
    """What the model sees of a subject with `cutout` and this picture: to look at before a job is submitted.

    A worker makes it when it is asked for first: 202, then the picture, which is kept with the asset; 503 without a worker.
    """
    png = cutouts.get(asset_id, model)
    if png is None:
        return Response(status_code=HTTPStatus.ACCEPTED, headers={"Retry-After": "1", "Cache-Control": "no-store"})
    answer = file_answer(png, f"{asset_id}-cutout.png")
    # The model may be replaced by another of its name.
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


@router.delete(
    "/assets/{asset_id}",
    status_code=HTTPStatus.NO_CONTENT,
    operation_id="delete_asset",
    summary="Erase an asset",
    responses=problem_responses(404, 503),
)
def delete_asset(asset_id: AssetId, keeps: KeepsDependency) -> None:
    """Jobs that name it keep its picture until they are deleted; new requests for it get 404 or 422."""
    keeps.assets.remove(asset_id)
