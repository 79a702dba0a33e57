"""``msd eval``: measure a model on mini-bench, and lay the result out as a page or a sheet."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_URL, Force, make_writable, require_new_file

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
def ablation(  # noqa: PLR0913 - one for each option
    out: Annotated[
        Path, typer.Option(help="Folder for runs, pictures and results; an interrupted run continues there.")
    ] = Path("runs/ablation"),
    pictures: Annotated[
        int | None, typer.Option(min=16, help="That each variant is trained on; 20,000 by default.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Only this seed; 1 and 2 if left out. May be repeated.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Only this one of full, no-grounding, no-masks, no-zeroing and ip-adapter; may be repeated."),
    ] = None,
    artwork: Annotated[
        list[Path] | None,
        typer.Option(
            help="As for msd train mini, or the folder of such a run, whose drawings are taken; the bundled ones if left out."
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Train on eight pictures and measure two scenes.")] = False,
) -> None:
    """Train the small model with one part of the method left out at a time, and compare; see docs/ablation.md.

    Takes hours. It computes with one thread; several such commands share the runs of one OUT.
    """
    from dataclasses import replace

    from ms_lab.ablation.run import SEEDS, SMOKE, TABLE, Size, open_setting, run_ablation
    from ms_lab.ablation.variants import VARIANTS
    from worker.models import find_model

    size = SMOKE if smoke else Size()
    size = size if pictures is None else replace(size, pictures=pictures)
    try:
        setting = open_setting(find_model("mini").directory, ASSETS, out, size, artwork or (), typer.echo)
        run_ablation(setting, variant or tuple(VARIANTS), seed or SEEDS)
    except KeyboardInterrupt:
        typer.echo("Interrupted. Run the same command again to continue.", err=True)
        raise typer.Exit(130) from None
    typer.echo((out / TABLE).read_text(encoding="utf-8"))
    typer.echo(f"Numbers: {out / 'ablation.json'}  Plot: {out / 'ablation.svg'}  Sheets: {out}/sheet-*.png")


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

    make_writable(out, "--out")
    for name in ("photos.json", "photos.png"):
        require_new_file(out / name, force)
    console = Console()
    with _bars(console) as begin:
        results = measure_photos(find_model(model).directory, ASSETS, out, batch_size, begin)
    console.print(build_table(results))
    console.print(f"Numbers: {out / 'photos.json'}  Sheet: {out / 'photos.png'}")


@evaluate.command()
def msbench(  # noqa: PLR0913 - one for each option
    pictures: Annotated[Path, typer.Option(help="Checkout of MS-Diffusion/MS-Diffusion, or its folder msbench.")],
    prompts: Annotated[
        Path | None, typer.Option(help="Its msdiffusion/dataset/prompts/msbench.py, if that is elsewhere.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for pictures, scores and results; an interrupted run continues there.")
    ] = Path("runs/msbench"),
    url: Annotated[str, typer.Option(help="Where the service listens.", envvar="MSD_URL")] = DEFAULT_URL,
    shard: Annotated[str, typer.Option(help="Make and score only this part, such as 2/4.")] = "1/1",
    in_flight: Annotated[int, typer.Option(min=1, max=200, help="Pictures asked for at once.")] = 8,
    few: Annotated[int | None, typer.Option(min=1, help="At most so many combinations of each type.")] = None,
    scores: Annotated[bool, typer.Option("--scores/--no-scores", help="Score the pictures, or only make them.")] = True,
    clip: Annotated[str | None, typer.Option(help="CLIP for CLIP-T and CLIP-I: hub id or folder.")] = None,
    dino: Annotated[str | None, typer.Option(help="DINOv2: hub id or folder.")] = None,
    detector: Annotated[str | None, typer.Option(help="OWLv2 for the layout: hub id or folder.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score of a detection.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Every picture's own seed is made from it.")] = 0,
    preset: Annotated[str | None, typer.Option(help="One of the model's presets.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    scale: Annotated[float | None, typer.Option(min=0, help="Strength of the subjects that are no scenes.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the pictures should not show.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Go on if pictures are missing.")] = False,
) -> None:
    """Run the authors' MS-Bench: a running service makes the pictures, CLIP, DINOv2 and OWLv2 score them.

    docs/guides/msbench.md goes through it.
    """
    from rich.console import Console

    from cli.msbench import QueuedPictures, benchmark_client
    from ms_lab.evaluation.msbench.models import JudgeNames
    from ms_lab.evaluation.msbench.results import build_tables
    from ms_lab.evaluation.msbench.run import BenchmarkOptions, Shard, count_sentence, run_msbench
    from ms_lab.evaluation.msbench.samples import read_benchmark

    console = Console()
    request = {
        "preset": preset,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "scale": scale,
        "width": width,
        "height": height,
        "negative_prompt": negative_prompt,
    }
    request = {name: value for name, value in request.items() if value is not None}
    named = {"clip": clip, "dino": dino, "detector": detector, "threshold": threshold}
    judges = JudgeNames(**{name: value for name, value in named.items() if value is not None})
    options = BenchmarkOptions(request, seed, few, allow_missing, Shard.parse(shard), in_flight, scores, judges)
    benchmark = read_benchmark(pictures, prompts)
    typer.echo(count_sentence(benchmark))
    with benchmark_client(url) as client, _bars(console) as begin:
        try:
            connect = partial(QueuedPictures, client, request, seed)
            results = run_msbench(benchmark, out, options, connect, judges.load, begin)
        except KeyboardInterrupt:
            typer.echo("Interrupted. Run the same command again to continue.", err=True)
            raise typer.Exit(130) from None
    if results is None:
        left = "Scores are left to be made" if scores else "Pictures are made, not scored"
        typer.echo(f"{left}. When all parts are in {out}, run the command without --shard and --no-scores.")
        return
    for table in build_tables(results):
        console.print(table)
    console.print(f"Numbers: {out / 'results.json'}")


@evaluate.command()
def layout(
    model: Annotated[str, typer.Option(help="A bundled model's name, or the path of a model directory.")] = "mini",
    out: Annotated[Path, typer.Option(help="Folder for layout.json.")] = Path("runs/eval-layout"),
    scenes: Annotated[int, typer.Option(min=2, help="How many scenes of two subjects.")] = 24,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per batch.")] = 8,
    force: Force = False,
) -> None:
    """Measure how well subjects stand in their boxes, on a few scenes of mini-bench; takes some minutes, needs no network."""
    from rich.console import Console

    from ms_lab.evaluation.layout import RESULTS_FILE, build_table, measure_layout
    from worker.models import find_model

    directory = find_model(model).directory
    make_writable(out, "--out")
    require_new_file(out / RESULTS_FILE, force)
    console = Console()
    with _bars(console) as begin:
        results = measure_layout(directory, ASSETS, out, scenes, batch_size, begin)
    console.print(build_table(results))
    console.print(f"Numbers: {out / RESULTS_FILE}")
