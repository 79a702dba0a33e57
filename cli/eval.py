"""``msd eval mini``: measure a model on scenes of artwork that was never trained on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

HELD_OUT_SPRITES = Path(__file__).resolve().parents[1] / "assets" / "heldout-sprites.zip"

evaluate = typer.Typer(help="Measure a model.", no_args_is_help=True)


@evaluate.callback()
def _group() -> None:
    """Measure a model."""


@evaluate.command()
def mini(
    model: Annotated[str, typer.Option(help="A bundled model's name, or the path of a model directory.")] = "mini",
    out: Annotated[Path, typer.Option(help="Folder for results.json and sheet.png.")] = Path("runs/eval-mini"),
    scenes: Annotated[int, typer.Option(min=2, help="How many; the first of a fixed list.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures made at once.")] = 8,
) -> None:
    """Identity, swap, layout and background on two-subject scenes, beside controls; about twelve minutes on two free cores.

    Ends with 0 whether or not the gate is met: the numbers are the answer.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ms_core.evaluation.bench import COLUMNS, Maker, check_gate, run_columns
    from ms_core.evaluation.report import Evaluation, build_results, build_table, draw_sheet
    from ms_core.evaluation.scenes import draw_scenes, fingerprint
    from ms_core.mini.sprites import SpritePack
    from ms_core.pipeline import MSDiffusionPipeline
    from worker.models import find_model

    begun = time.monotonic()
    pipeline = MSDiffusionPipeline.from_pretrained(find_model(model).directory)
    pack = SpritePack.load(HELD_OUT_SPRITES)
    drawn = draw_scenes(pack, scenes)
    console = Console()
    with Progress(console=console) as progress:
        task = progress.add_task("Pictures", total=2 * scenes * len(COLUMNS))
        maker = Maker.of_pipeline(pipeline, batch_size)
        columns = run_columns(drawn, pack, maker, lambda count: progress.advance(task, count))
    seconds = time.monotonic() - begun
    evaluation = Evaluation(pipeline.card, drawn, fingerprint(drawn, pack), columns, seconds, batch_size)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(build_results(evaluation), indent=2) + "\n", encoding="utf-8")
    draw_sheet(evaluation).save(out / "sheet.png")
    console.print(build_table(evaluation))
    for gate in check_gate(columns):
        console.print(f"{'pass' if gate.passed else 'MISS'}  {gate.condition}")
    console.print(f"{seconds / 60:.1f} minutes. Numbers: {out / 'results.json'}  Pictures: {out / 'sheet.png'}")
