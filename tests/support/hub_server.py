"""A model hub on this machine: enough of the real one's HTTP for fetching models, and a log of what was asked.

Small files are served by the hub itself; big ones are redirected to another host, as the real hub does, which knows ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from tests.support.paths import GOLDEN

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
VAE = "madebyollin/sdxl-vae-fp16-fix"
IMAGE_ENCODER = "h94/IP-Adapter"
WHOLE_CLIP = "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"
ADAPTER = "doge1516/MS-Diffusion"

# What git holds itself, the hub serves itself.
_BIG = (".safetensors", ".bin")
_PIECE_BYTES = 32 * 1024

Files = Mapping[str, bytes]


@dataclass(slots=True)
class Request:
    """One request as it is answered; ``sent`` counts the body's bytes that go out."""

    method: str
    path: str
    range: str | None
    token: str | None
    status: int
    sent: int


@dataclass(slots=True)
class Hub:
    """What the server holds, how it misbehaves, and what it was asked.

    Attributes:
        commits: files of each repository by commit.
        names: branches and tags of each repository.
        refusals: status and X-Error-Code of repositories that are not shown.
        bytes_per_second: of each transfer of a big file; ``None`` for as fast as it goes.
        broken_off: bytes after which the next transfer of a big file breaks off; used up by it.
        tells_length: whether the size of a big file is told beforehand; if not, the connection's end is the file's.
        knows_ranges: whether parts of big files can be asked for.
        altered: big files, by their path, that arrive other than they were published.
        log: of all requests, in the order in which they began; each stands there before its answer can be read.
    """

    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    bytes_per_second: int | None = None
    broken_off: int | None = None
    tells_length: bool = True
    knows_ranges: bool = True
    altered: set[str] = field(default_factory=set)
    log: list[Request] = field(default_factory=list)

    def publish(self, repository: str, files: Files, name: str = "main") -> str:
        """Put a commit into a repository, let ``name`` mean it, and return it."""
        commit = hashlib.sha1(repr(sorted((path, _sha256(data)) for path, data in files.items())).encode()).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        self.names.setdefault(repository, {})[name] = commit
        return commit

    def transfers(self, path: str) -> list[Request]:
        """Transfers of a big file, whole or in part."""
        digests = {
            _sha256(files[path]) for commits in self.commits.values() for files in commits.values() if path in files
        }
        return [request for request in self.log if request.path.removeprefix("/cdn/") in digests]


class HubServer:
    """Serves a ``Hub`` while the ``with`` block runs."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._server = _Server(hub)

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT; big files come from another name of the same machine."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def use_hub(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process ask a hub and keep its cache below ``home``, as HF_ENDPOINT and HF_HOME would at its start."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    # httpx would ask a proxy of the environment for this machine, too.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def golden_hub() -> Hub:
    """The tiny golden model under the real names of repositories and files."""
    base = _folder(GOLDEN / "tiny-sdxl")
    weights = re.compile(r"^(unet|text_encoder\w*)/(.*)\.safetensors$")
    named = {weights.sub(r"\1/\2.fp16.safetensors", path): data for path, data in base.items()}
    encoder = _folder(GOLDEN / "image_encoder")
    hub = Hub()
    hub.publish(
        BASE,
        {
            **named,
            "LICENSE.md": b"the licence of the base\n",
            "README.md": b"not needed\n",
            "unet/diffusion_pytorch_model.safetensors": b"full precision, not needed",
        },
    )
    hub.publish(VAE, {path.removeprefix("vae/"): data for path, data in base.items() if path.startswith("vae/")})
    hub.publish(
        IMAGE_ENCODER,
        {f"sdxl_models/image_encoder/{name}": encoder[name] for name in ("config.json", "model.safetensors")},
    )
    hub.publish(ADAPTER, {"ms_adapter.bin": (GOLDEN / "ms_adapter.bin").read_bytes(), "README.md": b"not needed\n"})
    return hub


def _folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_big(path: str) -> bool:
    return path.endswith(_BIG)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr; ``Hub.log`` tells."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/cdn/"):
            self._send_big(path.removeprefix("/cdn/"))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._send_info(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._send_file(*match.groups())
        else:
            self._send(404)

    def _find(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """Commit and files of a revision; otherwise the refusal is sent."""
        hub = self.server.hub
        if repository in hub.refusals or repository not in hub.commits:
            status, code = hub.refusals.get(repository, (401, "RepoNotFound"))
            self._send(status, {"X-Error-Code": code}, b'{"error": "refused"}')
            return None
        commit = hub.names[repository].get(revision, revision)
        if commit not in hub.commits[repository]:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, hub.commits[repository][commit]

    def _send_info(self, repository: str, revision: str) -> None:
        found = self._find(repository, revision)
        if found is None:
            return
        commit, files = found
        siblings = [_sibling(path, data) for path, data in files.items()]
        info = {"id": repository, "modelId": repository, "sha": commit, "private": False, "siblings": siblings}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _send_file(self, repository: str, revision: str, path: str) -> None:
        found = self._find(repository, revision)
        if found is None:
            return
        commit, files = found
        if path not in files:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data = files[path]
        if not _is_big(path):
            self._send(200, {"ETag": f'"{_blob_id(data)}"', "X-Repo-Commit": commit}, data)
            return
        digest = _sha256(data)
        headers = {
            "Location": f"http://localhost:{self.server.server_port}/cdn/{digest}",
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(data)),
        }
        self._send(302, headers)

    def _send_big(self, digest: str) -> None:
        hub = self.server.hub
        path, data = next(
            (path, data)
            for commits in hub.commits.values()
            for files in commits.values()
            for path, data in files.items()
            if _sha256(data) == digest
        )
        if path in hub.altered:
            data = bytes(len(data))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or not hub.knows_ranges:
            self._send(200, {"Accept-Ranges": "bytes"}, data)
            return
        start = int(asked[1])
        if start >= len(data):
            self._send(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        self._send(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])

    def _send(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        is_told = self.server.hub.tells_length or not self.path.startswith("/cdn/")
        length = {"Content-Length": str(len(body))} if is_told else {"Connection": "close"}
        for name, value in {**(headers or {}), **length}.items():
            self.send_header(name, value)
        token, asked = self.headers.get("Authorization"), self.headers.get("Range")
        path = unquote(urlsplit(self.path).path)
        request = Request(self.command, path, asked, token, status, sent=0)
        self.server.hub.log.append(request)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body, request)

    def _send_body(self, body: bytes, request: Request) -> None:
        """Send a body piece by piece, counting before each piece, for its reader may be quicker than this thread."""
        hub, is_big = self.server.hub, self.path.startswith("/cdn/")
        limit, hub.broken_off = (hub.broken_off, None) if is_big else (None, hub.broken_off)
        for start in range(0, len(body), _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            request.sent = start + len(piece)
            try:
                if limit is not None and start >= limit:
                    raise BrokenPipeError
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                request.sent = start
                return
            if is_big and hub.bytes_per_second is not None:
                time.sleep(len(piece) / hub.bytes_per_second)


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _blob_id(data)}
    if _is_big(path):
        entry["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}
    return entry
