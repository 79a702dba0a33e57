"""Lets connections reach public addresses alone, whatever a name stands for and whenever that changes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpcore2

# For one of a host's addresses; the next may answer.
CONNECT_S = 3.0
LOOKUP_THREADS = 8

# The addresses of a host, as text.
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

# Beside those of which Python's versions all say that they are not global.
_REFUSED_4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
_GLOBAL_6 = IPv6Network("2000::/3")
# Teredo and others for special use, of which newer Pythons take some for global; documentation; 6to4.
_REFUSED_6 = tuple(map(IPv6Network, ("2001::/23", "3fff::/20", "2002::/16")))
# The last 32 bits are an IPv4 address. Networks without IPv4 reach all others by it.
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


class RefusedError(Exception):
    """A connection that is not made; says why for the log, never for the client."""


def is_public(address: str) -> bool:
    """Whether an address, in its canonical text, is one of the internet's hosts, and hides no other address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return _is_public_4(parsed) if isinstance(parsed, IPv4Address) else _is_public_6(parsed)


def _is_public_4(address: IPv4Address) -> bool:
    is_special = address.is_multicast or address.is_reserved or any(address in network for network in _REFUSED_4)
    return address.is_global and not is_special


def _is_public_6(address: IPv6Address) -> bool:
    if address in _NAT64:
        return _is_public_4(IPv4Address(int(address) & 0xFFFFFFFF))
    # This leaves out loopback, link-local, private, multicast and IPv4-mapped ones, and NAT64 for local use.
    is_special = address not in _GLOBAL_6 or any(address in network for network in _REFUSED_6)
    is_tunnel = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    return address.is_global and not is_special and not is_tunnel and address.scope_id is None


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to hosts that have only public addresses, each looked up once."""

    def __init__(self, lookup: Lookup, network: httpcore2.AsyncNetworkBackend) -> None:
        self._lookup = lookup
        self._network = network
        self._pinned: dict[str, Sequence[str]] = {}
        self._streams: list[httpcore2.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of a host's addresses.

        Raises:
            OSError: the name is not known.
            RefusedError: one of its addresses is not public, or another one answers.
            httpcore2.ConnectError: none answers.
        """
        for address in await self._addresses(host, port):
            try:
                stream = await self._network.connect_tcp(address, port, CONNECT_S, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
            self._streams.append(stream)
            peer = str(stream.get_extra_info("server_addr")[0])
            if peer != address or not is_public(peer):
                raise RefusedError(f"connected to {peer}, not to {address}")
            return stream
        raise httpcore2.ConnectError("no address answers")

    async def aclose(self) -> None:
        """Close all connections; httpcore2 leaves one open whose TLS handshake is cut short."""
        for stream in self._streams:
            await stream.aclose()

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        if host not in self._pinned:
            found = tuple(dict.fromkeys(await self._lookup(host, port)))
            if not found or not all(map(is_public, found)):
                raise RefusedError(f"addresses {', '.join(found) or 'missing'}")
            self._pinned[host] = found
        return self._pinned[host]


class SystemLookup:
    """Looks names up as this machine does, in threads of its own: name servers of others may be slow."""

    def __init__(self) -> None:
        """Start no thread before the first name."""
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host; ``OSError`` if it has none."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, _addresses_of, host, port)

    def close(self) -> None:
        """Look up no further name."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _addresses_of(host: str, port: int) -> list[str]:
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
