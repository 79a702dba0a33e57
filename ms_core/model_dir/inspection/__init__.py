"""What a model directory holds and what is wrong with it, read from config files and the headers of weights alone.

No weights are loaded, and torch is not needed. Nothing here knows a model by its name: sizes are compared with one another
and with the model's card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ms_core.config import CARD_FILE, WEIGHTS_FILE, ModelCard
from ms_core.errors import CheckpointError
from ms_core.model_dir.inspection.adapter import (
    NO_ADAPTER,
    OFFICIAL_FILE,
    adapter_facts,
    check_adapter,
    describe_adapter,
    has_adapter,
    read_adapter,
)
from ms_core.model_dir.inspection.base import TRANSFORMER, WRONG_BASE, check_libraries, is_right_base
from ms_core.model_dir.inspection.components import (
    IMAGE_ENCODER,
    TEXT_ENCODERS,
    TOKENIZERS,
    UNET,
    VAE,
    Component,
    check_small_files,
    check_tokenizer,
    read_component,
)
from ms_core.model_dir.inspection.extras import check_extras, unfinished_files
from ms_core.model_dir.inspection.files import BROKEN_FILE, TRUNCATED_FILE, read_json
from ms_core.model_dir.inspection.findings import Finding, Level, Notes
from ms_core.model_dir.inspection.fit import WRONG_IMAGE_ENCODER, check_fit
from ms_core.model_dir.inventory import (
    INVENTORY_FILE,
    MISSING_FILE,
    RENAMED_FILE,
    RESIZED_FILE,
    FileChange,
    Inventory,
    find_changes,
)

__all__ = ["WRONG_BASE", "WRONG_IMAGE_ENCODER", "Finding", "Level", "ModelReport", "inspect_model", "looks_like_model"]

INDEX_FILE = "model_index.json"
HALF_DOWNLOAD = "half_download"
LEFTOVER = "leftover"
NO_DIRECTORY = "no_directory"
NO_MODEL = "no_model"
SINGLE_FILE = "single_file"
NO_INVENTORY = "no_inventory"

# What a download that broke off explains.
_ABSENT = (MISSING_FILE, TRUNCATED_FILE, RESIZED_FILE, NO_ADAPTER)
# What only model directories hold, whole or not, of our kind or another.
_MARKS = (INDEX_FILE, CARD_FILE, WEIGHTS_FILE, OFFICIAL_FILE, INVENTORY_FILE, UNET, TRANSFORMER)
_CHECKPOINTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What a model directory holds and what was found.

    Attributes:
        directory: that was inspected.
        findings: in the order of the files; the inventory's last.
        facts: class, sizes, dtype and tensors of each part that could be read, JSON-ready.
    """

    directory: Path
    findings: tuple[Finding, ...]
    facts: Mapping[str, Mapping[str, Any]]

    @property
    def is_usable(self) -> bool:
        """Whether no error was found."""
        return all(finding.level is not Level.ERROR for finding in self.findings)


def inspect_model(directory: Path, hashes: bool = False) -> ModelReport:
    """Inspect a model directory.

    Args:
        directory: of the model; a path that is not a directory is a finding, too.
        hashes: also read every file and compare its SHA-256 with the inventory's.
    """
    if not directory.is_dir():
        return ModelReport(directory, (_no_directory(directory),), {})
    if not looks_like_model(directory):
        return ModelReport(directory, (_no_model(directory),), {})
    notes = Notes(_again(directory))
    facts = _inspect(directory, notes)
    changes = _check_inventory(directory, hashes, notes)
    findings = _join(notes.findings, changes)
    return ModelReport(directory, tuple(_tell_unfinished(directory, findings, notes.again)), facts)


def looks_like_model(directory: Path) -> bool:
    """Whether a directory holds anything of a model, be it broken, half there, or of another kind."""
    return any((directory / mark).exists() for mark in _MARKS) or bool(unfinished_files(directory))


def _inspect(directory: Path, notes: Notes) -> dict[str, dict[str, Any]]:
    """Note everything but the inventory; stops where one fault would make the rest a list of its consequences."""
    index = read_json(directory, INDEX_FILE, "_class_name", notes) if (directory / INDEX_FILE).is_file() else None
    card = _read_card(directory, notes)
    if not is_right_base(directory, index, card, notes):
        return {}
    if not (directory / INDEX_FILE).is_file():
        read_json(directory, INDEX_FILE, "_class_name", notes)
    adapted = has_adapter(directory, notes)
    components = _read_components(directory, notes, with_image_encoder=adapted)
    if index is not None:
        check_libraries(index, notes)
    tensors = read_adapter(directory, notes) if adapted else None
    if adapted and card is None and not notes.has_error(CARD_FILE):
        read_json(directory, CARD_FILE, "resampler", notes)
    facts = {component.name: component.facts() for component in components.values()}
    if tensors is not None:
        facts["adapter"] = adapter_facts(tensors)
        notes.ok(describe_adapter(tensors), WEIGHTS_FILE)
    if card is not None:
        check_fit(components, card, notes)
        if tensors is not None and UNET in components and not notes.has_error(UNET):
            check_adapter(tensors, components[UNET], card, notes)
        check_extras(directory, card, notes)
    return facts


