"""Where a list goes on: opaque to clients."""

from __future__ import annotations

import base64
import binascii
import math
from typing import NamedTuple

from app.errors import HTTPProblem
from app.problems import INVALID_PARAMETER
from ms_jobs.records import is_job_id


class Cursor(NamedTuple):
    """The last job of a page: the next page begins with the first one that is older.

    Attributes:
        created_at: Unix seconds.
    """

    created_at: float
    job_id: str

    def encode(self) -> str:
        """The cursor as clients see it."""
        return base64.urlsafe_b64encode(f"{self.created_at!r} {self.job_id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor that ``encode`` wrote.

        Raises:
            HTTPProblem: it wrote no such text.
        """
        try:
            decoded = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
            created_at, _, job_id = decoded.partition(" ")
            cursor = cls(float(created_at), job_id)
        except (ValueError, binascii.Error) as error:
            raise _unknown_cursor() from error
        if not math.isfinite(cursor.created_at) or not is_job_id(job_id):
            raise _unknown_cursor()
        return cursor


def _unknown_cursor() -> HTTPProblem:
    return HTTPProblem(INVALID_PARAMETER, "This cursor is not one that GET /jobs gave; leave it out to begin anew.")
