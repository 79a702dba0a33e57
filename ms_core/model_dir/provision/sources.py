"""What a model directory is made of, before it is made; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ms_core.config import CONTROLNETS, EMBEDDINGS, LORAS, WEIGHTS_FILE, ModelCard, ReferenceConfig
from ms_core.model_dir.inspection.components import IMAGE_ENCODER, VAE
from ms_core.model_dir.provision.bases import read_json

SOURCES_FILE = "sources.json"

# Sizes SDXL was trained on, (height, width), those near the square first.
SDXL_SIZES = (
    (1024, 1024),
    (896, 1152),
    (1152, 896),
    (832, 1216),
    (1216, 832),
    (768, 1344),
    (1344, 768),
    (640, 1536),
    (1536, 640),
)


def sdxl_card() -> ModelCard:
    """The card of a model with the released adapter: its training cut references out on black."""
    return ModelCard(
        name="sdxl",
        reference=ReferenceConfig(background=(0, 0, 0)),
        sizes=SDXL_SIZES,
        licence="Apache-2.0 (adapter); base, VAE, image encoder and extras as their sources say, see sources.json",
    )


@dataclass(frozen=True, slots=True)
class ModelSources:
    """What a model directory is made of.

    Attributes:
        base: a folder in the diffusers layout, with or without the fp16 variant, or a single-file checkpoint.
        image_encoder: a folder with a CLIP vision tower, or with a whole CLIP, of which the tower is taken.
        adapter: the authors' ``ms_adapter.bin``, or a converted ``ms_adapter.safetensors``.
        card: of the new model; the resampler's sizes are read from the adapter, unless it is converted already.
        made_with: the command that makes the directory again.
        vae: a folder with a VAE; ``None`` takes the base's.
        configs: a folder in the diffusers layout with configs and tokenizers; needed for a single file.
        extras: files and folders beside the model, by their path in it, such as ``loras/lcm.safetensors``.
        origins: of each part, from ``sources.json``.
        heads: of the resampler's attention, which the authors' file does not state; ``None`` takes heads of 64, as released.
    """

    base: Path
    image_encoder: Path
    adapter: Path
    card: ModelCard
    made_with: str
    vae: Path | None = None
    configs: Path | None = None
    extras: Mapping[str, Path] = field(default_factory=dict[str, Path])
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    heads: int | None = None


def sources_from(directory: Path, base: Path, made_with: str) -> ModelSources:
    """Sources of a model directory with another base: all else, its VAE included, is taken from it.

    Raises:
        ModelNotFoundError: it is not a model directory.
        CheckpointError: its card or its list of sources is not valid.
    """
    origins = read_json(directory / SOURCES_FILE) if (directory / SOURCES_FILE).is_file() else {}
    return ModelSources(
        base=base,
        image_encoder=directory / IMAGE_ENCODER,
        adapter=directory / WEIGHTS_FILE,
        card=ModelCard.load(directory),
        made_with=made_with,
        vae=directory / VAE,
        configs=directory,
        extras={
            path.relative_to(directory).as_posix(): path
            for path in (
                *sorted(directory.glob(f"{LORAS}/*.safetensors")),
                *sorted(config.parent for config in directory.glob(f"{CONTROLNETS}/*/config.json")),
                *sorted(directory.glob(f"{EMBEDDINGS}/*.safetensors")),
            )
            # What a file system or a desktop puts beside them is hidden.
            if not path.name.startswith(".")
        },
        origins=origins,
    )