def _read_components(directory: Path, notes: Notes, with_image_encoder: bool) -> dict[str, Component]:
    """All components that can be read; the others are noted."""
    names = (UNET, VAE, *TEXT_ENCODERS, *((IMAGE_ENCODER,) if with_image_encoder else ()))
    found = {name: read_component(directory, name, notes) for name in names}
    for name in TOKENIZERS:
        check_tokenizer(directory, name, notes)
    check_small_files(directory, notes)
    components = {name: component for name, component in found.items() if component is not None}
    for name, component in components.items():
        notes.ok(component.describe(), name)
    return components


def _read_card(directory: Path, notes: Notes) -> ModelCard | None:
    """The model's card; ``None`` if there is none, or, with a note, if it is broken."""
    if not (directory / CARD_FILE).is_file():
        return None
    try:
        return ModelCard.load(directory)
    except (CheckpointError, OSError) as error:
        notes.error(BROKEN_FILE, str(error), notes.again, CARD_FILE)
        return None


def _check_inventory(directory: Path, hashes: bool, notes: Notes) -> list[FileChange]:
    """Compare the files with the inventory; notes how much was compared."""
    if not (directory / INVENTORY_FILE).is_file():
        sentence = f"There is no {INVENTORY_FILE}, so the files cannot be checked against it."
        if hashes:
            notes.warning(
                NO_INVENTORY, sentence, "To compare hashes, make the directory with msd download or msd convert."
            )
        else:
            notes.ok(sentence)
        return []
    try:
        changes = find_changes(directory, hashes)
    except CheckpointError as error:
        notes.error(BROKEN_FILE, error.detail, notes.again, INVENTORY_FILE)
        return []
    if not changes:
        compared = "sizes and SHA-256" if hashes else "sizes (with --hashes also SHA-256)"
        notes.ok(f"All {len(Inventory.load(directory).files)} files are those of {INVENTORY_FILE}, by {compared}.")
    return changes


def _join(findings: list[Finding], changes: list[FileChange]) -> list[Finding]:
    """Findings, and what the comparison with the inventory adds.

    Of a file that is not there the inventory knows more; of any other fault the findings do.
    """
    by_path = {change.path: change for change in changes}
    joined: list[Finding] = []
    for finding in findings:
        change = by_path.get(finding.path)
        is_absent = finding.code in (*_ABSENT, RENAMED_FILE)
        joined.append(_from_change(change) if change is not None and is_absent else finding)
    untold = [change for change in changes if not any(finding.covers(change.path) for finding in joined)]
    return joined + [_from_change(change) for change in untold]


def _from_change(change: FileChange) -> Finding:
    remedy = f"{change.remedy[0].upper()}{change.remedy[1:]}"
    return Finding.error(change.code, f"{change.sentence}.", remedy, change.path)


def _tell_unfinished(directory: Path, findings: list[Finding], again: str) -> list[Finding]:
    """After a broken download, files that are still missing are not separate faults."""
    unfinished = unfinished_files(directory)
    if not unfinished:
        return findings
    absent = [finding for finding in findings if finding.code in _ABSENT]
    if not absent:
        sentence = f"{unfinished[0]} is left over from a download ({len(unfinished)} such files); it is not needed."
        return [*findings, Finding.warning(LEFTOVER, sentence, "Delete it.", unfinished[0])]
    sentence = (
        f"The download was interrupted: {len(unfinished)} files are incomplete, {len(absent)} are missing or cut off "
        f"(such as {absent[0].path})."
    )
    rest = [finding for finding in findings if finding.code not in _ABSENT]
    return [*rest, Finding.error(HALF_DOWNLOAD, sentence, f"What was fetched is kept. {again}")]


def _no_directory(directory: Path) -> Finding:
    if directory.is_file():
        kind = "a single checkpoint file" if directory.suffix in _CHECKPOINTS else "a file"
        sentence = f"{directory.name} is {kind}; a model is a directory."
        return Finding.error(SINGLE_FILE, sentence, "Make a model directory of it with: msd convert (see its --help).")
    return Finding.error(
        NO_DIRECTORY,
        f"There is no model directory {directory}.",
        "Check the name, or fetch a model: msd download sdxl.",
    )


def _no_model(directory: Path) -> Finding:
    files = sorted(file.name for file in directory.iterdir() if file.suffix in _CHECKPOINTS)
    if files:
        sentence = f"{directory.name} is not a model directory; it holds a single checkpoint file, {files[0]}."
        return Finding.error(SINGLE_FILE, sentence, "Make a model directory of it with: msd convert (see its --help).")
    sentence = f"{directory.name} is not a model directory: it holds neither {INDEX_FILE} nor {CARD_FILE}."
    return Finding.error(NO_MODEL, sentence, "Give the directory of a model, or fetch a model: msd download sdxl.")


def _again(directory: Path) -> str:
    """What to do about a file that is missing or broken."""
    try:
        return f"Fetch it again with: {Inventory.load(directory).made_with}"
    except (OSError, CheckpointError):
        return "Restore it from where the model came from: msd download, msd convert, or your copy of this repository."
