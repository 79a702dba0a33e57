"""``msd doctor``: checks what works on this machine and in its models, and says how to fix what does not."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import Data

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from cli.checks.model_directories import NamedDirectory
    from cli.checks.section import Section
    from worker.config import WorkerSettings
    from worker.devices import Device

    Step = tuple[str, Callable[[], Section]]

# What is wrong with one device, or leaves the CPU to work on.
_HARMLESS_TO_OTHERS = {"device_unusable", "devices_hidden", "torch_for_cpu"}
_COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}


def doctor(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A model's name or directory; may be repeated. All models if left out."),
    ] = None,
    data: Data = Path("data"),
    hashes: Annotated[
        bool, typer.Option("--hashes", help="Also read every file of the models and check its SHA-256.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
    generate: Annotated[
        bool, typer.Option("--generate/--no-generate", help="Make one tiny picture on each device.")
    ] = True,
) -> None:
    """Check everything that making a picture needs, and say how to fix what is wrong.

    Exits with 1 if there is an error. With warnings only, everything works.
    """
    from worker.config import WorkerSettings

    settings = WorkerSettings.load(data_dir=data)
    checkup = Checkup(settings, tuple(model or ()), hashes, generate)
    sections = _print_json(checkup) if as_json else _print_lines(checkup)
    if any(section.has_error for section in sections):
        raise typer.Exit(1)


@dataclass(slots=True)
class Checkup:
    """All steps, in an order in which each can use what came before.

    Attributes:
        settings: as a worker would have them.
        wanted: models to look at, by name or path; empty for all.
        hashes: whether files are read as a whole.
        generate: whether pictures are tried.
    """

    settings: WorkerSettings
    wanted: tuple[str, ...]
    hashes: bool
    generate: bool
    _torch_works: bool = field(default=True, init=False)
    _healthy: list[NamedDirectory] = field(default_factory=list["NamedDirectory"], init=False)

    @property
    def _device(self) -> Literal["auto", "cpu", "cuda"]:
        """The setting MSD_DEVICE, as workers take it."""
        return "cpu" if self.settings.memory_mode == "cpu" else self.settings.device

    def steps(self) -> Generator[Step]:
        """Title and check of each step; a check must be run before the next step is asked for."""
        from importlib.util import find_spec

        from cli.checks.disk import check_disk
        from cli.checks.gpus import check_gpus, list_gpus
        from cli.checks.model_directories import find_directories
        from cli.checks.python import check_python
        from cli.checks.redis import check_redis
        from worker.models import BUNDLED_MODELS

        gpus = list_gpus()
        yield "Python", check_python
        yield "Devices", lambda: check_gpus(gpus)
        yield "torch", lambda: self._check_torch(gpus)
        yield "Redis", lambda: check_redis(self._redis_url())
        yield "Disk", lambda: check_disk(self.settings.data_dir, self.settings.models_dir or BUNDLED_MODELS)
        # Comes with what a worker needs, as does all that can be downloaded for.
        if find_spec("huggingface_hub") is not None:
            from cli.checks.downloads import check_downloads

            yield "Downloads", check_downloads
        for found in find_directories(self.wanted, self.settings.models_dir):
            place = f" in {found.directory}" if found.directory.exists() else ""
            yield f"Model {found.name}{place}", lambda found=found: self._check_model(found)
        if self.generate:
            yield from self._trials()

    def _check_torch(self, gpus: Any) -> Section:
        from cli.checks.torch_build import check_torch, probe_torch

        section = check_torch(probe_torch(), gpus, self._device)
        codes = {finding.code for finding in section.findings if finding.level == "error"}
        self._torch_works = codes <= _HARMLESS_TO_OTHERS
        return section

    def _check_model(self, found: NamedDirectory) -> Section:
        from cli.checks.model_directories import check_model

        section = check_model(found, self.hashes)
        if not section.has_error:
            self._healthy.append(found)
        return section

    def _redis_url(self) -> str | None:
        """What ``msd up`` would use: if nothing is set, it starts its own Redis."""
        import os

        return os.environ.get("MSD_REDIS_URL")

    def _trials(self) -> Generator[Step]:
        """One picture on each device with each model that was asked for, else with the one of MSD_MODEL."""
        reason = self._why_no_trial()
        if reason is not None:
            yield "One tiny picture", lambda: _not_tried(reason)
            return
        from cli.checks.trial import try_picture
        from worker.models import FoundModel

        for found in self._to_try():
            for device in self._devices():
                title = f"One tiny picture with {found.name} on {device.label}"
                known = FoundModel(found.name, found.directory)
                yield title, lambda known=known, device=device: try_picture(known, device)

    def _why_no_trial(self) -> str | None:
        if not self._torch_works:
            return "torch does not work"
        if not self._to_try():
            return "no model is without errors"
        return None

    def _to_try(self) -> list[NamedDirectory]:
        if self.wanted:
            return self._healthy
        chosen = [found for found in self._healthy if self.settings.model in (found.name, str(found.directory))]
        return (chosen or self._healthy)[:1]

    def _devices(self) -> Sequence[Device]:
        from worker.devices import find_devices

        return find_devices(self._device)


def _not_tried(reason: str) -> Section:
    from cli.checks.section import Section
    from ms_core.model_dir.inspection import Finding

    sentence = f"No picture was tried: {reason}."
    return Section((Finding.warning("not_tried", sentence, "Fix that first, then run msd doctor again."),))


def _print_json(checkup: Checkup) -> list[Section]:
    import json
    from dataclasses import asdict

    done = [(title, check()) for title, check in checkup.steps()]
    errors, warnings = _counts([section for _, section in done])
    told = {
        "errors": errors,
        "warnings": warnings,
        "sections": [
            {"title": title, "findings": [asdict(finding) for finding in section.findings], "facts": section.facts}
            for title, section in done
        ],
    }
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    return [section for _, section in done]


def _print_lines(checkup: Checkup) -> list[Section]:
    from rich.console import Console

    console = Console(highlight=False)
    sections: list[Section] = []
    for title, check in checkup.steps():
        # The title first: some checks take a while.
        console.print(title, style="bold", markup=False, soft_wrap=True)
        section = check()
        sections.append(section)
        for finding in section.findings:
            _print_finding(console, finding)
    errors, warnings = _counts(sections)
    console.print(
        f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}." if errors + warnings else "\nAll is well."
    )
    return sections


def _print_finding(console: Console, finding: Any) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    rows = [(Text(finding.level, style=_COLOURS[finding.level]), finding.sentence)]
    rows += [(Text(""), f"To do: {finding.remedy}")] if finding.remedy else []
    if not console.is_terminal:
        # One line each, whatever their length, for logs and searches.
        for level, text in rows:
            console.print(f"  {level.plain:<9}{text}", markup=False, soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(width=7, no_wrap=True)
    table.add_column()
    for level, text in rows:
        table.add_row(level, Text(text))
    console.print(Padding(table, (0, 0, 0, 2)))


def _counts(sections: Sequence[Section]) -> tuple[int, int]:
    """How many errors there are, and how many warnings."""
    levels = [str(finding.level) for section in sections for finding in section.findings]
    return levels.count("error"), levels.count("warning")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
