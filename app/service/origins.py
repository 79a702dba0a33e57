"""Refuses requests that a foreign web page sends through its visitor's browser.

A page whose name is rebound to the service's address is refused by its ``Host``; one that posts from elsewhere, by its ``Origin``.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.service.errors import problem_response
from app.service.problems import FOREIGN_ORIGIN, MISDIRECTED

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Probes ask these by any address; they say nothing of anybody's jobs.
_PROBES = ("/livez", "/readyz")


class OriginMiddleware:
    """ASGI middleware that answers only for its own hosts, and lets only its own origins change anything."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        """Guard ``app``.

        Args:
            hosts: allowed beside the loopback names, in lower case; ``*`` for all.
            origins: allowed beside the service's own; ``*`` for all.
        """
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host and not self._is_own(host):
            name = _name_of(host)
            detail = (
                f"This service does not answer for the host {name!r}; its operator can add it to MSD_ALLOWED_HOSTS."
            )
            await problem_response(Request(scope), MISDIRECTED, detail)(scope, receive, send)
        elif scope["method"] not in _SAFE_METHODS and self._is_foreign(headers.get("origin"), host):
            detail = "Pages of other origins may change nothing here; the operator can add theirs to MSD_CORS_ORIGINS."
            await problem_response(Request(scope), FOREIGN_ORIGIN, detail)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        name = _name_of(host)
        return "*" in self._hosts or name in self._hosts or _is_loopback(name)

    def _is_foreign(self, origin: str | None, host: str) -> bool:
        """Whether a browser says that another origin's page sends this; programs say nothing."""
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return False
        return origin == "null" or urlsplit(origin).netloc.lower() != host.lower()


def _name_of(host: str) -> str:
    """The name or address in a ``Host`` header, without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
