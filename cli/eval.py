"""``msd eval``: measure a model on mini-bench, and lay the result out as a page or a sheet."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Force, require_new_file

if TYPE_CHECKING:
    from rich.console import Console

    from ms_lab.evaluation.bench import Begin

ASSETS = Path(__file__).resolve().parents[1] / "assets"

evaluate = typer.Typer(help="Measure a model.", no_args_is_help=True)


@evaluate.callback()
def _group() -> None:
    """Measure a model."""


@evaluate.command()
def mini(  # noqa: PLR0913 - one for each option
    model: Annotated[str, typer.Option(help="A bundled model's name, or the path of a model directory.")] = "mini",
    out: Annotated[
        Path, typer.Option(help="Folder for pictures and results; an interrupted run continues there.")
    ] = Path("runs/eval-mini"),
    half: Annotated[
        str, typer.Option(help="Of the held-out artwork: validation, to choose by, or test, to measure.")
    ] = "test",
    full: Annotated[bool, typer.Option("--full", help="All scenes, four times as many as the core.")] = False,
    group: Annotated[list[str] | None, typer.Option(help="Only this group of scenes; may be repeated.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per batch.")] = 8,
    preset: Annotated[str | None, typer.Option(help="One of the model's presets.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; the model's default if left out.")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance scale; the model's default if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete the pictures in OUT and start again.")] = False,
) -> None:
    """Run mini-bench: identity, swap, layout, text, neglect and conflict, with control columns for comparison.

    The core takes fifteen to twenty minutes on two free cores; docs/mini-bench.md explains it. Exits with 0 whether or
    not the goals are met.
    """
    from rich.console import Console

    from ms_lab.evaluation.bench import BenchOptions, run_bench
    from ms_lab.evaluation.questions.columns import Settings
    from ms_lab.evaluation.report.tables import build_tables
    from worker.models import find_model

    console = Console()
    options = BenchOptions(
        half=half,
        full=full,
        groups=tuple(group or ()),
        settings=Settings(preset, steps, guidance),
        batch_size=batch_size,
        force=force,
    )
    with _bars(console) as begin:
        try:
            results = run_bench(find_model(model).directory, ASSETS, out, options, begin)
        except KeyboardInterrupt:
            typer.echo("Interrupted. Run the same command again to continue.", err=True)
            raise typer.Exit(130) from None
    for table in build_tables(results):
        console.print(table)
    console.print(f"Numbers: {out / 'results.json'}  As a page: msd eval report {out}")


@contextmanager
def _bars(console: Console) -> Generator[Begin]:
    """A bar for each phase that begins in the block."""
    from rich.progress import Progress

    with Progress(console=console) as progress:
        yield lambda phase, total: partial(progress.advance, progress.add_task(phase, total=total))


@evaluate.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="OUT", help="The OUT folder of msd eval mini.")],
    html: Annotated[
        Path | None, typer.Option(help="File of the page; OUT/report.html by default, unless --sheet is given.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="File for one picture of the first headline scenes.")] = None,
    force: Force = False,
) -> None:
    """Write a run as one HTML page with every picture, or the first headline scenes as one sheet."""
    from ms_lab.evaluation.report.report import build_report
    from ms_lab.evaluation.report.results import read_results
    from ms_lab.evaluation.report.sheet import draw_sheet
    from ms_lab.evaluation.run.folder import RunFolder

    page = run / "report.html" if html is None and sheet is None else html
    results, rows = read_results(run)
    for path in (sheet, page):
        if path is not None:
            require_new_file(path, force)
    if sheet is not None:
        draw_sheet(rows, RunFolder(run)).save(sheet)
        typer.echo(f"Sheet: {sheet}")
    if page is not None:
        page.write_text(build_report(results, rows, RunFolder(run)), encoding="utf-8")
        typer.echo(f"Page: {page}")


@evaluate.command()
def photos(
    model: Annotated[str, typer.Option(help="A bundled model's name, or the path of a model directory.")] = "mini",
    out: Annotated[Path, typer.Option(help="Folder for photos.json and photos.png.")] = Path("runs/eval-photos"),
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per batch.")] = 8,
    force: Force = False,
) -> None:
    """Measure identity with photographs as references: fifty things, two per scene, in about three minutes."""
    from rich.console import Console

    from ms_lab.evaluation.photos import build_table, measure_photos
    from worker.models import find_model

    out.mkdir(parents=True, exist_ok=True)
    for name in ("photos.json", "photos.png"):
        require_new_file(out / name, force)
    console = Console()
    with _bars(console) as begin:
        results = measure_photos(find_model(model).directory, ASSETS, out, batch_size, begin)
    console.print(build_table(results))
    console.print(f"Numbers: {out / 'photos.json'}  Sheet: {out / 'photos.png'}")
