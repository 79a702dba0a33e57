"""Fetches the pictures that a request names by address."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast
from urllib.parse import urljoin

import httpcore2

from app.config import Settings
from app.requests.addresses import Address, AllowedHosts
from app.requests.guard import GuardedBackend, Lookup, RefusedError, SystemLookup
from app.service.errors import HTTPProblem
from app.service.problems import TOO_MANY_UPLOADS
from app.service.shares import Shares
from ms_core.errors import InvalidInputError, PictureNotFetchedError, PictureTooLargeError

log = logging.getLogger(__name__)

MAX_REDIRECTS = 3
# Connections of a request, and requests of this process that fetch, at a time.
CONNECTIONS = 4
MOST_REQUESTS = 32
# The same words for a server that must not be reached as for one that does not answer: strangers learn nothing of this network.
NOT_FETCHED = (
    "The picture could not be fetched from its address; check that anybody can open it in a browser, or send the picture itself "
    "as a data URI."
)
_REDIRECTS = (301, 302, 303, 307, 308)
_OK = 200
_HEADERS = (
    (b"Accept", b"image/png, image/jpeg, image/webp"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"msd"),
)

# Counts bytes that arrived; raises if they are too many.
Count = Callable[[int], None]


class Fetched:
    """The pictures by address of one request.

    Attributes:
        wanted: those that were looked for and are not there, by the text of the request.
    """

    def __init__(self, allowed: AllowedHosts) -> None:
        self.wanted: dict[str, Address] = {}
        self._allowed = allowed
        self._found: dict[str, bytes | InvalidInputError] = {}

    def find(self, text: str) -> bytes:
        """The encoded picture at an address.

        Raises:
            PictureError: nothing is fetched from it.
            PictureNotFetchedError: it could not be fetched, or was not yet.
            PictureTooLargeError: it is too long.
        """
        found = self._found.get(text)
        if found is None:
            self.wanted[text] = self._allowed.check(text)
            raise PictureNotFetchedError(NOT_FETCHED)
        if isinstance(found, InvalidInputError):
            # A request may name it several times, each with a pointer.
            raise found.below("")
        return found

    def keep(self, text: str, found: bytes | InvalidInputError) -> None:
        """Keep a picture, or why there is none."""
        self._found[text] = found
        self.wanted.pop(text, None)


def _sockets() -> httpcore2.AsyncNetworkBackend:
    # To type checkers it is something else without anyio, which is always there.
    return cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())


@dataclass
class Network:
    """How the world is reached; in tests otherwise."""

    lookup: Lookup
    backend: httpcore2.AsyncNetworkBackend = field(default_factory=_sockets)

    @cached_property
    def certificates(self) -> ssl.SSLContext:
        """Read when the first picture is fetched, which takes a while."""
        return httpcore2.default_ssl_context()


class Fetcher:
    """Fetches for the requests of one process.

    Attributes:
        network: by which it does.
    """

    def __init__(self, settings: Settings) -> None:
        self._allowed = AllowedHosts(settings.fetch_hosts)
        self._timeout_s = settings.fetch_timeout_s
        self._lookup = SystemLookup()
        self._running = Shares(MOST_REQUESTS, by_owner=settings.auth == "on")
        self.network = Network(self._lookup)

    def of_request(self) -> Fetched | None:
        """Nothing fetched so far; ``None`` if nothing may be."""
        return Fetched(self._allowed) if self._allowed else None

    async def fetch(self, fetched: Fetched, owner: str, count: Count) -> None:
        """Fetch all pictures that are wanted; what is wrong with one is found where it is read.

        Raises:
            HTTPProblem: too many requests do so, of all or of this owner.
        """
        if not self._running.has(owner):
            detail = "Too many requests fetch pictures at the moment; try again in a few seconds."
            raise HTTPProblem(TOO_MANY_UPLOADS, detail)
        self._running.take(owner)
        until = asyncio.get_running_loop().time() + self._timeout_s
        places = asyncio.Semaphore(CONNECTIONS)

        async def settle(text: str, address: Address) -> None:
            try:
                async with asyncio.timeout_at(until), places:
                    fetched.keep(text, await self._get(address, count))
            except PictureTooLargeError as error:
                fetched.keep(text, error)
            except HTTPProblem:
                raise
            except Exception as error:  # whatever a stranger's server provokes
                reason = f"{type(error).__name__}: {error}"[:200]
                log.info("picture not fetched", extra={"host": address.place, "reason": reason})
                fetched.keep(text, PictureNotFetchedError(NOT_FETCHED))

        tasks = [asyncio.ensure_future(settle(*wanted)) for wanted in fetched.wanted.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            self._running.give_back(owner)
            for task in tasks:
                task.cancel()

    async def _get(self, address: Address, count: Count) -> bytes:
        """The content at an address; any exception if there is none."""
        backend = GuardedBackend(self.network.lookup, self.network.backend)
        pool = httpcore2.AsyncConnectionPool(self.network.certificates, network_backend=backend)
        async with aclosing(backend), pool:
            for _ in range(MAX_REDIRECTS + 1):
                url = httpcore2.URL(scheme="https", host=address.host, port=address.port, target=address.target)
                async with pool.stream("GET", url, headers=_HEADERS) as response:
                    if response.status not in _REDIRECTS:
                        return await _content(response, count)
                    location = _header(response, b"location").decode("utf-8", "replace")
                address = self._allowed.check(urljoin(str(address), location))
        raise RefusedError("too many redirects")

    def close(self) -> None:
        """Fetch nothing further."""
        self._lookup.close()


async def _content(response: httpcore2.Response, count: Count) -> bytes:
    if response.status != _OK:
        raise RefusedError(f"status {response.status}")
    # Not asked for; unpacked, it may be of any length.
    if _header(response, b"content-encoding").lower() not in (b"", b"identity"):
        raise RefusedError("compressed")
    content = bytearray()
    async for chunk in response.aiter_stream():
        count(len(chunk))
        content += chunk
    return bytes(content)


def _header(response: httpcore2.Response, name: bytes) -> bytes:
    return b", ".join(value for known, value in response.headers if known.lower() == name)
