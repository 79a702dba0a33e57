"""What the names in a request stand for: pictures, by data URI, address, asset, SHA-256 or form part, and subjects of the cast."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.requests.addresses import is_address
from app.requests.data_uris import bytes_of_data_uri
from app.requests.fetching import Fetched
from ms_core.errors import AssetNotFoundError, CastNotFoundError, PictureError, UnknownUploadError, UnusedUploadError
from ms_core.spec.declared import FieldError
from ms_core.spec.pictures import ASSET, KEPT, UPLOAD, PictureUse
from ms_jobs.asset_variants import Asset
from ms_jobs.assets import AssetStore
from ms_jobs.cast import CastStore, Member, Traits
from ms_jobs.kept_pictures import KeptPicture
from ms_jobs.records import SHA256_PATTERN

_SOURCES = (
    f'Send the picture as a data URI, "data:image/png;base64," followed by its bytes in base64, or as "{ASSET}<id>" once it is '
    "uploaded; "
)
NO_SOURCE = f"{_SOURCES}addresses are not fetched here unless the operator allows their hosts with MSD_FETCH_HOSTS."
NO_SOURCE_OR_ADDRESS = f'{_SOURCES}addresses begin with "https://".'
_DATA_URI = re.compile(r"\s*data:", re.IGNORECASE)


class _CastPicture(str):
    """Stands for a picture of the cast where a request's JSON has a text."""

    kept: KeptPicture


@dataclass(frozen=True, slots=True)
class Keeps:
    """What a caller keeps here."""

    assets: AssetStore
    cast: CastStore


class PictureSources:
    """Where the pictures of one request come from.

    Attributes:
        names_kept: whether it names something that is kept elsewhere, and so may be gone when the request is sent again.
    """

    def __init__(
        self, keeps: Keeps | None = None, parts: Mapping[str, bytes] | None = None, fetched: Fetched | None = None
    ) -> None:
        """Make those of a request.

        Args:
            keeps: of the caller.
            parts: of the request's form by their names, without the request; ``None`` if it is no form.
            fetched: of its addresses; ``None`` if none is followed.
        """
        self.names_kept = False
        self._keeps = keeps
        self._parts = parts
        self._fetched = fetched
        self._assets: dict[str, Asset] = {}
        self._members: dict[str, Member] = {}
        self._used: set[str] = set()

    def find(self, text: str, use: PictureUse) -> bytes | KeptPicture:
        """The picture that a text stands for: encoded, or kept for this use.

        Raises:
            PictureError: it is nothing of the kind.
            FieldError: there is no such asset.
            UnknownUploadError: the form has no such part.
            PictureNotFetchedError, PictureTooLargeError: as ``Fetched.find``.
        """
        if isinstance(text, _CastPicture):
            return text.kept
        if text.startswith(ASSET):
            return self._asset(text.removeprefix(ASSET)).kept(use)
        if text.startswith(UPLOAD):
            return self._part(text.removeprefix(UPLOAD))
        if text.startswith(KEPT):
            return self._kept(text.removeprefix(KEPT))
        if _DATA_URI.match(text) is None:
            return self._at_address(text)
        return bytes_of_data_uri(text)

    def member(self, name: str) -> dict[str, Any]:
        """The fields of a subject of the cast, as its JSON has them.

        Raises:
            FieldError: there is no such subject.
        """
        self.names_kept = True
        if name not in self._members:
            with _as_error_of_the_request():
                if self._keeps is None:
                    raise CastNotFoundError("No cast is kept here; say what the subject is.")
                self._members[name] = self._keeps.cast.find(name)
        member = self._members[name]
        given = member.traits.model_dump(include=set(Traits.model_fields), exclude_none=True)
        return given | {"images": [_cast_picture(kept) for kept in member.kept]}

    def unused(self) -> list[UnusedUploadError]:
        """One error for each part that no picture has named so far."""
        return [
            UnusedUploadError(f'The part {name!r} is named nowhere in the request; name it as "{UPLOAD}{name}".')
            for name in self._parts or {}
            if name not in self._used
        ]

    def part_hashes(self) -> dict[str, str]:
        """SHA-256 of each part of the form, by its name."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in (self._parts or {}).items()}

    def _asset(self, asset_id: str) -> Asset:
        self.names_kept = True
        if asset_id not in self._assets:
            with _as_error_of_the_request():
                if self._keeps is None:
                    raise AssetNotFoundError("No assets are kept here; send the picture as a data URI.")
                self._assets[asset_id] = self._keeps.assets.use(asset_id)
        return self._assets[asset_id]

    def _kept(self, sha256: str) -> bytes:
        if re.fullmatch(SHA256_PATTERN, sha256) is None:
            raise PictureError(f'A SHA-256 is written as "{KEPT}" and 64 digits from 0 to f.')
        self.names_kept = True
        with _as_error_of_the_request():
            try:
                if self._keeps is not None:
                    return self._keeps.assets.pictures.load(sha256)
            except FileNotFoundError:
                pass
            raise AssetNotFoundError("No picture with this SHA-256 is kept any more; send the picture itself.")

    def _at_address(self, text: str) -> bytes:
        if self._fetched is None:
            raise PictureError(NO_SOURCE)
        if not is_address(text):
            raise PictureError(NO_SOURCE_OR_ADDRESS)
        self.names_kept = True
        return self._fetched.find(text)

    def _part(self, name: str) -> bytes:
        if self._parts is None:
            detail = "Parts are named only in a request that is sent as a form, multipart/form-data."
            raise UnknownUploadError(detail)
        if name not in self._parts:
            raise UnknownUploadError(f"The form has no part named {name!r}, or it is the request.")
        self._used.add(name)
        return self._parts[name]


def _cast_picture(kept: KeptPicture) -> _CastPicture:
    picture = _CastPicture(kept.variant.sha256)
    picture.kept = kept
    return picture


@contextmanager
def _as_error_of_the_request() -> Generator[None]:
    """Turn the error of something that is not kept into one of the field that names it."""
    try:
        yield
    except (AssetNotFoundError, CastNotFoundError) as error:
        raise FieldError(error.detail, "", error.code) from error
