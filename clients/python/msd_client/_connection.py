"""What both transports share: how a service is reached, and how a caller is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from msd_client._flow import SILENCE_S, Answer
from msd_client.bar import ProgressBar
from msd_client.errors import MsdError
from msd_client.events import PreviewEvent
from msd_client.jobs import Job

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 30.0
API_KEY = "MSD_API_KEY"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the service is, and as whom to ask it.

    Attributes:
        url: without a slash at its end.
        api_key: by default that of the environment, ``MSD_API_KEY``; empty: none.
        timeout_s: for each answer; a job may take longer.
    """

    url: str
    api_key: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    def arguments(self) -> dict[str, Any]:
        """Of an httpx2 client, blocking or not.

        Raises:
            MsdError: this is not an address, or the key cannot be sent.
        """
        unusable = MsdError(f"{self.url} is not the address of a service, such as {DEFAULT_URL}.")
        try:
            # A proxy of the environment cannot reach this machine's own addresses.
            is_local = urlsplit(self.url).hostname in _LOOPBACK
            url = httpx2.URL(self.url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise unusable from error
        if url.scheme not in ("http", "https") or not url.host:
            raise unusable
        return {"base_url": url, "headers": self._headers(), "timeout": self.timeout_s, "trust_env": not is_local}

    def _headers(self) -> dict[str, str]:
        key = (os.environ.get(API_KEY, "") if self.api_key is None else self.api_key).strip()
        if not key:
            return {}
        if not (key.isascii() and key.isprintable()):
            # Others would quote it where they say so.
            raise MsdError("The API key has characters that no key has.")
        return {"Authorization": f"Bearer {key}"}

    @property
    def timeout_of_events(self) -> httpx2.Timeout:
        """For a stream of events."""
        return httpx2.Timeout(self.timeout_s, read=SILENCE_S)


def answer_of(response: httpx2.Response, content: bytes) -> Answer:
    """What the flows see of a response; the names of headers are in lower case."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, content, response.url.host)


@dataclass(frozen=True, slots=True)
class Listener:
    """Passes on what a flow reports."""

    on_progress: Callable[[Job], Any] | None = None
    on_preview: Callable[[PreviewEvent], Any] | None = None
    bar: ProgressBar | None = None

    def hear(self, value: Any) -> Any:
        """Tell whom it concerns; gives what they returned, which may be awaitable."""
        if isinstance(value, PreviewEvent):
            return None if self.on_preview is None else self.on_preview(value)
        if self.bar is not None:
            self.bar.show(value)
        return None if self.on_progress is None else self.on_progress(value)
