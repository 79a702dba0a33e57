"""By what address clients reach the API: the one that its operator names, or below the prefix that a proxy removed."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request
from starlette.types import Scope


def service_url(request: Request) -> str:
    """Get what stands before the paths of the service: ``MSD_PUBLIC_URL``, else the prefix that a proxy removed."""
    return request.state.settings.public_url or request.scope.get("root_path", "")


def is_own_page(request: Request) -> bool:
    """Whether a request comes from a page of this service, or from no page."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    # With what a page merely shows, such as a picture, browsers send no Origin, but this.
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    if origin is None:
        return True
    # A proxy may write another host than the one that browsers see.
    own = {host.lower(), urlsplit(request.state.settings.public_url).netloc.lower()} - {""}
    return urlsplit(origin).netloc.lower() in own


def cookie_path(request: Request) -> str:
    """Get the path below which a browser sends the service's cookie."""
    return urlsplit(service_url(request)).path or "/"


def inner_path(scope: Scope) -> str:
    """Get the path of a request below the prefix that a proxy removed."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def is_https(request: Request) -> bool:
    """Whether browsers reach the service by TLS, as far as it is known."""
    return request.url.scheme == "https" or service_url(request).startswith("https:")
