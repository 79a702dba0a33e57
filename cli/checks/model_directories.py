"""Which model directories there are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.checks.section import Section
from ms_core.model_dir.inspection import Finding, Level, inspect_model, looks_like_model
from ms_jobs.records import is_model_name
from worker.models import BUNDLED_MODELS


@dataclass(frozen=True, slots=True)
class NamedDirectory:
    """A directory to look at, and what to call it; ``asked`` is how the user did."""

    name: str
    directory: Path
    asked: str = ""


def find_directories(wanted: Sequence[str], models_dir: Path | None) -> list[NamedDirectory]:
    """The models that are wanted, or all of them: the bundled ones and those of ``models_dir``.

    Unlike the worker's own search it finds broken ones too, and takes a path that leads nowhere.

    Args:
        wanted: names or paths; empty for all.
        models_dir: the setting MSD_MODELS_DIR.
    """
    roots = [root for root in (models_dir, BUNDLED_MODELS) if root is not None]
    if wanted:
        return [_find(name_or_path, roots) for name_or_path in wanted]
    found = [_named(path) for root in roots if root.is_dir() for path in sorted(root.iterdir()) if _is_candidate(path)]
    return list({item.directory: item for item in found}.values())


def check_model(model: NamedDirectory, hashes: bool) -> Section:
    """Everything about one model directory."""
    if not model.directory.exists():
        return Section((_unknown(model),), {"directory": str(model.directory)})
    report = inspect_model(model.directory, hashes)
    # What must be fixed comes last, where it is read.
    findings = tuple(sorted(report.findings, key=lambda finding: tuple(Level).index(finding.level)))
    return Section(findings, {"directory": str(model.directory), "parts": dict(report.facts)})


def _find(name_or_path: str, roots: Sequence[Path]) -> NamedDirectory:
    by_name = [root / name_or_path for root in roots] if is_model_name(name_or_path) else []
    return _named(next((path for path in by_name if path.is_dir()), Path(name_or_path)), name_or_path)


def _named(path: Path, asked: str = "") -> NamedDirectory:
    return NamedDirectory(path.resolve().name, path.resolve(), asked)


def _unknown(model: NamedDirectory) -> Finding:
    if not is_model_name(model.asked):
        return Finding.error("no_model", f"There is no {model.directory}.", "Give the path of a model directory.")
    sentence = f"There is no model {model.asked!r}, neither by name nor in this folder."
    remedy = "Fetch it (for SDXL: msd download sdxl), or give the path of a model directory."
    return Finding.error("no_model", sentence, remedy)


def _is_candidate(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and looks_like_model(path)
