"""A reader of server-sent events for tests, by the rules of the HTML standard."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

ENDS = ("succeeded", "failed", "canceled", "expired", "gone")


@dataclass(frozen=True)
class Event:
    """One event; ``version`` is its id as a number."""

    name: str
    version: int | None
    data: Any


def read_lines(chunks: Iterable[str]) -> Iterator[str]:
    """Lines of a stream; unlike ``str.splitlines`` it knows no line ends but those of the standard."""
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        yield from lines


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream's lines; comments and events without data are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            version = int(fields["id"]) if "id" in fields else None
            yield Event(fields.get("event", "message"), version, json.loads(fields["data"]))
        fields = {}


@contextmanager
def watched(
    client: httpx2.Client, job_id: str, last_event_id: int | None = None, **parameters: str
) -> Generator[Iterator[Event]]:
    """The events of a job as they come; leaving the block hangs up."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with client.stream("GET", f"/jobs/{job_id}/events", headers=headers, params=parameters) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
        yield read_events(read_lines(response.iter_text()))


def watch(client: httpx2.Client, job_id: str, last_event_id: int | None = None, **parameters: str) -> list[Event]:
    """All events of a job to the end of its stream."""
    with watched(client, job_id, last_event_id, **parameters) as events:
        return list(events)
