"""Answers with the bytes of a stored picture."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from ms_jobs.result_files import PNG

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def file_answer(content: bytes, filename: str, media_type: str = PNG) -> Response:
    """Answer with a file that never changes; a browser may keep it and show it, as what it says to be."""
    headers = {
        "Content-Disposition": f'inline; filename="{filename}"',
        "Cache-Control": "private, max-age=86400, immutable",
        # A browser shows what it keeps to the one alone who was let in.
        "Vary": "Authorization, X-API-Key, Cookie",
    }
    return Response(content, headers=headers, media_type=media_type)
