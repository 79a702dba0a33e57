"""The page that shows the OpenAPI document, with a form to try it: foreign files only of one version, checked by their hashes."""

from __future__ import annotations

import base64
import hashlib
import json

from fastapi import Request
from fastapi.responses import HTMLResponse

SWAGGER_UI = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5.35.0"
# Of the files in the npm package of this version.
SCRIPT_HASH = "sha384-gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9"
STYLE_HASH = "sha384-WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
<title>MS-Diffusion service</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}/swagger-ui.css" integrity="{style_hash}" crossorigin="anonymous">
</head>
<body>
<noscript>This page needs JavaScript; the document itself is <a href={url}>here</a>.</noscript>
<p id="swagger-ui">The form needs swagger-ui from cdn.jsdelivr.net; the document itself is <a href={url}>here</a>.</p>
<script src="{base}/swagger-ui-bundle.js" integrity="{script_hash}" crossorigin="anonymous"></script>
<script>{script}</script>
</body>
</html>
"""
_SCRIPT = (
    "SwaggerUIBundle({{url: {url}, dom_id: '#swagger-ui', layout: 'BaseLayout', deepLinking: true, showExtensions: true, "
    "presets: [SwaggerUIBundle.presets.apis]}})"
)


async def docs_page(request: Request) -> HTMLResponse:
    """Make the page; nothing but the two files and its own script may run or be loaded, and nobody may frame it."""
    url = json.dumps(request.scope.get("root_path", "").rstrip("/") + "/openapi.json").replace("<", "\\u003c")
    script = _SCRIPT.format(url=url)
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src {SWAGGER_UI}/ 'sha256-{own}'; style-src {SWAGGER_UI}/ 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    page = _PAGE.format(base=SWAGGER_UI, style_hash=STYLE_HASH, script_hash=SCRIPT_HASH, script=script, url=url)
    return HTMLResponse(page, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
