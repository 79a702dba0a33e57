"""Encodes finished pictures as PNG, with their recipe as metadata."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

RECIPE_KEY = "msd"


def png_of(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def png_with_recipe(image: Image.Image, recipe: dict[str, Any]) -> bytes:
    """Encode a picture as PNG with its recipe as text metadata: JSON under the key ``msd``."""
    info = PngInfo()
    # ASCII JSON fits the plain text chunk, which every reader supports.
    info.add_text(RECIPE_KEY, json.dumps(recipe, ensure_ascii=True))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_recipe(png: bytes) -> dict[str, Any] | None:
    """Read the recipe that ``png_with_recipe`` wrote; ``None`` if there is none."""
    with Image.open(io.BytesIO(png)) as image:
        text = image.info.get(RECIPE_KEY)
    return None if text is None else json.loads(text)
