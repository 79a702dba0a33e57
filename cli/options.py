"""Options that several commands share, and how they become settings."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ms_core.errors import StartupError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DEFAULT_URL = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Model = Annotated[
    str, typer.Option(envvar="MSD_MODEL", help="A model's name, or the path of a model directory.", show_default=True)
]
Data = Annotated[Path, typer.Option(envvar="MSD_DATA_DIR", help="Directory for pictures, results and the queue.")]
AllowRemote = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="Accept requests from other machines; each needs a key (msd keys), unless MSD_AUTH=off.",
    ),
]


Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]


def require_new_file(path: Path, force: bool) -> None:
    """Find out, before any work is done, that a file cannot be written there; with ``force`` it may be there already.

    Raises:
        StartupError: its folder is missing, it is a folder, or it is there.
    """
    if not path.parent.is_dir():
        raise StartupError(f"Cannot save {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise StartupError(f"{path} is a folder; give the name of a file, such as {path / 'out.png'}.")
    # Not a device, such as /dev/null.
    if path.is_file() and not force:
        raise StartupError(f"{path} is there already; choose another name, or replace it with --force.")


def require_loopback(host: str, remedy: str) -> None:
    """Refuse a host that other machines can reach.

    Raises:
        StartupError: the host is not a loopback address; ``remedy`` ends the sentence.
    """
    try:
        addresses = {item[4][0] for item in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise StartupError(f"The host {host!r} is not an address of this machine: {error.strerror}.") from error
    if not all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses):
        raise StartupError(f"With --host {host}, anyone who can reach this machine could use the service. {remedy}")


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that another program listens on.

    Raises:
        StartupError: the port cannot be listened on.
    """
    family = socket.getaddrinfo(host, port)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise StartupError(f"You may not use port {port}; choose one above 1023.") from error
        except OSError as error:
            raise StartupError(
                f"Port {port} on {host} cannot be used ({error.strerror}). Choose another with --port."
            ) from error


def make_writable(directory: Path, option: str = "--data") -> None:
    """Make a directory below that of an option.

    Raises:
        StartupError: it cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise StartupError(
            f"{directory} cannot be written ({error.strerror}); choose another with {option}."
        ) from error


def again_command() -> str:
    """The command that is running, with ``--force``: it makes the same model directory again."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--force", "--dry-run")]
    return shlex.join(["msd", *arguments, "--force"])
