"""The numbers of an adapter and the card of a model, as ``ms_adapter.json`` holds them; free of torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ms_core.errors import CheckpointError, not_a_model_directory

CARD_FILE = "ms_adapter.json"
WEIGHTS_FILE = "ms_adapter.safetensors"
SCORER_FILE = "scorer.safetensors"
LORAS = "loras"
CONTROLNETS = "controlnets"
EMBEDDINGS = "embeddings"
# Names that cards and requests use; here, so that the command line knows them without loading what reads pictures.
SCHEDULERS = ("ddim", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_ancestral", "heun", "lcm", "unipc")
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")

# Image encoders by the width of their hidden states; MS-Diffusion was released for the first.
_IMAGE_ENCODERS = {
    1664: "CLIP-ViT-bigG-14 (laion/CLIP-ViT-bigG-14-laion2B-39B-b160k)",
    1280: "CLIP-ViT-H-14",
    1024: "CLIP-ViT-L-14",
    768: "CLIP-ViT-B",
}

# Width of the codes of places on a picture; see ms_core.method.place_codes.
PLACE_CODE_DIM = 32

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class ResamplerConfig:
    """Sizes of the grounding resampler; the defaults are the released checkpoint's (paper section 3.2).

    Attributes:
        dim: width of queries and layers.
        depth: number of layers.
        heads, dim_head: of the attention inside the resampler.
        num_queries: tokens made for each subject.
        feature_dim: width of the image encoder's penultimate hidden states.
        phrase_dim: width of the first text encoder's pooled output.
        output_dim: width of the UNet's cross-attention.
        ff_mult: width of the feed-forward layers, in ``dim``.
        num_frequencies, temperature: of the box's Fourier features.
        patches_per_query: if not 0, the square of so many patches a side from which each query starts: the queries divide
            the picture into a square grid, and each is told where in the subject's box its part lies. The paper's
            queries know only phrase and box.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    dim: int = 1280
    depth: int = 4
    heads: int = 20
    dim_head: int = 64
    num_queries: int = 16
    feature_dim: int = 1664
    phrase_dim: int = 768
    output_dim: int = 2048
    ff_mult: int = 4
    num_frequencies: int = 8
    temperature: float = 100.0
    patches_per_query: int = 0


@dataclass(frozen=True, slots=True)
class ReferenceConfig:
    """How a reference picture is prepared before the image encoder's own preprocessing.

    Attributes:
        size: side, in pixels, of the square it is squashed to; bicubic.
        background: RGB, 0 to 255, laid under transparent pictures.
        crop: whether the picture is first cut to what differs from the background, as the paper's training cuts
            references to their subject's box.
        keep_proportions: whether a subject is told to stand in the largest box of its reference's own proportions within
            its box, so that a box need not have them; masks still cover the whole box.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    size: int = 512
    background: tuple[int, int, int] = (255, 255, 255)
    crop: bool = False
    keep_proportions: bool = False


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What a spec's ``None`` stands for."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    height: int = 1024
    width: int = 1024
    num_inference_steps: int = 30
    guidance_scale: float = 7.5
    scale: float = 0.6
    negative_prompt: str = "monochrome, lowres, bad anatomy, worst quality, low quality"
    scheduler: str = "euler"


@dataclass(frozen=True, slots=True)
class PresetLora:
    """A LoRA of a preset: its name in the model's ``loras`` folder, and its weight."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Preset:
    """A named set of values, such as those of a few-step LoRA; each stands in for a spec's ``None``.

    Attributes:
        description: one sentence for people who choose.
        loras: added to those of the spec.
        extra: what ``msd download sdxl --with`` calls these LoRAs; empty if it has them not.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    description: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scale: float | None = None
    scheduler: str | None = None
    timestep_spacing: str | None = None
    loras: tuple[PresetLora, ...] = ()
    extra: str = ""


@dataclass(frozen=True, slots=True)
class PreviewMap:
    """A linear map from latents, as the UNet sees them, to RGB from -1 to 1; made by ``ms_core.sampling.previews``.

    Attributes:
        matrix: a row for each of red, green and blue, with a number for each latent channel.
        bias: added to each.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    matrix: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    bias: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Turns a logit of the scorer into a probability: the sigmoid of ``slope * logit + offset``."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    slope: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """Sizes of the scorer, whose weights are in ``scorer.safetensors``, and how its logits are read.

    Attributes:
        side: of the square views of picture and reference, in pixels; a multiple of 8.
        widths: channels at a half, a quarter and an eighth of the views.
        heads: of the attention between both views.
        present, identity: give probabilities.
        box_iou: gives an estimate.
        most_uneven: references that are less even than this are none that the scorer knows, see
            ``ms_core.scoring.views.unevenness``; ``None``: it is not known which it knows.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    side: int = 48
    widths: tuple[int, int, int] = (32, 64, 128)
    heads: int = 4
    present: Calibration = field(default_factory=Calibration)
    identity: Calibration = field(default_factory=Calibration)
    box_iou: Calibration = field(default_factory=Calibration)
    most_uneven: float | None = None


