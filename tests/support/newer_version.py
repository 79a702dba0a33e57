"""What a newer version of the service stores: everything that this one stores, with one field more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from redis import Redis

from ms_jobs import keys
from ms_jobs.keys import JobKey

NEW = "of_a_newer_version"


def add_to_beat(client: Redis, worker: str) -> None:
    _change(client, keys.worker(worker), with_more)


def add_to_card(client: Redis, model: str) -> None:
    def add(card: Any) -> Any:
        more = with_more(card)
        # Its keys are names of presets.
        del more["presets"][NEW]
        return more

    _change(client, keys.card(model), add)


def add_to_pace(client: Redis, model: str) -> None:
    """One number more in each shape, and entries of another form."""
    for index, entry in enumerate(client.lrange(keys.pace(model), 0, -1)):
        shape, _, seconds = entry.decode().rpartition(" ")
        client.lset(
            keys.pace(model), index, f"{shape}-0-9 {seconds}" if shape.count("-") == 6 else f"{shape}-9 {seconds}"
        )
    client.rpush(keys.pace(model), "of another form", "{}")


def add_to_measures(client: Redis, model: str) -> None:
    client.hset(keys.counts(model), NEW, "1")
    client.hset(keys.histograms(model), f"phase|x|{NEW}|sum", "1")


def add_to_record(client: Redis, key: JobKey) -> None:
    """A field more, also in what the record's fields hold."""
    for name, value in client.hgetall(keys.job(key)).items():
        client.hset(keys.job(key), name, json.dumps(with_more(json.loads(value))))
    client.hset(keys.job(key), NEW, '"blue"')


def add_to_log(client: Redis, key: JobKey) -> None:
    """A field more in the newest entries."""
    for stream in (keys.events(key), keys.progress(key)):
        for entry_id, fields in client.xrange(stream):
            client.xdel(stream, entry_id)
            client.xadd(f"{stream}.copy", {**fields, NEW: "1"}, id=entry_id)
        if client.exists(f"{stream}.copy"):
            client.rename(f"{stream}.copy", stream)


def add_to_file(path: Path) -> None:
    path.write_text(json.dumps(with_more(json.loads(path.read_text()))))


def with_more(value: Any) -> Any:
    """A JSON value whose every object has a field more."""
    if isinstance(value, list):
        return [with_more(item) for item in value]
    if isinstance(value, dict):
        return {name: with_more(item) for name, item in value.items()} | {NEW: "blue"}
    return value


def _change(client: Redis, key: str, change: Any) -> None:
    text = client.get(key)
    assert text is not None
    client.set(key, json.dumps(change(json.loads(text))), keepttl=True)
