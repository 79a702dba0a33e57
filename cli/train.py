"""``msd train mini``: train the bundled model from openly licensed artwork, or from one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ASSETS = Path(__file__).resolve().parents[1] / "assets"

train = typer.Typer(help="Train a model.", no_args_is_help=True)


@train.callback()
def _group() -> None:
    """Train a model."""


@train.command()
def mini(  # noqa: PLR0913 - one for each option
    out: Annotated[Path, typer.Option(help="Folder of the run; started again, it goes on.")] = Path("runs/mini"),
    artwork: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder of your own pictures, each called what it shows, or with the @iconify-json packages; "
            "may be given several times. docs/mini.md tells more."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="A model to go on from, by name or path, such as mini; else from nothing."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; go on later.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many train together on a CPU; one for each of its cores if not given."),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="All stages in a minute, on the bundled sprites.")] = False,
) -> None:
    """Train the small model: VAE, references, base; the result is OUT/model."""
    from ms_core.training.mini import FULL, MODEL, SMOKE, default_processes, load_artwork, train_model
    from ms_core.training.warm_start import add_origin, begin_from, gentle, is_continued
    from worker.models import find_model

    pack, held_out = load_artwork(out, artwork or (), ASSETS, smoke)
    typer.echo(f"{len(pack)} pictures to train on, {len(held_out)} held out.")
    if start is not None:
        begin_from(find_model(start).directory, out)
    recipe = SMOKE if smoke else gentle(FULL) if is_continued(out) else FULL
    count = processes if processes is not None else default_processes(device)
    unfinished = train_model(out, pack, held_out, recipe, device, count, minutes)
    directory = out / MODEL
    if directory.is_dir() and is_continued(out):
        add_origin(out, directory)
    if unfinished is not None:
        typer.echo(f"The stage {unfinished} is not done yet; run the same command again to go on.")
    if directory.is_dir():
        so_far = "" if unfinished is None else " as far as it has come"
        typer.echo(f"The model{so_far} is in {directory}; try it with: msd up --model {directory}")