@dataclass(frozen=True, slots=True)
class Extras:
    """Names of what lies beside the weights of a model and can be asked for by name.

    Attributes:
        loras: files ``loras/<name>.safetensors``.
        controls: ControlNets, folders ``controlnets/<name>``.
        embeddings: textual inversions, files ``embeddings/<name>.safetensors``; the name is the word in the prompt.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    loras: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()

    @classmethod
    def find(cls, directory: Path) -> Self:
        """What lies in a model directory."""
        return cls(
            loras=_names(directory / LORAS, "*.safetensors"),
            controls=_names(directory / CONTROLNETS, "*/config.json"),
            embeddings=_names(directory / EMBEDDINGS, "*.safetensors"),
        )


@dataclass(frozen=True, slots=True)
class UsableSchedulers:
    """Schedulers that can begin with noise alone, as pictures without a start picture do.

    Attributes:
        unspaced: with the timestep spacing of the model's scheduler config.
        spaced: for each timestep spacing that a request may ask for.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    unspaced: tuple[str, ...] = ()
    spaced: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def names(self, timestep_spacing: str | None) -> tuple[str, ...]:
        """Those for a request with this timestep spacing; ``None`` leaves it to the model."""
        return self.unspaced if timestep_spacing is None else self.spaced.get(timestep_spacing, ())


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """The first tokenizer of a loaded model, see ``ms_core.spec.tokens``.

    Attributes:
        sha256: of its JSON.
        max_length: most tokens that are read, those at the beginning and the end included.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    sha256: str
    max_length: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the service and its users must know of a model; read from ``ms_adapter.json``.

    Attributes:
        name: short name of the model, such as ``mini`` or ``sdxl``.
        resampler: sizes of the grounding resampler.
        num_dummy_tokens: background tokens of the checkpoint; loaded and saved, never computed with.
        reference: how reference pictures are prepared.
        defaults: what a spec's ``None`` stands for.
        max_height, max_width: largest picture, in pixels.
        max_subjects: most subjects seen in training; more run with a warning.
        sizes: usual pictures, as (height, width) in pixels; far from all of them the model draws worse.
        presets: named sets of spec fields.
        preview: draws small pictures of latents; ``None``: found when it is first needed.
        scorer: scores finished pictures; ``None``: the model has none.
        training: facts of the training run.
        licence: of the weights.
        auto_layout: whether the model can place subjects that have no box.
        backgrounds, treatments: words of prompts that the model was trained on, if these are all that it knows.
        extras: what lies beside the weights; found when the card is loaded, not part of its file.
        schedulers: found when the model is loaded, not part of the card's file; ``None``: not known.
        tokenizer: the same.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str = "sdxl"
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    num_dummy_tokens: int = 4
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    max_height: int = 2048
    max_width: int = 2048
    max_subjects: int = 4
    sizes: tuple[tuple[int, int], ...] = ()
    presets: dict[str, Preset] = field(default_factory=dict[str, Preset])
    preview: PreviewMap | None = None
    scorer: ScorerConfig | None = None
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    licence: str = "Apache-2.0"
    auto_layout: bool = True
    backgrounds: tuple[str, ...] = ()
    treatments: tuple[str, ...] = ()
    extras: Extras = field(default_factory=Extras)
    schedulers: UsableSchedulers | None = None
    tokenizer: TokenizerFile | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any], newer: bool = False) -> Self:
        """Build a card from the decoded JSON.

        Args:
            newer: a newer version may have written it, so unknown keys are passed over; else they are errors.

        Raises:
            CheckpointError: the file is not a card; names the first fault.
        """
        try:
            return cast("Self", _CARD.validate_python(data, extra="ignore" if newer else "forbid"))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CheckpointError(f"{CARD_FILE} is not a model card: {place}: {first['msg']}.") from error

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the card of a model directory.

        Raises:
            ModelNotFoundError: there is no card.
            CheckpointError: the card is not valid.
        """
        path = directory / CARD_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise not_a_model_directory(directory.name, CARD_FILE) from error
        except ValueError as error:
            raise CheckpointError(f"{CARD_FILE} is not valid JSON: {error}") from error
        return replace(cls.from_dict(data), extras=Extras.find(directory))

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-ready data."""
        return asdict(self)

    def save(self, directory: Path) -> None:
        """Write the card into a model directory."""
        data = self.to_dict()
        del data["extras"], data["schedulers"], data["tokenizer"]
        text = json.dumps(data, indent=2, ensure_ascii=False)
        (directory / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def encoder_name(width: int) -> str:
    """What people call the image encoder whose hidden states are this wide."""
    return _IMAGE_ENCODERS.get(width, f"an encoder of width {width}")


def _names(folder: Path, pattern: str) -> tuple[str, ...]:
    """Names of the files or, for a pattern of two parts, of the folders in ``folder``."""
    paths = (path.parent if "/" in pattern else path.with_suffix("") for path in folder.glob(pattern))
    return tuple(sorted(path.name for path in paths))


_CARD: TypeAdapter[ModelCard] = TypeAdapter(ModelCard)
