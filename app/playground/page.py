"""Serves the built files of the playground, which ``scripts/make-playground`` makes."""

from __future__ import annotations

from pathlib import Path

from fastapi import HTTPException, Request, Response

from app.service.installed_files import installed_file

BUILT = Path(__file__).parent / "built"
PARTS = frozenset(path.name for path in (BUILT / "app").iterdir())

# The system's table of types may know none of these.
_TYPES = {".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(request: Request) -> Response:
    """Serve the page; nothing but the API's own files may run or be loaded, and nobody may frame it."""
    # The names of its parts change with their content, its own does not.
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return installed_file(request, BUILT / "index.html", "text/html", headers)


def part(request: Request, name: str) -> Response:
    """Serve a part of the page."""
    if name not in PARTS:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return installed_file(request, BUILT / "app" / name, _TYPES[Path(name).suffix], headers)
