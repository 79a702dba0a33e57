"""Endpoints of the cast: subjects that are kept under a name until they are deleted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from app.cast.requests import CastMemberRequest
from app.cast.resources import CastMember, CastPage, cast_member
from app.config import MEBIBYTE
from app.requests.body import Body, BodyReaderDependency, Measured, SettingsDependency
from app.requests.intake import measure_body, parse_body
from app.requests.submitted import KeepsDependency, PictureLimitsDependency, bodies_of, document_and_sources, form_of
from app.requests.turns import Turn
from app.service.addresses import service_url
from app.service.errors import HTTPProblem
from app.service.files import BINARY, file_answer
from app.service.pages import DEFAULT_PAGE, Cursor, CursorText, Limit, next_page
from app.service.problems import INVALID_PARAMETER, problem_responses
from ms_core.spec.limits import CAST_NAME_PATTERN
from ms_jobs.cast import NAME_RULE, is_cast_name
from ms_jobs.result_files import PNG

router = APIRouter(tags=["cast"])

CAST_FORM = form_of("CastMemberForm", "CastMemberRequest")
_PATTERN = {"pattern": f"^{CAST_NAME_PATTERN}$"}
CastName = Annotated[str, Path(description="Name of the subject.", json_schema_extra=_PATTERN)]
PictureIndex = Annotated[int, Path(ge=0, description="Position of the picture, counted from 0.")]
_ChosenName = Annotated[str, Path(description="A name that you choose.", json_schema_extra=_PATTERN)]
_MEMBER: dict[str, Any] = {"model": CastMember}


async def _chosen_name(name: _ChosenName) -> str:
    if not is_cast_name(name):
        raise HTTPProblem(INVALID_PARAMETER, NAME_RULE)
    return name


async def _page_cursor(cursor: CursorText = None) -> Cursor | None:
    return None if cursor is None else Cursor.decode(cursor, CAST_NAME_PATTERN, "/cast")


ChosenName = Annotated[str, Depends(_chosen_name)]
PageCursor = Annotated[Cursor | None, Depends(_page_cursor)]


@router.put(
    "/cast/{name}",
    operation_id="put_cast",
    summary="Keep a subject under a name",
    responses={
        200: {**_MEMBER, "description": "It took the place of one of the same name."},
        201: {**_MEMBER, "description": "There was none of this name."},
        **problem_responses(400, 413, 415, 422, 503),
    },
    openapi_extra={"requestBody": bodies_of("CastMemberRequest", "CastMemberForm")},
)
async def put_cast(  # noqa: PLR0913 - each argument is a part of the request
    name: ChosenName,
    reader: BodyReaderDependency,
    limits: PictureLimitsDependency,
    settings: SettingsDependency,
    keeps: KeepsDependency,
    request: Request,
    response: Response,
) -> CastMember:
    """Keep a subject, with its pictures, until it is deleted. Requests name it: `"subjects": [{"cast": "rex", "box": ...}]`.

    It stands there for its phrase, pictures, cutout and scale, of which a request may give others. What a job was asked for does
    not change with the cast. Pictures are sent as in `POST /generate`; those of assets are kept although the asset goes.
    """

    def measure(body: Body) -> Measured[bool]:
        document, sources = document_and_sources(body, keeps)

        def keep(turn: Turn) -> bool:
            asked, pictures = parse_body(document, CastMemberRequest, limits, turn, sources)
            new = asked.new_pictures(pictures)
            return keeps.cast.put(name, asked.traits, new, settings.min_free_disk_mb * MEBIBYTE)

        return Measured(measure_body(document, CastMemberRequest, limits, sources), keep)

    is_new = await reader.read(request, measure)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    return cast_member(keeps.cast.find(name), service_url(request))


@router.get(
    "/cast",
    operation_id="list_cast",
    summary="List the cast",
    responses=problem_responses(400, 503),
)
def list_cast(
    keeps: KeepsDependency, request: Request, response: Response, cursor: PageCursor, limit: Limit = DEFAULT_PAGE
) -> CastPage:
    """In pages, those that were changed last first."""
    found, more = keeps.cast.page(limit, cursor)
    response.headers["Cache-Control"] = "no-store"
    last = Cursor(found[-1].changed_at, found[-1].name) if more else None
    following = next_page(f"{service_url(request)}/cast", last, limit)
    return CastPage(
        cast=[cast_member(member, service_url(request)) for member in found],
        next_cursor=following.cursor,
        next=following.url,
    )


@router.get(
    "/cast/{name}",
    operation_id="get_cast",
    summary="Get a subject of the cast",
    responses=problem_responses(404, 503),
)
def get_cast(name: CastName, keeps: KeepsDependency, request: Request, response: Response) -> CastMember:
    """Its phrase, its pictures by their URLs, and how it is used."""
    response.headers["Cache-Control"] = "no-store"
    return cast_member(keeps.cast.find(name), service_url(request))


@router.get(
    "/cast/{name}/pictures/{index}",
    operation_id="get_cast_picture",
    summary="Get a picture of a subject of the cast",
    response_class=Response,
    responses={200: {"content": {PNG: BINARY}, "description": "The PNG."}, **problem_responses(404, 503)},
)
def get_cast_picture(name: CastName, index: PictureIndex, keeps: KeepsDependency) -> Response:
    """As models are shown it: upright, in sRGB, without metadata, at most 2048 pixels a side."""
    answer = file_answer(keeps.cast.find(name).png(index), f"{name}-{index}.png")
    # The subject may get other pictures.
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


@router.delete(
    "/cast/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    operation_id="delete_cast",
    summary="Delete a subject of the cast",
    responses=problem_responses(404, 503),
)
def delete_cast(name: CastName, keeps: KeepsDependency) -> None:
    """And its pictures. Jobs that name it keep what it was."""
    keeps.cast.remove(name)
