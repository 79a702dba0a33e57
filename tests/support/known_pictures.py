"""Pictures of a request by their SHA-256, without a store."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from ms_core.spec.pictures import PictureUse


class KnownPictures:
    """As ``ms_core.spec.Pictures``: the pictures of these PNGs."""

    def __init__(self, *pngs: bytes) -> None:
        self.pngs = {hashlib.sha256(png).hexdigest(): png for png in pngs}
        self.opened = {name: Image.open(io.BytesIO(png)) for name, png in self.pngs.items()}

    def read(self, text: str, use: PictureUse) -> Image.Image:
        return self.opened[text]

    def name(self, picture: Image.Image) -> str:
        return next(name for name, known in self.opened.items() if known is picture)
