"""Reads the body of a request to OpenAI's interface into a request of ours."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple, cast

from fastapi import Depends, Request

from app.openai.forms import pictures_in, read_fields
from app.openai.translation import Translation, translate
from app.requests.body import Body, BodyReaderDependency, Measured, SettingsDependency
from app.requests.decoding import PictureLimits
from app.requests.forms import read_form
from app.requests.intake import SentRequest, check_count, measure_request, parse_request
from app.requests.sources import Keeps, PictureSources
from app.requests.submitted import KeepsDependency, PictureLimitsDependency
from app.requests.turns import Turn
from app.service.errors import HTTPProblem, InvalidRequestError
from app.service.problems import MALFORMED_JSON, UNSUPPORTED_TYPE
from ms_core.errors import InvalidInputError


class Asked(NamedTuple):
    """What a client asks for."""

    translation: Translation
    sent: SentRequest


class Asking:
    """Reads bodies for one model."""

    def __init__(self, served: str, limits: PictureLimits, keeps: Keeps) -> None:
        self._served = served
        self._limits = limits
        self._keeps = keeps

    def form(self, body: Body) -> Measured[Asked]:
        """Read a form with pictures; they are measured, and decoded later.

        Raises:
            HTTPProblem, InvalidInputError, InvalidRequestError: it cannot be read, or a value is wrong.
        """
        if body.boundary is None:
            detail = "Send pictures in a form, multipart/form-data; JSON goes to /v1/images/generations."
            raise HTTPProblem(UNSUPPORTED_TYPE, detail)
        parts = read_form(body.content, body.boundary)
        for part in parts:
            check_count(part.content)
        form = read_fields(parts)
        translation = translate(form.document, form.pictures, self._served)
        return self._measured(translation, PictureSources(self._keeps, form.uploads, body.fetched))

    def json(self, body: Body) -> Measured[Asked]:
        """Read a JSON body; errors as ``form``."""
        if body.boundary is not None:
            raise HTTPProblem(UNSUPPORTED_TYPE, "Send JSON here; forms with pictures go to /v1/images/edits.")
        check_count(body.content)
        document = _document(body.content)
        translation = translate(document, pictures_in(document), self._served)
        return self._measured(translation, PictureSources(self._keeps, None, body.fetched))

    def _measured(self, translation: Translation, sources: PictureSources) -> Measured[Asked]:
        body = json.dumps(translation.request).encode()

        def decode(turn: Turn) -> Asked:
            with as_sent(translation):
                return Asked(translation, parse_request(body, self._limits, turn, sources))

        return Measured(measure_request(body, self._limits, sources), decode)


@contextmanager
def as_sent(translation: Translation) -> Generator[None]:
    """Give errors the names of the fields as they were sent."""
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidRequestError([_renamed(each, translation) for each in error.errors]) from error


def _renamed(error: InvalidInputError, translation: Translation) -> InvalidInputError:
    pointer = error.pointer
    root = error.below("")
    root.pointer = translation.renamed(pointer)
    return root


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPProblem(MALFORMED_JSON, f"The body is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise HTTPProblem(MALFORMED_JSON, "The body is a JSON object, with prompt and subjects.")
    return cast("dict[str, Any]", document)


async def _asking(settings: SettingsDependency, limits: PictureLimitsDependency, keeps: KeepsDependency) -> Asking:
    return Asking(settings.model, limits, keeps)


async def _form(request: Request, reader: BodyReaderDependency, asking: Annotated[Asking, Depends(_asking)]) -> Asked:
    return await reader.read(request, asking.form)


async def _json(request: Request, reader: BodyReaderDependency, asking: Annotated[Asking, Depends(_asking)]) -> Asked:
    return await reader.read(request, asking.json)


AskedByForm = Annotated[Asked, Depends(_form)]
AskedByJson = Annotated[Asked, Depends(_json)]
