"""Parts of the page that ``msd demo`` draws."""

from __future__ import annotations

from PIL import Image

from cli.demo_picture import GAP, HEADER, MARGIN, PANEL


def panel(page: Image.Image, number: int) -> Image.Image:
    """The references, the boxes or the result, by number."""
    left = MARGIN + number * (PANEL + GAP)
    return page.crop((left, HEADER, left + PANEL, HEADER + PANEL))
