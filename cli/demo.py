"""``msd demo``: runs the whole service for one real request, and draws the result."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.generate import INTERRUPTED_EXIT_CODE, give_up, require_success
from cli.options import Force, Model, require_new_file
from cli.request_options import CommandError, SubjectOption, parse_subject

if TYPE_CHECKING:
    from msd_client import Client

REFERENCES = Path(__file__).resolve().parent.parent / "assets" / "demo"
PROMPT = "a tomato and a leafy green on a wooden table"
SUBJECTS = [
    f"tomato={REFERENCES / 'tomato.png'}@0.05,0.34,0.45,0.74",
    f"leafy green={REFERENCES / 'leafy-green.png'}@0.55,0.34,0.95,0.74",
]
READY_TIMEOUT_S = 300.0
STOP_GRACE_S = 30.0
POLL_INTERVAL_S = 0.1


@dataclass(slots=True)
class Laps:
    """Prints how long each part took."""

    begin: float = field(default_factory=time.monotonic)

    def end(self, part: str) -> None:
        """Say how long it took since the last part ended."""
        now = time.monotonic()
        typer.echo(f"{now - self.begin:6.1f} s  {part}")
        self.begin = now


@dataclass(frozen=True, slots=True)
class Service:
    """A service that the demo started."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path


def demo(
    prompt: Annotated[str, typer.Option(help="What the picture shows.")] = PROMPT,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            "-s",
            help="Your own instead of the bundled subjects: phrase=picture.png@x_min,y_min,x_max,y_max.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to save the picture.")] = Path("demo.png"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same picture.")] = 0,
    model: Model = "mini",
    force: Force = False,
) -> None:
    """Start the service, make one picture, save it beside its references and boxes, and stop the service."""
    from cli.client import refusal
    from msd_client import MsdError

    # A demo that is told to end stops its service, as one that is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    require_new_file(out, force)
    try:
        _make_demo(prompt, [parse_subject(option) for option in subject or SUBJECTS], seed, model, out)
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    except CommandError as error:
        give_up(str(error))
    except MsdError as error:
        give_up(refusal(error))


def _make_demo(prompt: str, subjects: Sequence[SubjectOption], seed: int, model: str, out: Path) -> None:
    from cli.client import service_client

    if not all(subject.box and subject.paths for subject in subjects):
        raise CommandError(
            "The demo draws pictures and boxes, so give each subject both, such as cat=cat.png@0.05,0.35,0.47,0.8."
        )
    request = {"prompt": prompt, "subjects": [subject.to_json() for subject in subjects], "seed": seed}
    laps = Laps()
    with TemporaryDirectory(prefix="msd-demo-", ignore_cleanup_errors=True) as folder:
        with _running_service(model, Path(folder)) as service, service_client(service.url) as client:
            _wait_until_ready(client, service)
            laps.end("to start Redis, the API and a worker, and to load the model")
            result = _make_picture(client, request)
            laps.end("from the request to the picture")
        laps.end("to stop everything")
    _save(prompt, subjects, result, out)
    laps.end(f"to draw {out}")


@contextmanager
def _running_service(model: str, folder: Path) -> Generator[Service]:
    """Run ``msd up`` with its own queue and data below ``folder`` while the block runs."""
    from worker.process import Command, end_process, free_port, start_process

    port = free_port()
    log = folder / "up.log"
    argv = [sys.executable, "-m", "cli.main", "up", "--port", str(port), "--model", model, "--data", f"{folder}/data"]
    # An empty address makes it start its own Redis, which has no key.
    process = start_process(Command("service", argv, {"MSD_REDIS_URL": "", "MSD_AUTH": "off"}, log))
    try:
        yield Service(process, f"http://127.0.0.1:{port}", log)
    finally:
        end_process(process, STOP_GRACE_S)


def _wait_until_ready(client: Client, service: Service) -> None:
    """Wait for a loaded model.

    Raises:
        CommandError: the service ended, cannot load the model, or takes too long.
    """
    from msd_client import MsdError

    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise CommandError(f"The service stopped while starting. {_last_words(service.log)}")
        try:
            readiness = client.readiness()
        except MsdError:
            pass  # The API does not listen yet.
        else:
            if readiness.is_ready:
                return
            if readiness.status == "unavailable":
                raise CommandError(f"The service cannot work. {readiness.detail}")
        time.sleep(POLL_INTERVAL_S)
    raise CommandError(f"The service was not ready within {READY_TIMEOUT_S:.0f} s. {_last_words(service.log)}")


def _last_words(log: Path) -> str:
    """The last line of a log, without the name that commands set before their sentence."""
    lines = log.read_text(errors="replace").splitlines() or ["Its log is empty."]
    return lines[-1].removeprefix("msd: ")


def _make_picture(client: Client, request: dict[str, Any]) -> bytes:
    """Send the request, wait for its end, and fetch the PNG.

    Raises:
        CommandError: the job did not succeed.
    """
    job = client.wait(client.submit(**request).id)
    for warning in job.warnings:
        typer.echo(f"Note: {warning.detail}", err=True)
    require_success(job)
    return client.image(job.id, 0)


def _save(prompt: str, subjects: Sequence[SubjectOption], png: bytes, out: Path) -> None:
    from PIL import Image, ImageOps

    from cli.demo_picture import DrawnSubject, draw_demo

    result = Image.open(io.BytesIO(png))
    drawn = [
        DrawnSubject(
            subject.phrase, ImageOps.exif_transpose(Image.open(subject.paths[0])), subject.normalised_box(result.size)
        )
        for subject in subjects
    ]
    page = draw_demo(prompt, drawn, result)
    try:
        page.save(out, "PNG")
    except OSError as error:
        raise CommandError(f"Cannot save the picture as {out}: {error.strerror}.") from error
