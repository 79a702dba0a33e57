"""Where the parts of the SDXL model lie on the hub: repositories and names of files, and what extras are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ms_core.config import CONTROLNETS, LORAS, Preset
from ms_core.model_dir.provision.hub import Part, Wanted
from ms_core.model_dir.provision.presets import SDXL_LORAS, SDXL_PRESETS

_BASE_REPOSITORY = "stabilityai/stable-diffusion-xl-base-1.0"
ADAPTER_FILE = "ms_adapter.bin"
DEFAULT_IMAGE_ENCODER = "ip-adapter"

_DIFFUSERS = "diffusion_pytorch_model"


def _one(path: str) -> Wanted:
    return Wanted(((path,),))


def _half(folder: str, stem: str) -> tuple[Wanted, Wanted]:
    """A component's config and its weights, float16 if there are such."""
    return _one(f"{folder}config.json"), Wanted(
        ((f"{folder}{stem}.fp16.safetensors",), (f"{folder}{stem}.safetensors",))
    )


def _tokenizer(name: str) -> tuple[Wanted, ...]:
    vocabulary = ((f"{name}/vocab.json", f"{name}/merges.txt"), (f"{name}/tokenizer.json",))
    special = Wanted(((f"{name}/special_tokens_map.json",),), optional=True)
    return _one(f"{name}/tokenizer_config.json"), Wanted(vocabulary), special


_SMALL_FILES = (
    _one("model_index.json"),
    _one("scheduler/scheduler_config.json"),
    *_tokenizer("tokenizer"),
    *_tokenizer("tokenizer_2"),
)
CONFIGS = Part(
    "configs",
    _BASE_REPOSITORY,
    (*_SMALL_FILES, *(_one(f"{name}/config.json") for name in ("unet", "vae", "text_encoder", "text_encoder_2"))),
)
BASE = Part(
    "base",
    _BASE_REPOSITORY,
    (
        *_SMALL_FILES,
        *_half("unet/", _DIFFUSERS),
        *_half("text_encoder/", "model"),
        *_half("text_encoder_2/", "model"),
        Wanted((("LICENSE.md",),), optional=True),
    ),
)
VAE = Part("vae", "madebyollin/sdxl-vae-fp16-fix", (_one("config.json"), _one(f"{_DIFFUSERS}.safetensors")))
ADAPTER = Part("adapter", "doge1516/MS-Diffusion", (_one(ADAPTER_FILE),))

_IP_ADAPTER_FOLDER = "sdxl_models/image_encoder/"
IMAGE_ENCODERS: Mapping[str, Part] = {
    "ip-adapter": Part("image-encoder", "h94/IP-Adapter", _half(_IP_ADAPTER_FOLDER, "model")),
    # A whole CLIP, of which the tower that looks at pictures is taken.
    "laion": Part(
        "image-encoder",
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        (
            _one("config.json"),
            Wanted((("preprocessor_config.json",),), optional=True),
            Wanted(
                (
                    ("model.safetensors",),
                    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
                    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
                )
            ),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Extra:
    """Something to have beside the model.

    Attributes:
        part: to fetch.
        places: in the model directory, by the file they take from the repository; a ControlNet's is a folder.
    """

    part: Part
    places: Mapping[str, str]


def _few_steps(extra: str, *names: str) -> Extra:
    """LoRAs of one repository, by their names in the model."""
    sources = {name: SDXL_LORAS[name] for name in names}
    [repository] = {source.repository for source in sources.values()}
    part = Part(extra, repository, tuple(_one(source.file) for source in sources.values()))
    return Extra(part, {source.file: f"{LORAS}/{name}.safetensors" for name, source in sources.items()})


def _controlnet(extra: str, name: str, repository: str) -> Extra:
    return Extra(Part(extra, repository, _half("", _DIFFUSERS)), {"config.json": f"{CONTROLNETS}/{name}"})


EXTRAS: Mapping[str, Extra] = {
    "lightning": _few_steps("lightning", "sdxl_lightning_4step_lora", "sdxl_lightning_8step_lora"),
    "lcm": _few_steps("lcm", "lcm-lora-sdxl"),
    "hyper": _few_steps("hyper", "Hyper-SDXL-8steps-lora"),
    "controlnet-depth": _controlnet("controlnet-depth", "depth", "xinsir/controlnet-depth-sdxl-1.0"),
    "controlnet-canny": _controlnet("controlnet-canny", "canny", "xinsir/controlnet-canny-sdxl-1.0"),
    "controlnet-pose": _controlnet("controlnet-pose", "pose", "xinsir/controlnet-openpose-sdxl-1.0"),
}


def presets_of(extras: Iterable[str]) -> dict[str, Preset]:
    """The presets whose LoRAs come with some extras, by name."""
    places = {place for name in extras for place in EXTRAS[name].places.values()}
    return {
        name: preset
        for name, preset in SDXL_PRESETS.items()
        if all(f"{LORAS}/{lora.name}.safetensors" in places for lora in preset.loras)
    }
