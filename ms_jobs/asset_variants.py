"""An asset: one picture, in a variant for each use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ms_core.errors import AssetNotFoundError
from ms_core.spec.pictures import PictureUse
from ms_jobs.kept_pictures import KeptPicture, Variant
from ms_jobs.pictures import picture_name

USES: tuple[PictureUse, ...] = get_args(PictureUse)


class NewVariant(NamedTuple):
    """A variant to be stored, and what ``Variant`` says of it."""

    png: bytes
    width: int
    height: int
    notes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asset:
    """A stored picture.

    Attributes:
        created_at, expires_at: Unix seconds.
        has_alpha: parts of it are transparent.
        variants: one for each use; most pictures have the same for all.
    """

    id: str
    created_at: float
    expires_at: float
    has_alpha: bool
    variants: Mapping[str, Variant]
    _folder: Path = field(repr=False)

    def kept(self, use: PictureUse) -> KeptPicture:
        """A variant on the volume."""
        variant = self.variants[use]
        return KeptPicture(self._folder / picture_name(variant.sha256), variant)


def id_of(variants: Mapping[str, Variant]) -> str:
    """The beginning of the picture's SHA-256; where its variants differ, of one of them all."""
    names = [variants[use].sha256 for use in USES]
    whole = names[0] if len(set(names)) == 1 else hashlib.sha256(" ".join(names).encode()).hexdigest()
    return whole[:32]


def asset_not_found() -> AssetNotFoundError:
    """Make the error of an asset that is not there."""
    return AssetNotFoundError("There is no asset with this id, or no longer; upload the picture again.")
