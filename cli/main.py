"""``msd``: the commands, one file each. Heavy imports stand inside their functions, so that ``msd --help`` is quick."""

from __future__ import annotations

import os
import sys

import typer

from cli.api import api
from cli.convert import convert
from cli.data import data
from cli.demo import demo
from cli.doctor import doctor
from cli.download import download
from cli.eval import evaluate
from cli.generate import generate
from cli.keys import keys
from cli.parity import parity
from cli.reference import reference
from cli.train import train
from cli.up import up
from cli.worker import worker
from ms_core.errors import MSDiffusionError

app = typer.Typer(
    name="msd",
    help="Your own subjects, each in its box, in one picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (up, generate, demo, reference, doctor, convert, api, worker, parity):
    app.command()(command)
app.add_typer(download, name="download")
app.add_typer(train, name="train")
app.add_typer(evaluate, name="eval")
app.add_typer(data, name="data")
app.add_typer(keys, name="keys")


def run() -> None:
    """Entry point of the console script: an error of ours is one sentence on stderr and exit code 1."""
    # Importing diffusers makes transformers warn about optional packages that nothing here needs.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # The model hub is told nothing of this machine.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        app()
    except MSDiffusionError as error:
        print(f"msd: {error.detail}", file=sys.stderr)  # noqa: T201 - a command talks to its user
        sys.exit(1)


if __name__ == "__main__":
    run()
