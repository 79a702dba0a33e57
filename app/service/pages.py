"""Pages of lists that are ordered by time of creation, newest first."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi import Query

from app.service.errors import HTTPProblem
from app.service.problems import INVALID_PARAMETER

MAX_PAGE = 100
DEFAULT_PAGE = 20

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many the page may hold at most.")]
# The pattern is for the document alone: ``Cursor.decode`` says more of what is wrong.
CursorText = Annotated[
    str | None,
    Query(
        alias="cursor",
        description="The `next_cursor` of the previous page.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]


class Cursor(NamedTuple):
    """The last item of a page; the next page starts with the first older one.

    Attributes:
        created_at: Unix seconds.
    """

    created_at: float
    id: str

    def encode(self) -> str:
        """Encode the cursor for clients."""
        return base64.urlsafe_b64encode(f"{self.created_at!r} {self.id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, id_pattern: str, path: str) -> Cursor:
        """Decode what ``encode`` wrote.

        Args:
            id_pattern: of the ids in this list.
            path: of the list.

        Raises:
            HTTPProblem: the text is not a cursor of this list.
        """
        try:
            decoded = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
            created_at, _, item_id = decoded.partition(" ")
            cursor = cls(float(created_at), item_id)
        except (ValueError, binascii.Error) as error:
            raise _unknown_cursor(path) from error
        if not math.isfinite(cursor.created_at) or re.fullmatch(id_pattern, item_id) is None:
            raise _unknown_cursor(path)
        return cursor


class NextPage(NamedTuple):
    """Where a list goes on; both are ``None`` on the last page.

    Attributes:
        url: relative to the service's address.
    """

    cursor: str | None
    url: str | None


def next_page(list_url: str, cursor: Cursor | None, limit: int, filters: Iterable[tuple[str, str]] = ()) -> NextPage:
    """The page after one that ended at ``cursor``; ``filters`` are the other parameters of the list."""
    if cursor is None:
        return NextPage(None, None)
    text = cursor.encode()
    return NextPage(text, f"{list_url}?{urlencode([*filters, ('limit', limit), ('cursor', text)])}")


def _unknown_cursor(path: str) -> HTTPProblem:
    detail = f"This cursor is not from GET {path}; leave it out to start from the first page."
    return HTTPProblem(INVALID_PARAMETER, detail)
