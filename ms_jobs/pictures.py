"""The PNGs of one owner, by their SHA-256: what needs one holds it by a hard link, so that its bytes are there once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ms_core.errors import StorageError
from ms_jobs.files import holds, is_there, make_folder, read_file, remove_last_name, remove_tree, share_file, write_file
from ms_jobs.records import SHA256_PATTERN

PICTURE_SUFFIX = ".png"


class SharedPictures:
    """The folder of an owner's PNGs.

    Raises (every method):
        StorageError: the volume cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folder, if missing."""
        make_folder(self.folder)

    def save(self, holder: Path, png: bytes) -> str:
        """Store a PNG in the folder of what needs it; returns its SHA-256.

        Its bytes are shared, unless the shared name is removed at this moment: then the holder gets its own copy.

        Raises:
            FileNotFoundError: the holder's folder does not exist.
        """
        sha256 = hashlib.sha256(png).hexdigest()
        shared = self.folder / picture_name(sha256)
        if not holds(shared, png):
            # Only the holder's own name matters; the holder syncs it.
            write_file(shared, png, sync_name=False)
        share_file(shared, holder / shared.name, png)
        return sha256

    def has(self, sha256: str) -> bool:
        """Whether something holds this PNG."""
        return is_there(self.folder / picture_name(sha256))

    def load(self, sha256: str) -> bytes:
        """Read a PNG that something holds.

        Raises:
            FileNotFoundError: nothing holds it.
        """
        png = read_picture(self.folder, sha256)
        if png is None:
            raise StorageError(f"The stored picture {picture_name(sha256)} is damaged; send the picture itself.")
        return png

    def remove(self, holder: Path, tree: Path) -> None:
        """Remove a folder, ``tree``, with a holder's PNGs in it, and those PNGs that nothing else needs."""
        names = [picture.name for picture in holder.glob(f"*{PICTURE_SUFFIX}")]
        remove_tree(tree)
        for name in names:
            remove_last_name(self.folder / name)


def picture_name(sha256: str) -> str:
    """The name of a PNG's file."""
    if not re.fullmatch(SHA256_PATTERN, sha256):
        raise StorageError("A picture's name is 64 hexadecimal digits.")
    return f"{sha256}{PICTURE_SUFFIX}"


def read_picture(holder: Path, sha256: str) -> bytes | None:
    """Read a holder's PNG; ``None`` if it is damaged.

    Raises:
        FileNotFoundError: the holder does not have it.
    """
    png = read_file(holder / picture_name(sha256))
    return png if hashlib.sha256(png).hexdigest() == sha256 else None
