"""Pictures that a visitor brings along."""

from __future__ import annotations

import json
import zipfile
from functools import cache

from playwright.sync_api import FilePayload

from tests.support.paths import ASSETS


@cache
def _names() -> dict[str, str]:
    """Files of the held-out pack by the phrases of their pictures, of its first artist."""
    with zipfile.ZipFile(ASSETS / "heldout-sprites.zip") as pack:
        index = json.loads(pack.read("index.json"))
    return {sprite["phrase"]: f"{number:05}.png" for number, sprite in reversed(list(enumerate(index)))}


def own_picture(phrase: str) -> FilePayload:
    """A picture of what the phrase says, whose file bears that name."""
    with zipfile.ZipFile(ASSETS / "heldout-sprites.zip") as pack:
        return {
            "name": f"{phrase.replace(' ', '-')}.png",
            "mimeType": "image/png",
            "buffer": pack.read(_names()[phrase]),
        }
