"""``msd train``: the adapter of any model; the bundled model, from artwork or one's own pictures; and a model's scorer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ms_lab.mini.sprites import SpritePack

ASSETS = Path(__file__).resolve().parents[1] / "assets"
ARTWORK_HELP = (
    "A folder of your own pictures, each named after what it shows, or of the @iconify-json packages; may be "
    "repeated. See docs/mini.md."
)
MINUTES_HELP = "Stop after this many minutes; run the command again to continue."
PROCESSES_HELP = "Processes that train together on a CPU; one for each core by default, four at most."

train = typer.Typer(help="Train a model.", no_args_is_help=True)


@train.callback()
def _group() -> None:
    """Train a model."""


@train.command()
def mini(  # noqa: PLR0913 - one for each option
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run continues there.")] = Path(
        "runs/mini"
    ),
    artwork: Annotated[list[Path] | None, typer.Option(help=ARTWORK_HELP)] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="A model to continue from, by name or path, such as mini; from scratch if left out."
        ),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough", help="With --from: train the VAE too, and the base for as long as from scratch, not gently."
        ),
    ] = False,
    minutes: Annotated[float | None, typer.Option(min=0.1, help=MINUTES_HELP)] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    processes: Annotated[int | None, typer.Option(min=1, help=PROCESSES_HELP)] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Run all stages in a minute, on the bundled sprites.")] = False,
    shards: Annotated[
        Path | None, typer.Option(help="A set of msd data run: the stage base sees it in place of composed scenes.")
    ] = None,
) -> None:
    """Train the small model in four stages: VAE, references, base, scorer. The result is OUT/model."""
    from ms_core.device.devices import usable_device

    usable_device(device)
    # They take seconds to import.
    from ms_core.errors import InvalidInputError
    from ms_lab.training.mini import FULL, MODEL, SMOKE, default_processes, load_artwork, train_model
    from ms_lab.training.warm_start import add_origin, begin_from, gentle, is_continued, is_gentle
    from worker.models import find_model

    if thorough and start is None:
        raise InvalidInputError("--thorough needs --from: from scratch every stage is trained as long as it takes.")
    begun = time.monotonic()
    pack, held_out = load_artwork(out, artwork or (), ASSETS, smoke)
    typer.echo(f"{len(pack)} pictures to train on, {len(held_out)} held out.")
    if start is not None:
        begin_from(find_model(start).directory, out, thorough)
    recipe = SMOKE if smoke else gentle(FULL) if is_gentle(out) else FULL
    recipe = replace(recipe, shards=shards)
    count = processes if processes is not None else default_processes(device)
    unfinished = train_model(out, pack, held_out, recipe, device, count, minutes)
    directory = out / MODEL
    if directory.is_dir() and is_continued(out):
        add_origin(out, directory)
    if unfinished is not None:
        typer.echo(f"The stage {unfinished} is not done yet; run the same command again to continue.")
    else:
        origin = None if start is None else find_model(start).directory
        left = None if minutes is None else minutes - (time.monotonic() - begun) / 60
        try:
            _train_scorer(out, directory, pack, origin, left, processes, smoke)
        except InvalidInputError as error:
            typer.echo(f"The model has no scorer. {error.detail}")
    if directory.is_dir():
        so_far = "" if unfinished is None else " as far as it has come"
        typer.echo(f"The model{so_far} is in {directory}; try it with: msd up --model {directory}")


@train.command()
def adapter(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="Model, data and all numbers; see docs/training.md.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run continues there.")] = Path(
        "runs/adapter"
    ),
    minutes: Annotated[float | None, typer.Option(min=0.1, help=MINUTES_HELP)] = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, or cuda.")] = "cpu",
    processes: Annotated[int, typer.Option(min=1, help="Processes to start that train together on a CPU.")] = 1,
) -> None:
    """Train or fine-tune a model's adapter on shards; its base stays as it is. Checkpoints are in OUT/checkpoints."""
    from ms_core.device.devices import usable_device

    usable_device(device)
    from ms_lab.training.adapter.config import load_config
    from ms_lab.training.adapter.model_checkpoints import newest_checkpoint
    from ms_lab.training.adapter.run import train_adapter
    from worker.models import find_model

    settings = load_config(config)
    done = train_adapter(settings, find_model(settings.model).directory, out, device, processes, minutes)
    if not done:
        typer.echo("The run is not done yet; run the same command again to continue.")
    newest = newest_checkpoint(out)
    if newest is not None:
        typer.echo(f"The newest checkpoint is {newest}; try it with: msd up --model {newest}")


@train.command()
def scorer(  # noqa: PLR0913 - one for each option
    out: Annotated[Path, typer.Option(help="Folder of a run; an interrupted run continues there.")] = Path("runs/mini"),
    model: Annotated[str | None, typer.Option(help="The model, by name or path; OUT/model by default.")] = None,
    artwork: Annotated[list[Path] | None, typer.Option(help=ARTWORK_HELP)] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="A model whose scorer to continue from, by name or path; from scratch if left out."
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help=MINUTES_HELP)] = None,
    processes: Annotated[int | None, typer.Option(min=1, help=PROCESSES_HELP)] = None,
) -> None:
    """Train the scorer of a finished model, on the artwork it was trained on, and add it to the model's directory."""
    from ms_lab.training.mini import MODEL, load_artwork
    from worker.models import find_model

    directory = out / MODEL if model is None else find_model(model).directory
    origin = None if start is None else find_model(start).directory
    pack, _ = load_artwork(out, artwork or (), ASSETS, smoke=False)
    _train_scorer(out, directory, pack, origin, minutes, processes, smoke=False)


def _train_scorer(  # noqa: PLR0913 - what a scorer is made of
    out: Path,
    directory: Path,
    pack: SpritePack,
    origin: Path | None,
    minutes: float | None,
    processes: int | None,
    smoke: bool,
) -> None:
    """The last stage, of a model that is in ``directory`` already; it goes on from ``origin``'s scorer, if that has
    one.

    Raises:
        InvalidInputError: the artwork is too small or too uniform for it.
    """
    from ms_core.config import ModelCard
    from ms_lab.evaluation.own_pictures import judge_own_pictures, require_scenes
    from ms_lab.training.mini import default_processes
    from ms_lab.training.scorer.trainer import AGAIN, FOLDER, FULL, SMOKE, begin_scorer_from, split_pack, train_scorer

    require_scenes(split_pack(pack))
    recipe = SMOKE if smoke else FULL
    if origin is not None and not smoke and ModelCard.load(origin).scorer is not None:
        begin_scorer_from(origin, out / FOLDER)
        recipe = AGAIN
    count = processes if processes is not None else default_processes("cpu")
    if not train_scorer(out / FOLDER, directory, pack, judge_own_pictures, recipe, count, minutes):
        typer.echo("The stage scorer is not done yet; run the same command again to continue.")
        return
    facts = ModelCard.load(directory).training["scorer"]
    typer.echo(f"{directory} can score its pictures: {', '.join(f'{name} {value}' for name, value in facts.items())}")
