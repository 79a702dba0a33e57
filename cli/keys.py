"""``msd keys``: who may use a service that other machines can reach."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Data
from ms_core.errors import StartupError

if TYPE_CHECKING:
    from ms_jobs.api_keys import ApiKey, ApiKeyStore

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys with which the API is used.")

Name = Annotated[str, typer.Argument(help="Name of the key, by which it is listed and revoked.", show_default=False)]

_SECONDS_OF_UNIT = {"m": 60, "h": 3600, "d": 86400}
_SCOPES = ("generate", "read", "admin")


@keys.command()
def create(
    name: Name,
    owner: Annotated[
        str, typer.Option(help="Whose pictures and jobs it reaches; local: those made before there were keys.")
    ] = "local",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="May be repeated. generate: submit, upload, cancel, delete; read: look; admin: all that, of all owners' jobs.",
            show_default="generate and read",
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After which time it ends, such as 12h or 30d.")] = None,
    data: Data = Path("data"),
) -> None:
    """Make a key and show it, once."""
    from ms_jobs.api_keys import Scope

    unknown = sorted(set(scope or ()) - set(_SCOPES))
    if unknown:
        raise StartupError(f"There is no scope {unknown[0]!r}; there are {', '.join(_SCOPES)}.")
    lifetime_s = None if expires is None else _seconds(expires)
    text, key = _store(data).create(name, owner, map(Scope, scope or ("generate", "read")), lifetime_s)
    typer.echo(f"Key {key.name} of {key.owner}: it is shown only now, so keep it.", err=True)
    typer.echo(text)


@keys.command("list")
def list_keys(data: Data = Path("data")) -> None:
    """List all keys, also those that work no longer."""
    import time

    from rich.console import Console
    from rich.table import Table

    table = Table("name", "owner", "scopes", "begins with", "created", "state")
    now = time.time()
    for key in _store(data).all():
        table.add_row(
            key.name, key.owner, ", ".join(sorted(key.scopes)), key.hint, _day(key.created_at), _state(key, now)
        )
    Console().print(table)


@keys.command()
def revoke(name: Name, data: Data = Path("data")) -> None:
    """Let a key work no longer, within a second; its owner's pictures and jobs stay."""
    key = _store(data).revoke(name)
    typer.echo(f"Key {key.name} of {key.owner} is revoked.")


def _store(data: Path) -> ApiKeyStore:
    """The keys in the Redis of ``MSD_REDIS_URL``, else of an ``msd up`` with this data directory, else in the default one.

    Raises:
        StartupError: the address is none.
        QueueUnavailableError: Redis does not answer.
    """
    from ms_jobs.api_keys import ApiKeyStore
    from ms_jobs.connection import DEFAULT_URL, check_redis, redis_client
    from ms_jobs.redis_checks import require_address
    from worker.redis_server import socket_in

    embedded = socket_in(data.resolve())
    url = os.environ.get("MSD_REDIS_URL") or (f"unix://{embedded}" if embedded.exists() else DEFAULT_URL)
    require_address(url)
    check_redis(url)
    return ApiKeyStore(redis_client(url))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise StartupError(f"--expires {text}: give a number of minutes, hours or days, such as 12h or 30d.")
    return int(match[1]) * _SECONDS_OF_UNIT[match[2]]


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "works"
    return f"{'works until' if key.works_at(now) else 'expired'} {_day(key.expires_at)}"


def _day(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M}"
