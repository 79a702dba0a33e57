"""The types of bodies that are taken."""

from __future__ import annotations

from contextlib import suppress
from email.message import Message

from starlette.datastructures import Headers

from app.requests.forms import malformed
from app.service.errors import HTTPProblem
from app.service.problems import UNSUPPORTED_TYPE

# Clients write some 80 characters.
MAX_CONTENT_TYPE = 1000


def content_type_of(headers: Headers) -> Message:
    """What a body says that it is."""
    given = headers.get("content-type", "")
    # Python reads it in a time that grows with the square of its length.
    if len(given) > MAX_CONTENT_TYPE:
        detail = f"The header Content-Type is longer than {MAX_CONTENT_TYPE} characters; let your client write it."
        raise HTTPProblem(UNSUPPORTED_TYPE, detail)
    content_type = Message()
    content_type["content-type"] = given
    return content_type


def require_unpacked(headers: Headers) -> None:
    """Refuse what is in a wrapper."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        detail = "Send the body as it is, without Content-Encoding: it is not unpacked here."
        raise HTTPProblem(UNSUPPORTED_TYPE, detail, {"Accept-Encoding": "identity"})


def boundary_of(content_type: Message, takes_picture: bool) -> bytes | None:
    """The boundary of a form, ``None`` for JSON; refuses all else, and says whether a picture would do."""
    kind = content_type.get_content_type()
    if kind not in ("application/json", "multipart/form-data"):
        detail = "Send the request as JSON, with the header Content-Type: application/json, or as multipart/form-data."
        if takes_picture:
            detail = (
                "Send the file of the picture with the header Content-Type: image/png, image/jpeg or image/webp, or send it as "
                "multipart/form-data or JSON."
            )
        raise HTTPProblem(UNSUPPORTED_TYPE, detail)
    charset = content_type.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise HTTPProblem(UNSUPPORTED_TYPE, f"JSON is sent as UTF-8 (RFC 8259), not as {charset}.")
    if kind == "application/json":
        return None
    # A boundary in an encoding that it breaks is none.
    with suppress(UnicodeError):
        if boundary := (content_type.get_boundary() or "").encode("latin-1", "replace"):
            return boundary
    raise malformed("The header Content-Type of a form needs its boundary; let your client write it.")
