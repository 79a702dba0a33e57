"""One step of the adapter's training: the error of the frozen base's prediction, with subjects (paper section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn

from ms_core.method.attention_data import ATTENTION_DATA, AttentionData, SubjectBatch
from ms_core.method.boxes import boxes_to_masks
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.training.adapter.batches import EncodedBatch, SampleBatch, collate
from ms_lab.training.adapter.draws import Draws, draw
from ms_lab.training.adapter.encoding import Blanks, EncodedSample, SampleEncoder
from ms_lab.training.adapter.objective import NoiseObjective
from ms_lab.training.dropout import DropRates, Drops

# Shares of the base's timesteps at which held-out samples are looked at, from little noise to much.
GAIN_LEVELS = (0.2, 0.45, 0.7)
NOTHING = DropRates(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is looked at between steps and never trained on.

    Attributes:
        batch: for the reference gain; ``None`` for none.
        draw_sheet: draws sample pictures with the adapter as it is; ``None`` for none.
    """

    batch: SampleBatch | None = None
    draw_sheet: Callable[[], Image.Image] | None = None


class AdapterStage:
    """Mean squared error of the base's prediction; the base is frozen, resampler and projections learn."""

    name = "adapter"

    def __init__(  # noqa: PLR0913 - what a step is made of
        self,
        pipeline: MSDiffusionPipeline,
        objective: NoiseObjective,
        blanks: Blanks,
        rates: DropRates,
        seed: int,
        held_out: HeldOut = HeldOut(),
    ) -> None:
        """Prepare the steps of a loaded model.

        Args:
            pipeline: the model; its adapter becomes float32 and trainable, all else frozen.
            objective: of its base.
            blanks: for dropped captions and references.
            rates: of the drops.
            seed: of all draws.
            held_out: what is looked at at checkpoints.
        """
        self.pipeline, self.objective, self.rates, self.seed = pipeline, objective, rates, seed
        self.encoder = SampleEncoder(pipeline)
        self.blanks = blanks.to(pipeline.device)
        self.held_out = held_out
        self.trained: nn.Module = freeze_base(pipeline)

    def loss(self, batch: SampleBatch, progress: float) -> Float[Tensor, ""]:
        """Mean over the rows of their weighted errors; float32."""
        encoded = self.encode(batch)
        draws = self.draw(batch.positions, encoded, self.rates)
        errors = self.error(encoded, draws).mean((1, 2, 3))
        return (errors * self.objective.weights(draws.timesteps.to(errors.device))).mean()

    def encode(self, batch: SampleBatch) -> EncodedBatch:
        """The batch as the models read it; samples of a cache have been read."""
        samples = [
            sample if isinstance(sample, EncodedSample) else self.encoder.encode(sample) for sample in batch.samples
        ]
        return collate(samples, self.pipeline.device)

    def draw(self, positions: Sequence[int], batch: EncodedBatch, rates: DropRates) -> Draws:
        """What chance decides for these rows."""
        channels, height, width = batch.latent_mean.shape[1:]
        return draw(positions, self.seed, self.objective.num_timesteps, (channels, height, width), rates)

    def error(self, batch: EncodedBatch, draws: Draws) -> Float[Tensor, "b c h w"]:
        """Squared error of what the UNet predicts."""
        device = batch.boxes.device
        timesteps, noise = draws.timesteps.to(device), draws.noise.to(device)
        latents = batch.latent_mean + batch.latent_std * draws.spread.to(device)
        drops = draws.drops.to(device)
        noisy = self.objective.noisy(latents, noise, timesteps)
        data = self.attention_data(batch, drops.image, drops.grounding)
        target = self.objective.target(latents, noise, timesteps)
        return (self.predict(batch, noisy, timesteps, drops.text, data).float() - target).square()

    def predict(  # noqa: PLR0913 - what the UNet reads
        self,
        batch: EncodedBatch,
        noisy: Float[Tensor, "b c h w"],
        timesteps: Int[Tensor, " b"],
        drop_text: Bool[Tensor, " b"],
        data: AttentionData,
    ) -> Float[Tensor, "b c h w"]:
        """The UNet's prediction, for captions or, where they are dropped, the empty one."""
        unet, blanks = self.pipeline.unet, self.blanks
        prompt_embeds = torch.where(drop_text[:, None, None], blanks.prompt_embeds.float(), batch.prompt_embeds)
        pooled = torch.where(drop_text[:, None], blanks.pooled_prompt_embeds.float(), batch.pooled_prompt_embeds)
        return unet(
            noisy.to(unet.dtype),
            timesteps,
            prompt_embeds.to(unet.dtype),
            added_cond_kwargs={"text_embeds": pooled.to(unet.dtype), "time_ids": batch.time_ids},
            cross_attention_kwargs={ATTENTION_DATA: data},
        ).sample

    def attention_data(
        self, batch: EncodedBatch, drop_image: Bool[Tensor, " b"], drop_grounding: Bool[Tensor, " b"]
    ) -> AttentionData:
        """Subject tokens of all rows, from blank references where images are dropped, as in the paper's training.

        A row without subjects would teach a frozen base nothing.
        """
        present = batch.present
        blank = drop_image[:, None].expand_as(present)[present]
        grounded = ~drop_grounding[:, None].expand_as(present)[present]
        features = torch.where(blank[:, None, None], self.blanks.features.float(), batch.features[present])
        flat = self.pipeline.adapter.resampler(features, batch.phrase_embeds[present], batch.places[present], grounded)
        tokens = flat.new_zeros(*present.shape, *flat.shape[1:])
        tokens[present] = flat
        scales = torch.ones_like(present, dtype=torch.float32)
        height, width = batch.latent_mean.shape[-2:]
        return AttentionData(SubjectBatch(tokens, batch.boxes, scales, present), (height, width))

    def telemetry(self) -> dict[str, float]:
        """Per noise level, error inside the boxes of held-out samples, and the reference gain: wrong minus right."""
        if self.held_out.batch is None:
            return {}
        with self._computing():
            return self._telemetry(self.held_out.batch)

    def _telemetry(self, held_out: SampleBatch) -> dict[str, float]:
        batch = self.encode(held_out)
        inside = covered(batch)
        values: dict[str, float] = {}
        for level in GAIN_LEVELS:
            timestep = round(level * self.objective.num_timesteps)
            draws = self.draw(held_out.positions, batch, NOTHING)
            draws = Draws(
                torch.full_like(draws.timesteps, timestep), draws.noise, draws.spread, Drops.none(len(inside))
            )
            right, wrong = (
                float((self.error(rows, draws) * inside).sum() / (inside.sum() * batch.latent_mean.shape[1]))
                for rows in (batch, batch.with_rotated_references())
            )
            values[f"inside_{timestep}"] = right
            values[f"reference_gain_{timestep}"] = wrong - right
        return values

    def sheet(self) -> Image.Image | None:
        """Held-out samples: target, sample, sample with the references of others."""
        if self.held_out.draw_sheet is None:
            return None
        with self._computing():
            return self.held_out.draw_sheet()

    def _computing(self) -> AbstractContextManager[Any]:
        """Have a base in 16 bits and an adapter in 32 compute together."""
        dtype: torch.dtype = self.pipeline.unet.dtype
        return torch.autocast(self.pipeline.device.type, dtype, enabled=dtype != torch.float32)


def freeze_base(pipeline: MSDiffusionPipeline) -> nn.Module:
    """Freeze all of a model but its adapter, which becomes float32; returns the adapter."""
    components = pipeline.components
    encoders = (components.text_encoder, components.text_encoder_2, pipeline.conditioner.reader.image_encoder)
    for module in (pipeline.unet, components.vae, *encoders):
        module.requires_grad_(False)
    return pipeline.adapter.float().requires_grad_(True)


def covered(batch: EncodedBatch) -> Float[Tensor, "b 1 h w"]:
    """1 in the cells of the latents that any box covers."""
    height, width = batch.latent_mean.shape[-2:]
    cells = boxes_to_masks(batch.boxes, height, width) & batch.present[..., None, None]
    return cells.any(1, keepdim=True).float()
