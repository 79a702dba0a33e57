"""The numbers of an adapter and the card of a model, as ``ms_adapter.json`` holds them; free of torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from ms_core.errors import CheckpointError, ModelNotFoundError

CARD_FILE = "ms_adapter.json"
WEIGHTS_FILE = "ms_adapter.safetensors"


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
    """

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


@dataclass(frozen=True, slots=True)
class ReferenceConfig:
    """How a reference picture is prepared before the image encoder's own preprocessing.

    Attributes:
        size: side, in pixels, of the square it is squashed to; bicubic.
        background: RGB, 0 to 255, laid under transparent pictures.
    """

    size: int = 512
    background: tuple[int, int, int] = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What a spec's ``None`` stands for."""

    height: int = 1024
    width: int = 1024
    num_inference_steps: int = 30
    guidance_scale: float = 7.5
    scale: float = 0.6
    negative_prompt: str = "monochrome, lowres, bad anatomy, worst quality, low quality"
    scheduler: str = "euler"


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
        presets: named sets of spec fields.
        training: facts of the training run.
        licence: of the weights.
    """

    name: str = "sdxl"
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    num_dummy_tokens: int = 4
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    max_height: int = 2048
    max_width: int = 2048
    max_subjects: int = 4
    presets: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    licence: str = "Apache-2.0"

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build a card from the decoded JSON; unknown keys are errors.

        Raises:
            CheckpointError: a key is unknown.
        """
        nested: dict[str, Any] = dict(data)
        for name, kind in (
            ("resampler", ResamplerConfig),
            ("reference", ReferenceConfig),
            ("defaults", GenerationDefaults),
        ):
            if name in nested:
                _check_keys(kind, nested[name])
                nested[name] = kind(**nested[name])
        if "reference" in nested:
            background = tuple(nested["reference"].background)
            nested["reference"] = ReferenceConfig(nested["reference"].size, background)
        _check_keys(cls, nested)
        return cls(**nested)

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
            raise ModelNotFoundError(f"{directory.name} is no model directory: it holds no {CARD_FILE}.") from error
        except ValueError as error:
            raise CheckpointError(f"{CARD_FILE} is not valid JSON: {error}") from error
        try:
            return cls.from_dict(data)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{CARD_FILE} is no model card: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-ready data."""
        return asdict(self)

    def save(self, directory: Path) -> None:
        """Write the card into a model directory."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        (directory / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def _check_keys(kind: type, data: dict[str, Any]) -> None:
    unknown = sorted(set(data) - {item.name for item in fields(kind)})
    if unknown:
        raise CheckpointError(f"{CARD_FILE} has unknown keys: {', '.join(unknown)}.")
