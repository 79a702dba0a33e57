"""What the OpenAPI document says of keys."""

from __future__ import annotations

from typing import Any

from app.auth.authenticator import COOKIE

SECURITY_SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `msd keys create`, where the service asks for one.",
    },
    "keyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in another header.",
    },
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The cookie of `POST /session`."},
}

# One of them, or none where the service asks for no key.
SECURITY: list[dict[str, list[str]]] = [*({name: []} for name in SECURITY_SCHEMES), {}]
