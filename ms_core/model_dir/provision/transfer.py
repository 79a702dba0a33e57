"""One big file over HTTP, going on where an earlier transfer ended, even one that was killed.

``huggingface_hub`` 2.4 cannot: it writes each attempt to a new file, over HTTP and with Xet alike.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedRandom
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (
    build_hf_headers,  # pyright: ignore[reportUnknownVariableType] - the library leaves a dict's parameters open
    hf_raise_for_status,
)

from ms_core.errors import DownloadError

# Answers that may be better a moment later.
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

OnBytes = Callable[[int], None]

# Small enough for a lively progress bar, and so that little is lost when the process is killed.
_CHUNK_BYTES = 256 * 1024
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Blob:
    """A file by its content.

    Attributes:
        name: for sentences to the user.
        url: answers GET with the content, and with parts of it when asked with Range.
        size: in bytes.
        sha256: of the content, hexadecimal.
    """

    name: str
    url: str
    size: int
    sha256: str


def partial_path(whole: Path) -> Path:
    """Where a file lies until it is whole; the name by which the cache's own tools know a broken-off transfer."""
    return whole.with_name(f"{whole.name}.incomplete")


def fetch_blob(blob: Blob, whole: Path, on_bytes: OnBytes) -> None:
    """Fetch a file to ``whole``, where it appears only when it is complete and has the right SHA-256.

    Args:
        blob: to fetch.
        whole: path of the result; what came of it so far lies beside it.
        on_bytes: told how many bytes came; a negative number when the transfer starts over.

    Raises:
        DownloadError: what came is not what was published, or another process is fetching it.
        HfHubHTTPError, httpx2.TransportError, OSError: the server refuses, the connection stays broken, or the disk
            fails; what came before stays for the next time.
    """
    partial = partial_path(whole)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with _locked(partial, blob.name) as content:
        # What was left of an earlier transfer may be wrong: then once more, from the first byte.
        for resumed in (True, False):
            if not resumed or os.fstat(content.fileno()).st_size > blob.size:
                content.truncate(0)
            if _complete(blob, content, on_bytes) == blob.sha256:
                os.replace(partial, whole)
                return
            on_bytes(-content.seek(0, os.SEEK_END))
        partial.unlink()
    raise DownloadError(
        f"{blob.name} did not arrive as it was published (its SHA-256 differs). Run the same command again; if that "
        "does not help, check the proxy or the mirror in between."
    )


def _complete(blob: Blob, content: BufferedRandom, on_bytes: OnBytes) -> str:
    """Fetch what is missing; a broken connection is taken up again. Returns the SHA-256 of the whole.

    It is empty where the server has less than was published.
    """
    failures = 0
    while True:
        before = content.seek(0, os.SEEK_END)
        try:
            if before < blob.size:
                _stream(blob, content, on_bytes)
            if content.seek(0, os.SEEK_END) < blob.size:
                # Without a length from server or proxy, a broken connection looks like the end of the file.
                raise httpx2.RemoteProtocolError(f"{blob.name} ended before it was complete")
            content.seek(0)
            return hashlib.file_digest(content, "sha256").hexdigest()
        except (httpx2.TransportError, HfHubHTTPError) as error:
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return ""
            if status is not None and status not in PASSING_STATUSES:
                raise
            failures = failures + 1 if content.seek(0, os.SEEK_END) == before else 1
            if failures == _ATTEMPTS:
                raise
            time.sleep(failures)


def _stream(blob: Blob, content: BufferedRandom, on_bytes: OnBytes) -> None:
    """Append the rest of a file, in one request."""
    start = content.tell()
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream("GET", blob.url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        if start and response.status_code != HTTPStatus.PARTIAL_CONTENT:
            # A server that knows no ranges sends the whole again.
            content.seek(0)
            content.truncate()
            on_bytes(-start)
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            content.write(chunk)
            # What has come is in the file even if this process is killed.
            content.flush()
            on_bytes(len(chunk))


@contextmanager
def _locked(partial: Path, name: str) -> Generator[BufferedRandom]:
    """What came so far, open for going on, for this process alone."""
    with open(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as content:
        try:
            fcntl.flock(content, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"Another process is fetching {name} now; wait for it to end.") from error
        yield content
