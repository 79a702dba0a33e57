"""Which base model a directory holds, and whether MS-Diffusion's adapter can work on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ms_core.config import ModelCard
from ms_core.model_dir.inspection.components import UNET, peek_number
from ms_core.model_dir.inspection.files import BROKEN_FILE, JsonObject
from ms_core.model_dir.inspection.findings import Notes

WRONG_BASE = "wrong_base"

TRANSFORMER = "transformer"
_SDXL_PIPELINE = "StableDiffusionXL"
# Bases by the width of the text that their UNets read.
_BASES = {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 1280: "the SDXL refiner", 2048: "SDXL"}
# Bases without a UNet, by the beginning of their pipeline's class.
_FAMILIES = {"Flux": "Flux", "StableDiffusion3": "Stable Diffusion 3"}
_LIBRARIES = ("diffusers", "transformers")
_OWN_PACKAGE = "ms_core."

_TAKE_SDXL = (
    "Take an SDXL model: msd download sdxl, or make a directory from an SDXL checkpoint of yours with msd convert."
)


def base_name(text_width: int | None) -> str:
    """The base whose UNet reads text of this width."""
    if text_width is None:
        return "a base of unknown width"
    return _BASES.get(text_width, f"a base whose text is {text_width} wide")


def is_right_base(directory: Path, index: JsonObject | None, card: ModelCard | None, notes: Notes) -> bool:
    """Whether the directory holds the base that its adapter needs; notes it if not.

    Args:
        index: content of ``model_index.json``, if it can be read.
        card: the model's, if it can be read; without one the base must not be one that is known to be another.
    """
    pipeline = str((index or {}).get("_class_name", ""))
    if not (directory / UNET).is_dir() and (TRANSFORMER in (index or {}) or (directory / TRANSFORMER).is_dir()):
        notes.error(WRONG_BASE, f"{_family(pipeline)}; MS-Diffusion works on SDXL only.", _TAKE_SDXL)
        return False
    width = peek_number(directory, UNET, "cross_attention_dim")
    wanted = None if card is None else card.resampler.output_dim
    is_other = width in set(_BASES) - {2048} if wanted is None else width not in (None, wanted)
    if is_other:
        trained = base_name(2048 if wanted is None else wanted)
        sentence = f"The base here is {base_name(width)} (text {width} wide); its adapter needs {trained}."
        notes.error(WRONG_BASE, sentence, _TAKE_SDXL, UNET)
        return False
    if pipeline and not pipeline.startswith(_SDXL_PIPELINE):
        notes.error(WRONG_BASE, f"The base here is of the class {pipeline}, not SDXL.", _TAKE_SDXL)
        return False
    return True


def component_classes(index: JsonObject) -> dict[str, tuple[str, str]]:
    """Library and class of each component of an index that the model has."""
    entries = {name: cast("list[Any]", entry) for name, entry in index.items() if isinstance(entry, list)}
    return {name: (str(entry[0]), str(entry[1])) for name, entry in entries.items() if len(entry) == 2 and entry[0]}


def check_libraries(index: JsonObject, notes: Notes) -> None:
    """Note components whose code would come from elsewhere; they are never loaded."""
    for name, (library, kind) in component_classes(index).items():
        if library not in _LIBRARIES and not library.startswith(_OWN_PACKAGE):
            sentence = f"The index takes {name} from {library!r} ({kind}), whose code is not allowed to run here."
            notes.error(BROKEN_FILE, sentence, f"Take {name} from a model whose index names diffusers for it.", name)


def _family(pipeline: str) -> str:
    family = next((name for start, name in _FAMILIES.items() if pipeline.startswith(start)), None)
    if family is not None:
        return f"The base here is {family}"
    return f"The base here has a transformer instead of a UNet ({pipeline or 'no pipeline named'})"
