"""Pictures as callers have them, and the bytes that are sent."""

from __future__ import annotations

import base64
import hashlib
import io
import mimetypes
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, ImageOps

from msd_client.errors import PictureError
from msd_client.jobs import Asset


class ArrayLike(Protocol):
    """Pixels of a numpy array or its like: height x width x 3 or 4, 8 bits each."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


# A path, an encoded picture, a picture, pixels, a data URI, an https address, "asset:<id>", "sha256:<hash>", or what an upload gave.
PictureSource = str | os.PathLike[str] | bytes | Image.Image | ArrayLike | Asset

# The service fetches what lies at an address, if its operator allows the host.
_SENT_AS_IT_IS = ("data:", "asset:", "sha256:", "https://")
_ADDRESS = re.compile(r"(https?):/+(.*)", re.IGNORECASE | re.DOTALL)
_SIGNATURES = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))
_UNKNOWN_TYPE = "application/octet-stream"
# Modes that PNG knows; the profile of the others does not fit what they are converted to.
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """An encoded picture, not looked into: the service says what is wrong with it."""

    content: bytes = field(repr=False)
    media_type: str

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def data_uri(self) -> str:
        """As a request holds it."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


def read_picture(source: PictureSource) -> PictureFile | str:
    """Read a picture for a request: an encoded picture, or the text of one that needs no reading.

    Raises:
        PictureError: the file cannot be read, or the value is no picture.
    """
    if isinstance(source, Asset):
        return source.reference
    if isinstance(source, str) and source.startswith(_SENT_AS_IT_IS):
        return source
    if isinstance(source, (str, os.PathLike)):
        return read_file(Path(source))
    if isinstance(source, bytes):
        return PictureFile(source, _type_of(source))
    return PictureFile(_png(source), "image/png")


def read_file(path: Path) -> PictureFile:
    """Read an encoded picture from a file.

    Raises:
        PictureError: it cannot be read, or is an address.
    """
    # A path has one slash where the address had two.
    address = _ADDRESS.fullmatch(str(path))
    if address is not None:
        scheme, rest = address.groups()
        raise PictureError(f"{scheme}://{rest}: addresses are not fetched; save the picture and give its path.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f"Cannot read the picture {path}: {error.strerror}.") from error
    return PictureFile(content, mimetypes.guess_type(path.name)[0] or _type_of(content))


def _type_of(content: bytes) -> str:
    return next((kind for signature, kind in _SIGNATURES if content.startswith(signature)), _UNKNOWN_TYPE)


def _png(source: Image.Image | ArrayLike) -> bytes:
    try:
        picture = source if isinstance(source, Image.Image) else Image.fromarray(source)
        # Pillow would drop a camera's turn.
        picture = ImageOps.exif_transpose(picture)
        if picture.mode not in _PNG_MODES:
            picture = picture.convert("RGB")
            picture.info.pop("icc_profile", None)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise PictureError(f"This is not a picture that can be sent: {error}.") from error
    return buffer.getvalue()
