"""A server on loopback with a certificate, which answers with whatever a test says, and the network on which it seems public."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpcore2
import trustme

from app.requests.fetching import Network

PUBLIC = "93.184.216.34"
NAMES = ("pictures.example", "other.example", "deep.pictures.example")

# A whole answer, or what sends one.
Answer = bytes | Callable[[ssl.SSLSocket], None]


def answer(content: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """An answer that closes its connection; headers are named with ``_`` for ``-``."""
    given = {"content-length": str(len(content)), "connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content


def redirect(to: str) -> bytes:
    return answer(status="302 Found", location=to)


def endless(start: bytes, more: bytes, pause_s: float = 0.0) -> Callable[[ssl.SSLSocket], None]:
    """Sends the same again and again, until the other side leaves."""

    def send(connection: ssl.SSLSocket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(more)
            threading.Event().wait(pause_s)

    return send


class HostileServer:
    """Answers by path.

    Attributes:
        answers: by path.
        asked: the paths that were asked for.
    """

    def __init__(self, authority: trustme.CA) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*NAMES).configure_cert(self._context)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    @contextmanager
    def running(self) -> Iterator[HostileServer]:
        threading.Thread(target=self._accept, daemon=True).start()
        with closing(self._listening):
            yield self

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secured:
            secured.settimeout(5)
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += secured.recv(4096)
            path = asked.split(b" ", 2)[1].decode()
            self.asked.append(path)
            given = self.answers.get(path, answer(status="404 Not Found"))
            given(secured) if callable(given) else secured.sendall(given)


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection whose peer has another address."""

    def __init__(self, stream: Any, peer: str) -> None:
        self._stream = stream
        self._peer = peer

    def __getattribute__(self, name: str) -> Any:
        if name in ("_stream", "_peer", "get_extra_info"):
            return object.__getattribute__(self, name)
        return getattr(self._stream, name)

    def get_extra_info(self, info: str) -> Any:
        return (self._peer, 443) if info == "server_addr" else self._stream.get_extra_info(info)


@dataclass
class PublicLoopback(httpcore2.AsyncNetworkBackend):
    """Leads every connection to a server on loopback, which has the address that was asked for, or one of ``peers``.

    Attributes:
        silent: addresses that refuse connections.
        connected: the addresses and ports that were asked for.
    """

    server_port: int
    peers: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    connected: list[tuple[str, int]] = field(default_factory=list)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self.silent:
            raise httpcore2.ConnectError("refused")
        stream = await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", self.server_port)
        return _Stream(stream, self.peers.get(host, host))


@dataclass
class Lookups:
    """A name server: answers of a host one after the other, the last for ever.

    Attributes:
        asked: the hosts that were looked up.
    """

    answers: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        known = self.answers.get(host, [[PUBLIC]])
        return known.pop(0) if len(known) > 1 else known[0]


@dataclass
class World:
    """All that a test may change of what lies beyond the service."""

    server: HostileServer
    backend: PublicLoopback
    lookups: Lookups
    network: Network


@contextmanager
def world(authority: trustme.CA) -> Iterator[World]:
    """A server, trusted, with a network in which all names lead to it."""
    with HostileServer(authority).running() as server:
        backend, lookups = PublicLoopback(server.port), Lookups()
        network = Network(lookups, backend)
        network.certificates = ssl.create_default_context()
        authority.configure_trust(network.certificates)
        yield World(server, backend, lookups, network)
