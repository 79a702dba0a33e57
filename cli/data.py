"""``msd data``: your own videos and pictures to training samples with several subjects."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Force, require_new_file

if TYPE_CHECKING:
    from rich.console import Console

    from ms_lab.data.engine.plan import Plan
    from ms_lab.data.engine.run import RunResult

# Some of the footage could not be used; the rest was.
FAULTY = 3

data = typer.Typer(help="Make training data from videos and pictures.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Make training data from videos and pictures."""


@data.command()
def run(
    footage: Annotated[list[Path], typer.Argument(help="Folders of videos and pictures, or single videos.")],
    out: Annotated[Path, typer.Option(help="Folder of the set; an interrupted run continues there.")] = Path(
        "runs/data"
    ),
    config: Annotated[
        Path | None, typer.Option(help="TOML file with what differs from ms_lab/data/default.toml.")
    ] = None,
    cluster: Annotated[str, typer.Option(help="Address of a Ray cluster, or local.")] = "local",
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would run, for how long, and how large the set would be.")
    ] = False,
) -> None:
    """Turn footage into WebDataset shards. Exits with 3 if some of it could not be used."""
    from rich.console import Console

    from ms_lab.data.config import load_config

    console, settings = Console(), load_config(config)
    if plan:
        import os

        from ms_lab.data.engine.plan import make_plan

        _show_plan(console, make_plan(footage, settings, len(os.sched_getaffinity(0))))
        return
    result = _run(console, footage, out, settings, cluster)
    _show_result(console, out, result)
    if result.faults:
        raise typer.Exit(FAULTY)


@data.command()
def view(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The OUT folder of msd data run.")],
    html: Annotated[Path | None, typer.Option(help="File of the page; OUT/view.html by default.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples shown, spread over the set.")] = 48,
    force: Force = False,
) -> None:
    """Write one HTML page: samples, the funnel of what was dropped, histograms."""
    from ms_lab.data.view.page import build_page
    from ms_lab.data.writing.folder import RunFolder

    path = html if html is not None else RunFolder(folder).page
    require_new_file(path, force)
    path.write_text(build_page(folder, samples), encoding="utf-8")
    typer.echo(f"Page: {path}")


@data.command()
def cache(  # noqa: PLR0913 - one for each option
    folder: Annotated[
        Path, typer.Argument(metavar="SET", help="The OUT folder of msd data run, or a folder of shards.")
    ],
    model: Annotated[str, typer.Option(help="The model whose adapter will be trained, by name or path.")],
    out: Annotated[Path, typer.Option(help="Folder of the cache; an interrupted command continues there.")] = Path(
        "runs/cache"
    ),
    height: Annotated[
        int, typer.Option(min=8, help="Of the targets, in pixels; as in the training's configuration.")
    ] = 512,
    width: Annotated[int, typer.Option(min=8, help="The same.")] = 512,
    device: Annotated[str, typer.Option(help="Where to encode: cpu, or cuda.")] = "cpu",
    samples_per_shard: Annotated[int, typer.Option(min=1, help="In the cache.")] = 256,
) -> None:
    """Encode a set once for msd train adapter, so that a training step is the UNet alone."""
    from rich.progress import Progress

    from ms_core.sampling.pipeline import MSDiffusionPipeline
    from ms_lab.training.adapter.cache import count_samples, write_cache
    from ms_lab.training.adapter.samples import Size
    from worker.models import find_model

    directory = find_model(model).directory
    total = count_samples(folder)
    pipeline = MSDiffusionPipeline.from_pretrained(directory, device)
    with Progress() as bar:
        task = bar.add_task("samples", total=total)
        size = Size(height, width)
        counts = write_cache(
            folder, out, directory, pipeline, size, samples_per_shard, lambda done: bar.advance(task, done)
        )
    told = ", ".join(f"{number} {split}" for split, number in counts.items())
    typer.echo(f"Samples: {told}. Train on them with folder = {str(out)!r} below [data].")


@data.command()
def erase(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The OUT folder of msd data run.")],
    source: Annotated[
        str,
        typer.Option(
            help="Path of the video or folder of pictures, its name in the notes, or its id in manifest.json."
        ),
    ],
) -> None:
    """Take a source out of a finished set, for good."""
    from ms_lab.data.writing.erase import erase_source
    from ms_lab.data.writing.folder import RunFolder

    erased = erase_source(RunFolder(folder), source)
    typer.echo(f"{erased.samples} samples of the source {erased.source} were removed.")
    if erased.files > 1:
        typer.echo(f"It was made of {erased.files} videos or pictures: all that share its name or lie in its folder.")
    if erased.page:
        typer.echo(f"The page that showed them was removed, too; msd data view {folder} makes it anew.")
    typer.echo(
        "Copies of the set, caches of msd data cache, and models trained on it still hold them: make those anew."
    )


def _run(console: Console, footage: list[Path], out: Path, settings: Any, cluster: str) -> RunResult:
    from rich.live import Live

    from ms_lab.data.engine.progress import StageTable
    from ms_lab.data.engine.run import run_pipeline

    table = StageTable()
    live = Live(table.draw({}), console=console, refresh_per_second=2) if console.is_terminal else nullcontext()
    last: dict[str, Any] = {}
    with live:

        def show(counts: dict[str, Any]) -> None:
            last.update(counts)
            if isinstance(live, Live):
                live.update(table.draw(counts))
            elif said := table.line(counts):
                console.print(said)

        try:
            result = run_pipeline(footage, out, settings, cluster, show)
        except KeyboardInterrupt:
            console.print("Stopped. The same command goes on where this one ended.")
            raise
    if last and not console.is_terminal:
        console.print(table.draw(last))
    return result


def _show_result(console: Console, out: Path, result: RunResult) -> None:
    manifest = result.manifest
    counts = ", ".join(f"{number} {split}" for split, number in manifest["samples"].items())
    if result.skipped:
        console.print(f"{result.skipped} of {result.footage} pieces of footage were done before.")
    for fault in result.faults:
        console.print(f"Not used: {fault.path!r}: {fault.detail} ({fault.reason})", markup=False, highlight=False)
    for remark in manifest["remarks"]:
        console.print(remark, markup=False, highlight=False)
    if manifest["erased"]:
        console.print("What was erased before was left out.")
    console.print(f"Samples: {counts}; shards: {len(manifest['shards'])}, in {out / 'shards'}")
    if result.faults:
        console.print(f"{len(result.faults)} items could not be used; mend them and run the same command again.")
    console.print(f"Look at them: msd data view {out}")


def _show_plan(console: Console, plan: Plan) -> None:
    from rich.table import Table

    from ms_lab.data.engine.plan import in_words

    console.print(
        f"{plan.videos} videos ({plan.hours:g} h), {plan.pictures} pictures in {plan.folders} folders: "
        f"about {plan.clips} clips."
    )
    table = Table("stage", "runs on", "ms/clip", title=f"Measured on the first {plan.measured} clips")
    for name, seconds in plan.seconds.items():
        table.add_row(name, plan.runs_on.get(name, ""), f"{1000 * seconds:.1f}")
    console.print(table)
    console.print(
        f"About {in_words(plan.total_s)} on this machine if it is idle, after Ray's start of half a minute or so; "
        f"{plan.samples} samples, {plan.output_bytes / 1e9:.3f} GB."
    )
