"""CORS for the origins of the setting: they may send any header, such as those that tracing adds; others learn nothing."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response


class MirroringCors(CORSMiddleware):
    """Starlette's CORS, whose preflights allow an allowed origin the headers that it asks for."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight; one of a foreign origin allows nothing."""
        response = super().preflight_response(request_headers)
        if not self.is_allowed_origin(request_headers["origin"]):
            for name in [name for name in response.headers if name.startswith("access-control-")]:
                del response.headers[name]
        return response
