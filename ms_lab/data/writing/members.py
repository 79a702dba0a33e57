"""Files of the tars that parts and shards are."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from ms_core.errors import CheckpointError


class PartError(CheckpointError):
    """A part is damaged; without it its clip is made again."""

    code = "part_damaged"


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file that has no time, owner or rights of its own, so that equal contents give equal bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))


def read_members(path: Path, start: int = 0, end: int | None = None) -> dict[str, bytes]:
    """All files of a tar by name, or those between two of its bytes; without OpenCV, for trainers on other machines.

    Raises:
        PartError: it is damaged.
    """
    found: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            file.seek(start)
            part = file if end is None else io.BytesIO(file.read(end - start))
            with tarfile.open(fileobj=part) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    found[member.name] = content.read() if content is not None else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PartError(f"The archive {path.name} is damaged.") from error
    return found
