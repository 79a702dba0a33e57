"""``msd download sdxl``: fetch SDXL and the released adapter, and make one model directory of them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import again_command
from ms_core.errors import DownloadError

if TYPE_CHECKING:
    from rich.console import Console

    from ms_core.model_dir.provision.download import DownloadPlan
    from ms_core.model_dir.provision.hub import Hub


_INTERRUPTED = 130


class ImageEncoder(StrEnum):
    """Where the vision tower comes from; both hold the same weights."""

    IP_ADAPTER = "ip-adapter"
    LAION = "laion"


class ExtraName(StrEnum):
    """What can be had beside the model."""

    LIGHTNING = "lightning"
    LCM = "lcm"
    HYPER = "hyper"
    CONTROLNET_DEPTH = "controlnet-depth"
    CONTROLNET_CANNY = "controlnet-canny"
    CONTROLNET_POSE = "controlnet-pose"


download = typer.Typer(help="Download a model.", no_args_is_help=True)


@download.callback()
def _group() -> None:
    """Download a model."""


@download.command()
def sdxl(  # noqa: PLR0913 - each is an option of the command
    out: Annotated[Path, typer.Option(help="Folder of the model.")] = Path("models/sdxl"),
    revision: Annotated[
        list[str] | None,
        typer.Option(help="Branch, tag or commit of the base, or PART=REVISION for another part; may be repeated."),
    ] = None,
    image_encoder: Annotated[
        ImageEncoder,
        typer.Option(help="Repository of the vision tower; laion has the same weights, but is a download of 10 GB."),
    ] = ImageEncoder.IP_ADAPTER,
    extras: Annotated[
        list[ExtraName] | None, typer.Option("--with", help="A few-step LoRA or a ControlNet to add; may be repeated.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use only what is in the hub's cache.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be downloaded, and stop.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model directory at OUT.")] = False,
    resampler_heads: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
) -> None:
    """Download SDXL, a VAE safe in float16, the vision tower and the released adapter: about 13 GB.

    If it is interrupted, run it again to continue. HF_TOKEN, HF_HOME and HF_ENDPOINT are respected.
    """
    from rich.console import Console

    from ms_core.model_dir.provision.download import DownloadRequest, check_rooms, plan_download
    from ms_core.model_dir.provision.hub import Hub
    from worker.models import BUNDLED_MODELS

    console, hub = Console(), Hub(offline)
    request = DownloadRequest(
        target=out,
        made_with=again_command(),
        image_encoder=image_encoder.value,
        extras=tuple(dict.fromkeys(name.value for name in extras or ())),
        revisions=_revisions(revision or ()),
        force=force,
        heads=resampler_heads,
    )
    with console.status("Asking the hub" if not hub.offline else "Looking in the cache"):
        plan = plan_download(request, hub)
    _show(plan, hub, console)
    check_rooms(plan)
    if not dry_run:
        try:
            _run(plan, hub, console)
        except KeyboardInterrupt as error:
            console.print("Stopped. Run the same command again to continue.")
            raise typer.Exit(_INTERRUPTED) from error
        name = out.name if out.resolve().parent == BUNDLED_MODELS else out
        console.print(f"The model is in {out}; start it with: msd up --model {name}", highlight=False, soft_wrap=True)


def _revisions(given: Sequence[str]) -> dict[str, str]:
    revisions: dict[str, str] = {}
    for text in given:
        part, separator, revision = text.rpartition("=")
        if not revision or (separator and not part):
            raise DownloadError(f"{text!r} is not a revision; give REVISION for the base, or PART=REVISION.")
        revisions[part or "base"] = revision
    return revisions


def _show(plan: DownloadPlan, hub: Hub, console: Console) -> None:
    """Every file with its size and what is there of it, and the room on disk."""
    from rich.table import Table

    from ms_core.model_dir.inspection.headers import format_size

    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    for title in ("size", "in the cache"):
        table.add_column(title, justify="right", no_wrap=True)
    for part, files in groupby(plan.files, key=lambda file: (file.part, file.repository, file.commit)):
        table.add_row(f"{part[0]}: {part[1]} at {part[2][:12]}", "", "")
        for file in files:
            there = "yes" if not file.missing else format_size(file.present) if file.present else "no"
            table.add_row(f"  {file.path}", format_size(file.size), there)
    console.print(table, highlight=False)
    sums = f"{format_size(plan.size)} in all, of which {format_size(plan.missing)} must be downloaded into {hub.cache}."
    console.print(sums, highlight=False, soft_wrap=True)
    for room in plan.rooms:
        sums = f"{room.path} needs {format_size(room.needed)} and has {format_size(room.free)} free."
        console.print(sums, highlight=False, soft_wrap=True)


def _run(plan: DownloadPlan, hub: Hub, console: Console) -> None:
    """Fetch and assemble, with progress in bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from ms_core.model_dir.provision.download import fetch_model
    from ms_core.model_dir.provision.hub import HubFile

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        total = progress.add_task("All", total=plan.size, completed=plan.size - plan.missing)
        current = progress.add_task("", total=None, visible=False)

        def on_bytes(file: HubFile, count: int) -> None:
            if progress.tasks[1].description != file.path:
                progress.reset(current, description=file.path, total=file.size, completed=file.present, visible=True)
            progress.advance(current, count)
            progress.advance(total, count)

        sources = fetch_model(plan, hub, on_bytes)
    with console.status("Making the model") as status:
        # Only now, for it brings torch along.
        from ms_core.model_dir.provision.convert import build_model

        request = plan.request
        build_model(sources, request.target, request.force, lambda text: status.update(f"Making the model: {text}"))
