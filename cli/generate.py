"""``msd generate``: ask a running service for a picture and save it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli.like import PICTURE_FORM, request_like
from cli.options import DEFAULT_URL, Force, require_new_file
from cli.request_options import (
    CONTROL_FORM,
    LORA_FORM,
    SUBJECT_FORM,
    SUBJECT_MORE,
    CommandError,
    parse_control,
    parse_lora,
    parse_subject,
    picture_at,
    start_to_json,
)
from ms_core.config import SCHEDULERS, TIMESTEP_SPACINGS

if TYPE_CHECKING:
    from msd_client import Client, Job, Score

INTERRUPTED_EXIT_CODE = 130
FORMAT_OF_ENDING = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
# A recipe has them all, which would leave nothing to another preset.
PRESET_FIELDS = ("num_inference_steps", "guidance_scale", "scale", "scheduler", "timestep_spacing")
ENDING_OF_FORMAT = {"webp": ".webp", "jpeg": ".jpg"}


def generate(  # noqa: PLR0913 - each argument is an option of the command
    prompt: Annotated[str | None, typer.Argument(help="What the picture shows.", show_default=False)] = None,
    subject: Annotated[
        list[str] | None, typer.Option("--subject", "-s", help=f"Once per subject: {SUBJECT_FORM}. {SUBJECT_MORE}.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="A picture that was made before: make it again, with what other options change."),
    ] = None,
    picture: Annotated[
        list[str] | None,
        typer.Option(help=f"With --like: a picture of it that the service no longer has; {PICTURE_FORM}."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to save the picture.", show_default="out.png")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the picture should not show.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly the picture follows the prompt.")] = None,
    scale: Annotated[float | None, typer.Option(help="Strength of the subjects that set none themselves.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same picture; random if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.")] = None,
    num_images: Annotated[int | None, typer.Option(help="How many pictures.", show_default="1")] = None,
    preset: Annotated[str | None, typer.Option(help="A named set of values of the model, such as fast.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help=f"Once per LoRA: {LORA_FORM}.")] = None,
    control: Annotated[list[str] | None, typer.Option(help=f"Once per ControlNet: {CONTROL_FORM}.")] = None,
    start: Annotated[str | None, typer.Option(help="A picture to start from.")] = None,
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
    output_format: Annotated[
        str | None, typer.Option(help="png, webp or jpeg; by the ending of --out if left out.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="Of WebP and JPEG, 1 to 100.")] = None,
    force: Force = False,
    url: Annotated[str, typer.Option(help="Where the service listens.", envvar="MSD_URL")] = DEFAULT_URL,
) -> None:
    """Make a picture of your own subjects with a running service (start one with: msd up)."""
    from cli.client import refusal, service_client
    from msd_client import MsdError, NoAnswerError

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
        "quality": quality,
        "prompt": prompt,
        "num_images": num_images,
    }
    _check_use(prompt, subject, like, picture)
    try:
        with service_client(url) as client:
            request: dict[str, Any] = {"num_images": 1}
            if like is not None:
                request = request_like(client, like, picture or ())
            for name in PRESET_FIELDS if preset else ():
                request.pop(name, None)
            _set_format(request, output_format, out)
            paths = _paths(out, num_images or request.get("num_images", 1), request.get("output_format", "png"))
            for path in paths:
                require_new_file(path, force)
            optional["loras"] = [parse_lora(option) for option in lora or ()]
            optional["controls"] = [parse_control(option).to_json() for option in control or ()]
            optional["start"] = start_to_json(
                None if start is None else picture_at(start), strength, redraw or (), request.get("start")
            )
            optional["subjects"] = [parse_subject(option).to_json() for option in subject or ()]
            request |= {name: value for name, value in optional.items() if value not in (None, [])}
            job = _follow(client, request)
            _tell(client, job)
            _save(client, job, paths, force, [subject["phrase"] for subject in request["subjects"]])
    except CommandError as error:
        give_up(str(error))
    except NoAnswerError as error:
        give_up(f"{error.detail.removesuffix('.')}, or say where it is with --url or MSD_URL.")
    except MsdError as error:
        give_up(refusal(error))


def _check_use(prompt: str | None, subject: list[str] | None, like: Path | None, picture: list[str] | None) -> None:
    """Refuse a command that does not say what to make."""
    if like is None and picture:
        raise typer.BadParameter("--picture needs --like.")
    if like is None and (prompt is None or not subject):
        raise typer.BadParameter("Give a prompt and a --subject, or a picture that was made before with --like.")


def _set_format(request: dict[str, Any], output_format: str | None, out: Path | None) -> None:
    """Let the request have the format of the options, or of the ending of ``--out``."""
    wanted = output_format or (None if out is None else FORMAT_OF_ENDING.get(out.suffix.lower()))
    if wanted not in (None, request.get("output_format", "png")):
        request["output_format"] = wanted
        if wanted == "png":
            request.pop("quality", None)


def _paths(out: Path | None, num_images: int, output_format: str) -> list[Path]:
    """Where the pictures are saved: several get numbers."""
    out = out or Path("out").with_suffix(ENDING_OF_FORMAT.get(output_format, ".png"))
    return [out] if num_images == 1 else [out.with_stem(f"{out.stem}-{index}") for index in range(num_images)]


def _follow(client: Client, request: dict[str, Any]) -> Job:
    """Submit the request and show its progress to the end; Ctrl-C cancels the job."""
    from cli.client import eta_s
    from msd_client import MsdError
    from msd_client.bar import ProgressBar, with_eta

    job = client.submit(**request)
    try:
        with ProgressBar(lambda now: with_eta(now, eta_s(now))) as bar:
            bar.show(job)
            job = client.wait(job.id, bar.show)
    except KeyboardInterrupt:
        typer.echo(_cancel(client, job), err=True)
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    except MsdError as error:
        if not error.may_pass:
            raise
        raise CommandError(f"{error.detail} The job may still be running: {client.url}/jobs/{job.id}") from error
    return job


def _cancel(client: Client, job: Job) -> str:
    """Cancel the job, and say whether that worked."""
    from msd_client import MsdError

    try:
        client.cancel(job.id)
    except MsdError as error:
        return f"Not canceled: {error.detail} The job: {client.url}/jobs/{job.id}"
    return "Canceled."


def _tell(client: Client, job: Job) -> None:
    """Show the job's warnings and references.

    Raises:
        CommandError: it made no picture.
    """
    for warning in job.warnings:
        typer.echo(f"Note: {warning.detail}", err=True)
    for index in job.references:
        typer.echo(f"What the model sees of subject {index}: {client.reference_url(job.id, index)}", err=True)
    require_success(job)


def require_success(job: Job) -> None:
    """Give up on a job that has no pictures.

    Raises:
        CommandError: it did not succeed.
    """
    if job.status != "succeeded":
        raise CommandError(job.error or f"The job was {job.status}; no picture was made.")


def _save(client: Client, job: Job, paths: Sequence[Path], force: bool, phrases: Sequence[str]) -> None:
    for path, image in zip(paths, job.images, strict=True):
        content = client.image(job.id, image.index)
        # Exclusively: another command may have saved its picture there meanwhile, but a device is no file.
        mode = "wb" if force or (path.exists() and not path.is_file()) else "xb"
        try:
            with path.open(mode) as file:
                file.write(content)
        except OSError as error:
            kept = f"{client.url}/jobs/{job.id}/images/{image.index}"
            raise CommandError(f"Cannot save the picture as {path}: {error.strerror}. It is kept as {kept}") from error
        typer.echo(f"{path} (seed {image.seed})")
        if image.score is not None:
            _print_score(image.score, phrases)


def _print_score(score: Score, phrases: Sequence[str]) -> None:
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
    for number, redraw in enumerate(score.redraws, 2):
        what = "all" if redraw.subject is None else phrases[redraw.subject]
        typer.echo(f"draw {number}: {what} again, {'kept' if redraw.kept else 'not kept'}")


def give_up(sentence: str) -> NoReturn:
    """Say it on stderr, and end with 1."""
    typer.echo(f"msd: {sentence}", err=True)
    raise typer.Exit(1)
