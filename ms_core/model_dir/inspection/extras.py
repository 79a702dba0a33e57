"""What lies beside a model's weights: LoRAs, ControlNets, embeddings, a scorer, the presets' needs, leftovers of downloads."""

from __future__ import annotations

from pathlib import Path

from ms_core.config import CONTROLNETS, EMBEDDINGS, LORAS, SCORER_FILE, ModelCard
from ms_core.model_dir.inspection.base import base_name
from ms_core.model_dir.inspection.components import peek_number
from ms_core.model_dir.inspection.files import UNFINISHED, note_missing, read_tensors
from ms_core.model_dir.inspection.findings import Notes

UNFIT_CONTROLNET = "unfit_controlnet"
PRESET_WITHOUT_LORA = "preset_without_lora"


def unfinished_files(directory: Path) -> list[str]:
    """Paths of files whose download has not ended, hidden ones included."""
    return sorted(
        file.relative_to(directory).as_posix() for file in directory.rglob(f"*{UNFINISHED}") if file.is_file()
    )


def check_extras(directory: Path, card: ModelCard, notes: Notes) -> None:
    """Note extras that cannot be used; except for the scorer that its card names, the model works without them."""
    for folder in (LORAS, CONTROLNETS, EMBEDDINGS):
        for file in sorted((directory / folder).rglob("*.safetensors")):
            read_tensors(directory, file.relative_to(directory).as_posix(), notes)
    if card.scorer is not None:
        _check_scorer(directory, notes)
    for name in card.extras.controls:
        _check_controlnet(directory, name, card, notes)
    for name, preset in card.presets.items():
        for lora in preset.loras:
            if lora.name not in card.extras.loras:
                path = f"{LORAS}/{lora.name}.safetensors"
                sentence = f"The preset {name} needs {path}, which is not there."
                notes.warning(PRESET_WITHOUT_LORA, sentence, f"To use the preset, put the LoRA there as {path}.", path)


def _check_scorer(directory: Path, notes: Notes) -> None:
    if (directory / SCORER_FILE).is_file():
        read_tensors(directory, SCORER_FILE, notes)
    else:
        note_missing(directory, SCORER_FILE, lambda other: False, notes)


def _check_controlnet(directory: Path, name: str, card: ModelCard, notes: Notes) -> None:
    path = f"{CONTROLNETS}/{name}"
    width = peek_number(directory, path, "cross_attention_dim")
    if width not in (None, card.resampler.output_dim):
        sentence = f"The ControlNet {name} is made for {base_name(width)}, this model is {base_name(card.resampler.output_dim)}."
        notes.error(UNFIT_CONTROLNET, sentence, f"Put a ControlNet for this base into {path}/, or remove it.", path)
