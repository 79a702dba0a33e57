"""``msd parity``: compare this model code with what the official code gave."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def parity(
    directory: Annotated[Path, typer.Argument(help="Folder laid out like tests/golden.")],
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest allowed difference of the latents.")] = 1e-3,
    resampler_heads: Annotated[
        int, typer.Option(min=1, help="Attention heads of the resampler; the official file does not say.")
    ] = 4,
) -> None:
    """Run every case in DIRECTORY through the pipeline (float32, CPU) and compare its latents with the stored ones.

    Prints each case and its largest absolute difference. Exits with 1 if any case fails.
    """
    from ms_core.errors import MSDiffusionError
    from ms_lab.parity import run_parity

    failed = 0
    try:
        for result in run_parity(directory, resampler_heads):
            passed = result.passed(tolerance)
            failed += not passed
            outcome = result.failure if result.failure is not None else f"{result.max_difference:.2e}"
            typer.echo(f"{'ok' if passed else 'FAILED':<8}{result.name:<32}{outcome}")
    except MSDiffusionError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(1) from error
    if failed:
        typer.echo(f"Failed cases: {failed} (tolerance {tolerance:g}).", err=True)
        raise typer.Exit(1)
