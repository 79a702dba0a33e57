"""Pictures that are kept to be named in requests, of assets and of the cast: read by the head of their PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ms_core.errors import StorageError
from ms_core.spec.picture_notes import restore_notes
from ms_jobs.files import read_file
from ms_jobs.records import FrozenModel, Sha256

GONE_JUST_NOW = "A picture that the request names was erased just now, or is damaged; send the request again."
# The head of a PNG as we write it, with the size and kind of its pixels.
_HEAD_BYTES = 1024


class Variant(FrozenModel):
    """A picture as one use needs it.

    Attributes:
        width, height: in pixels.
        notes: as ``ms_core.spec.picture_notes.dump_notes`` makes them.
    """

    sha256: Sha256
    width: int
    height: int
    notes: dict[str, Any] = {}


class KeptPicture(NamedTuple):
    """A PNG that lies on the volume, and what is known of it."""

    path: Path
    variant: Variant

    def load(self) -> Image.Image:
        """The whole picture, whose pixels are decoded when they are first needed; errors as ``open``."""
        return self._open(-1)

    def open(self) -> Image.Image:
        """The picture by its head: its size, kind and notes, but no pixels.

        Raises:
            StorageError: it was erased meanwhile, or is damaged.
        """
        return self._open(_HEAD_BYTES)

    def _open(self, most_bytes: int) -> Image.Image:
        try:
            picture = Image.open(io.BytesIO(read_file(self.path, most_bytes)), formats=("PNG",))
            restore_notes(picture, self.variant.notes)
        except StorageError:
            raise
        except Exception as error:  # whatever a damaged file makes Pillow raise
            raise StorageError(GONE_JUST_NOW) from error
        return picture
