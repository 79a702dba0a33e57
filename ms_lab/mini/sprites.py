"""Sprite packs: small cut-out pictures of things, each with its artist, name and concept.

A pack is one zip file: ``index.json`` with a row for each sprite, and ``NNNNN.png`` in the order of the rows.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from ms_core.errors import ModelNotFoundError
from ms_lab.data.writing.files import new_file


@dataclass(frozen=True, slots=True)
class Sprite:
    """Where one sprite comes from.

    Attributes:
        artist: the set it belongs to, such as ``twemoji``.
        name: its name in that set.
        concept: what it shows: an emoji's lower-case hexadecimal code points, joined by "-"; else a name with ":".
        phrase: the words that name it in a caption.
        sha256: of the SVG source text or the picture's file, hexadecimal.
        licence: SPDX name, or ``LicenseRef-`` and a name of our own.
    """

    artist: str
    name: str
    concept: str
    phrase: str
    sha256: str
    licence: str


class SpritePack:
    """Sprites with their pictures (RGBA, square), in memory.

    Attributes:
        sprites: one row for each picture.
        pictures: RGBA, all of the same side.
        by_concept: indexes of the sprites of each concept, one for each artist who drew it.
    """

    def __init__(self, sprites: Sequence[Sprite], pictures: Sequence[Image.Image]) -> None:
        self.sprites = tuple(sprites)
        self.pictures = tuple(pictures)
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for index, sprite in enumerate(self.sprites):
            groups[sprite.concept].append(index)
        self.by_concept = {concept: tuple(indexes) for concept, indexes in groups.items()}

    def __len__(self) -> int:
        return len(self.sprites)

    def subset(self, keep: Sequence[int]) -> SpritePack:
        """The pack of the sprites at these indexes."""
        return SpritePack([self.sprites[index] for index in keep], [self.pictures[index] for index in keep])

    def save(self, path: Path) -> None:
        """Write the pack as one zip file, whole or not at all."""
        with new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            rows = [asdict(sprite) for sprite in self.sprites]
            archive.writestr(_stamp("index.json"), json.dumps(rows, indent=0))
            for index, picture in enumerate(self.pictures):
                buffer = io.BytesIO()
                picture.save(buffer, "PNG", optimize=True)
                archive.writestr(_stamp(f"{index:05d}.png"), buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> SpritePack:
        """Read a pack.

        Raises:
            ModelNotFoundError: there is no such file.
        """
        if not path.is_file():
            raise ModelNotFoundError(f"There is no sprite pack {path.name}; docs/mini.md tells how to make one.")
        with zipfile.ZipFile(path) as archive:
            sprites = [Sprite(**row) for row in json.loads(archive.read("index.json"))]
            pictures = [
                Image.open(io.BytesIO(archive.read(f"{index:05d}.png"))).convert("RGBA")
                for index in range(len(sprites))
            ]
        return cls(sprites, pictures)


def _stamp(name: str) -> zipfile.ZipInfo:
    """An archive entry with a fixed date, so that the same sprites give the same bytes."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
