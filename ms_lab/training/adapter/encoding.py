"""Samples as the UNet takes them, without the UNet: what text encoders, image encoder and VAE make of each, alone.

Each sample is read by itself, so neither its neighbours in a batch nor a cache change a bit of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from ms_core.conditions.conditioning import encode_phrases
from ms_core.model_dir.vae import encode_mean_and_spread
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.training.adapter.samples import PreparedSample
from ms_lab.training.vae_stage import to_signed


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One sample as the models read it.

    Attributes:
        prompt_embeds, pooled_prompt_embeds: of the caption.
        latent_mean, latent_std: of the target's latents.
        features: penultimate hidden states of the references.
        phrase_embeds: of the subjects' phrases.
        boxes, places, time_ids: as in ``PreparedSample``.
    """

    prompt_embeds: Float[Tensor, "77 cross_dim"]
    pooled_prompt_embeds: Float[Tensor, " pooled_dim"]
    latent_mean: Float[Tensor, "c h w"]
    latent_std: Float[Tensor, "c h w"]
    features: Float[Tensor, "subjects tokens feature_dim"]
    phrase_embeds: Float[Tensor, "subjects phrase_dim"]
    boxes: Float[Tensor, "subjects 4"]
    places: Float[Tensor, "subjects 4"]
    time_ids: Float[Tensor, " 6"]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, in the host's memory."""
        return {item.name: getattr(self, item.name).to("cpu", copy=True).contiguous() for item in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The sample of ``tensors()``."""
        return cls(**tensors)


@dataclass(frozen=True, slots=True)
class Blanks:
    """What stands in for what a row goes without.

    Attributes:
        prompt_embeds, pooled_prompt_embeds: of an empty caption.
        features: of a reference whose pixel values are all zero, as in the paper's training.
    """

    prompt_embeds: Float[Tensor, "77 cross_dim"]
    pooled_prompt_embeds: Float[Tensor, " pooled_dim"]
    features: Float[Tensor, "tokens feature_dim"]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, in the host's memory."""
        return {item.name: getattr(self, item.name).to("cpu", copy=True).contiguous() for item in fields(self)}

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return replace(self, **{item.name: getattr(self, item.name).to(device) for item in fields(self)})


class SampleEncoder:
    """Reads samples with the encoders of a loaded model."""

    def __init__(self, pipeline: MSDiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._reader = pipeline.conditioner.reader

    @torch.no_grad()
    def encode(self, sample: PreparedSample) -> EncodedSample:
        """A sample as the models read it, on their device, in their dtype."""
        residency, components = self._pipeline.residency, self._pipeline.components
        with torch.autocast(self._pipeline.device.type, enabled=False):
            prompt_embeds, pooled = self._text(sample.caption)
            with residency.use("text_encoders"):
                phrase_embeds = encode_phrases(components, sample.phrases)
            with residency.use("vae"):
                mean, std = encode_mean_and_spread(components.vae, to_signed(sample.image[None]))
            features = torch.cat(self._reader.encode(list(sample.references)))
        device = self._pipeline.device
        return EncodedSample(
            prompt_embeds=prompt_embeds,
            pooled_prompt_embeds=pooled,
            latent_mean=mean[0],
            latent_std=std[0],
            features=features,
            phrase_embeds=phrase_embeds,
            boxes=sample.boxes.to(device),
            places=sample.places.to(device),
            time_ids=sample.time_ids.to(device),
        )

    @torch.no_grad()
    def blanks(self) -> Blanks:
        """What stands in for what a row goes without."""
        prompt_embeds, pooled = self._text("")
        side = self._reader.preprocessor.crop_to
        [features] = self._reader.encode([torch.zeros(3, side, side)])
        return Blanks(prompt_embeds, pooled, features[0])

    def _text(self, caption: str) -> tuple[Tensor, Tensor]:
        with self._pipeline.residency.use("text_encoders"):
            prompt_embeds, _, pooled, _ = self._pipeline.components.encode_prompt(
                prompt=[caption], do_classifier_free_guidance=False, device=self._pipeline.device
            )
        return prompt_embeds[0], pooled[0]
