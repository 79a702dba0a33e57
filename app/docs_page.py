"""The page that shows the OpenAPI document, with a form to try it; swagger-ui comes from this server."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import as_file, files

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from app.service.installed_files import installed_file

UI_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
<title>MS-Diffusion service</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}/swagger-ui.css">
</head>
<body>
<noscript>This page needs JavaScript; the document itself is <a href="{link}">here</a>.</noscript>
<p id="swagger-ui">Reading the document; it is <a href="{link}">here</a>.</p>
<script src="{base}/swagger-ui-bundle.js"></script>
<script>{script}</script>
</body>
</html>
"""
_SCRIPT = (
    "SwaggerUIBundle({{url: {url}, dom_id: '#swagger-ui', layout: 'BaseLayout', deepLinking: true, showExtensions: true, "
    "presets: [SwaggerUIBundle.presets.apis]}})"
)


async def docs_page(request: Request) -> HTMLResponse:
    """Make the page; nothing but the API's own files and this script may run or be loaded, and nobody may frame it."""
    root = request.scope.get("root_path", "").rstrip("/")
    url = json.dumps(f"{root}/openapi.json").replace("<", "\\u003c")
    script = _SCRIPT.format(url=url)
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'self' 'sha256-{own}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    page = _PAGE.format(base=html.escape(f"{root}/docs"), script=script, link=html.escape(f"{root}/openapi.json"))
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


def ui_file(request: Request, name: str) -> Response:
    """Serve a file of swagger-ui."""
    if name not in UI_FILES:
        raise HTTPException(404)
    with as_file(files("fastapi_swagger.resources") / name) as path:
        return installed_file(request, path, UI_FILES[name], {})
