"""``msd generate``: ask a running service for a picture and save it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli.options import Force, require_new_file
from cli.request_options import (
    CONTROL_FORM,
    LORA_FORM,
    SUBJECT_FORM,
    SUBJECT_MORE,
    CommandError,
    parse_control,
    parse_lora,
    parse_subject,
    refusal_lines,
    start_to_json,
)
from ms_core.config import SCHEDULERS, TIMESTEP_SPACINGS

if TYPE_CHECKING:
    from cli.client import Job, PictureScore, ServiceClient

INTERRUPTED_EXIT_CODE = 130
WIDTH = 40


def generate(  # noqa: PLR0913 - each argument is an option of the command
    prompt: Annotated[str, typer.Argument(help="What the picture shows.", show_default=False)],
    subject: Annotated[
        list[str], typer.Option("--subject", "-s", help=f"Once per subject: {SUBJECT_FORM}. {SUBJECT_MORE}.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to save the picture.")] = Path("out.png"),
    negative_prompt: Annotated[str | None, typer.Option(help="What the picture should not show.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly the picture follows the prompt.")] = None,
    scale: Annotated[float | None, typer.Option(help="Strength of the subjects that set none themselves.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same picture; random if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.")] = None,
    num_images: Annotated[int, typer.Option(help="How many pictures.")] = 1,
    preset: Annotated[str | None, typer.Option(help="A named set of values of the model, such as fast.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help=f"Once per LoRA: {LORA_FORM}.")] = None,
    control: Annotated[list[str] | None, typer.Option(help=f"Once per ControlNet: {CONTROL_FORM}.")] = None,
    start: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much of the start picture may change, up to 1.")] = None,
    redraw: Annotated[
        list[int] | None, typer.Option(help="Change only this subject, counted from 0; may be repeated.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help=f"The sampler: {', '.join(SCHEDULERS)}.")] = None,
    timestep_spacing: Annotated[
        str | None, typer.Option(help=f"How the sampler spaces its steps: {', '.join(TIMESTEP_SPACINGS)}.")
    ] = None,
    auto_layout: Annotated[bool, typer.Option("--auto-layout", help="Let the model place the subjects.")] = False,
    score: Annotated[bool, typer.Option("--score", help="Score how well each subject turned out.")] = False,
    retries: Annotated[
        int | None, typer.Option(help="With --score: how often a picture that fails may be drawn again.")
    ] = None,
    force: Force = False,
    url: Annotated[str, typer.Option(help="Where the service listens.", envvar="MSD_URL")] = "http://127.0.0.1:8000",
) -> None:
    """Make a picture of your own subjects with a running service (start one with: msd up)."""
    from cli.client import ServiceClient, ServiceClientError

    optional = {
        "negative_prompt": negative_prompt,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "scale": scale,
        "seed": seed,
        "width": width,
        "height": height,
        "layout": {"mode": "auto"} if auto_layout else None,
        "preset": preset,
        "scheduler": scheduler,
        "timestep_spacing": timestep_spacing,
        "score": score or None,
        "retries": retries,
    }
    try:
        paths = _paths(out, num_images)
        for path in paths:
            require_new_file(path, force)
        optional["loras"] = [parse_lora(option) for option in lora or ()]
        optional["controls"] = [parse_control(option).to_json() for option in control or ()]
        optional["start"] = start_to_json(start, strength, redraw or ())
        subjects = [parse_subject(option).to_json() for option in subject]
        request = {"prompt": prompt, "subjects": subjects, "num_images": num_images}
        request |= {name: value for name, value in optional.items() if value not in (None, [])}
        with ServiceClient(url) as client:
            job = _follow(client, request)
            _tell(client, job)
            _save(client, job, paths, force, [subject["phrase"] for subject in subjects])
    except CommandError as error:
        give_up(str(error))
    except ServiceClientError as error:
        give_up("\n".join(refusal_lines(error.problems, error.detail)))


def _paths(out: Path, num_images: int) -> list[Path]:
    """Where the pictures are saved: several get numbers."""
    return [out] if num_images == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(num_images)]


def _follow(client: ServiceClient, request: dict[str, Any]) -> Job:
    """Submit the request and show its progress to the end; Ctrl-C cancels the job."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from cli.client import ServiceClientError

    job = client.submit(request)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(_describe(job), total=1.0)
            job = client.wait(
                job.id, lambda now: progress.update(task, description=_describe(now), completed=now.fraction)
            )
    except KeyboardInterrupt:
        typer.echo(_cancel(client, job), err=True)
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    except ServiceClientError as error:
        if not error.may_pass:
            raise
        raise CommandError(f"{error.detail} The job may still be running: {client.url}/jobs/{job.id}") from error
    return job


def _cancel(client: ServiceClient, job: Job) -> str:
    """Cancel the job, and say whether that worked."""
    from cli.client import ServiceClientError

    try:
        client.cancel(job.id)
    except ServiceClientError as error:
        return f"Not canceled: {error.detail} The job: {client.url}/jobs/{job.id}"
    return "Canceled."


def _describe(job: Job) -> str:
    """What to show beside the bar; the same width at all times."""
    words = job.phase or job.status
    if job.position:
        words = f"queued, {job.position} ahead"
    elif job.phase == "denoise" and job.steps:
        words = f"denoise, step {job.step} of {job.steps}"
    if job.eta_s is not None and not job.ended:
        words += f", about {job.eta_s:.0f} s left"
    return f"{words:<{WIDTH}}"


def _tell(client: ServiceClient, job: Job) -> None:
    """Show the job's warnings and references.

    Raises:
        CommandError: it made no picture.
    """
    for warning in job.warnings:
        typer.echo(f"Note: {warning}", err=True)
    for index in job.references:
        typer.echo(f"What the model sees of subject {index}: {client.reference_url(job.id, index)}", err=True)
    if job.status != "succeeded":
        raise CommandError(job.error or f"The job was {job.status}; no picture was made.")


def _save(client: ServiceClient, job: Job, paths: Sequence[Path], force: bool, phrases: Sequence[str]) -> None:
    for index, (path, seed, score) in enumerate(zip(paths, job.image_seeds, job.image_scores, strict=True)):
        content = client.image(job.id, index)
        # Exclusively: another command may have saved its picture there meanwhile, but a device is no file.
        mode = "wb" if force or (path.exists() and not path.is_file()) else "xb"
        try:
            with path.open(mode) as file:
                file.write(content)
        except OSError as error:
            kept = f"{client.url}/jobs/{job.id}/images/{index}"
            raise CommandError(f"Cannot save the picture as {path}: {error.strerror}. It is kept as {kept}") from error
        typer.echo(f"{path} (seed {seed})")
        if score is not None:
            _print_score(score, phrases)


def _print_score(score: PictureScore, phrases: Sequence[str]) -> None:
    """A row for each subject, as the service estimates it."""
    from rich.console import Console
    from rich.table import Table

    table = Table("subject", title=f"draws: {score.draws}", title_justify="left")
    for name in ("present", "identity", "box overlap"):
        table.add_column(name, justify="right")
    for subject in score.subjects:
        values = (subject.present, subject.identity, subject.box_iou)
        table.add_row(phrases[subject.subject], *("-" if value is None else f"{value:.2f}" for value in values))
    Console().print(table)


def give_up(sentence: str) -> NoReturn:
    """Say it on stderr, and end with 1."""
    typer.echo(f"msd: {sentence}", err=True)
    raise typer.Exit(1)
