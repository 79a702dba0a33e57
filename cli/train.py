"""``msd train mini``: train the bundled model from openly licensed artwork."""

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
def mini(
    out: Annotated[Path, typer.Option(help="Folder of the run; started again, it goes on.")] = Path("runs/mini"),
    artwork: Annotated[
        Path | None, typer.Option(help="Folder with the @iconify-json packages; docs/mini.md lists them.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; go on later.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    smoke: Annotated[bool, typer.Option("--smoke", help="All stages in a minute, on the bundled sprites.")] = False,
) -> None:
    """Train the small model: VAE, vision, base, adapter; the result is OUT/model."""
    from ms_core.training.mini import FULL, SMOKE, MiniTraining, load_artwork

    pack, held_out = load_artwork(out, artwork, ASSETS, smoke)
    training = MiniTraining(out, pack, held_out, SMOKE if smoke else FULL, device)
    unfinished = training.run(minutes)
    if unfinished is not None:
        typer.echo(f"The stage {unfinished} is not done yet; run the same command again to go on.")
        return
    directory = training.save()
    typer.echo(f"The model is in {directory}; try it with: msd up --model {directory}")
