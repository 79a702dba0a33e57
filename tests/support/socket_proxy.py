"""A proxy before a Redis or a service, for faults of the net: it cuts, refuses, swallows, and passes again."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

CHUNK = 1 << 16
# Closes with a reset, as a host that lost all memory of the connection.
RESET = struct.pack("ii", 1, 0)


class SocketProxy:
    """Listens on a port of the loopback address and passes everything on to a unix socket, or to another port.

    While it swallows, connections are taken and stay open, and nothing gets through in either direction. What was sent
    meanwhile gets through afterwards, as a network sends lost packets again: even when the sender gave up long ago.
    """

    def __init__(self, target: Path | int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._passes = threading.Event()
        self._passes.set()
        self._refuses = False
        self._pairs: set[_Pair] = set()
        self._trap: tuple[bytes, Literal["request", "reply"]] | None = None
        self.tripped = threading.Event()
        self._listener = self._listen(0)
        self._port = self._listener.getsockname()[1]
        self._accept_in_thread()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        with self._lock:
            self._refuses = True
            self._close_listener()
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.reset()

    def swallow(self) -> None:
        """Let nothing through and say nothing."""
        self._passes.clear()

    def heal(self) -> None:
        """Pass everything on again."""
        with self._lock:
            self._trap = None
            if self._refuses:
                self._refuses = False
                self._listener = self._listen(self._port)
                self._accept_in_thread()
        self._passes.set()

    def cut_at(self, text: bytes, lose: Literal["request", "reply"]) -> None:
        """Cut when a client sends ``text``: before that gets through, or when it did and the reply is on its way."""
        self.tripped.clear()
        self._trap = (text, lose)

    def stop(self) -> None:
        self.cut()
        self._passes.set()

    def _listen(self, port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port), backlog=128)

    def _close_listener(self) -> None:
        # Wakes the thread that accepts, which a close alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept_in_thread(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            to_port = isinstance(self._target, int)
            upstream = socket.socket(socket.AF_INET if to_port else socket.AF_UNIX)
            pair = _Pair(client, upstream)
            try:
                upstream.connect(("127.0.0.1", self._target) if to_port else str(self._target))
            except OSError:
                pair.reset()
                continue
            with self._lock:
                if self._refuses:
                    pair.reset()
                    continue
                self._pairs.add(pair)
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=(pair, source, sink), daemon=True).start()

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                self._passes.wait()
                if sink is pair.upstream and self._springs(pair, data):
                    return
                if source is pair.upstream and pair.loses_reply:
                    self.cut()
                    self.tripped.set()
                    return
                sink.sendall(data)
            # The other direction may still have something to say.
            self._passes.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pair.reset()
        finally:
            if pair.half_ended():
                with self._lock:
                    self._pairs.discard(pair)
                pair.close()

    def _springs(self, pair: _Pair, data: bytes) -> bool:
        """Whether the trap is set for what the client sends, and the connection is cut before that gets through."""
        with self._lock:
            trap = self._trap
            if trap is None or trap[0] not in data:
                return False
            self._trap = None
        if trap[1] == "reply":
            pair.loses_reply = True
            return False
        self.cut()
        self.tripped.set()
        return True


class _Pair:
    """The two connections of one client."""

    def __init__(self, client: socket.socket, upstream: socket.socket) -> None:
        self.client = client
        self.upstream = upstream
        self.loses_reply = False
        self._lock = threading.Lock()
        self._ends = 0

    def half_ended(self) -> bool:
        """Note the end of one direction; whether both have ended."""
        with self._lock:
            self._ends += 1
            return self._ends == 2

    def reset(self) -> None:
        with suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        # Wakes the threads that read, which a close alone does not; in one direction only, for a reset must come first.
        for end in (self.client, self.upstream):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)
        self.close()

    def close(self) -> None:
        self.client.close()
        self.upstream.close()
