"""Stage 3: the denoising itself. UNet, text encoders and adapter together."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn

from ms_core.method.attention_data import ATTENTION_DATA, AttentionData, SubjectBatch
from ms_core.method.boxes import boxes_to_masks
from ms_lab.mini.batches import SceneBatch
from ms_lab.mini.recipe import MiniModel
from ms_lab.training.dropout import DropRates, Drops, draw_drops
from ms_lab.training.reference_stage import normalise_references
from ms_lab.training.sample_sheets import grid, to_picture
from ms_lab.training.scene_attention import SceneAttentionData, Shared, share_subjects
from ms_lab.training.sheet_samples import sample_batch
from ms_lab.training.text_encoding import Text, encode_captions, encode_phrases
from ms_lab.training.vae_stage import to_signed

GAIN_TIMESTEPS = (200, 450, 700)
SHEET_PICTURES = 12


# The base sees references too: a small base that never saw a particular drawing has no way to draw it later.
RATES = DropRates(text=0.08, image=0.12, both=0.05, grounding=0.1)
# The error inside the boxes counts this much more.
INSIDE_WEIGHT = 2.0
# Noisy versions of each scene in one step: its latents, captions and references are encoded once for all of them.
LEVELS = 2


class DenoisingStage:
    """Mean squared error of the predicted velocity on composed scenes, with references, phrases and boxes.

    The error inside the boxes counts more, and noisy timesteps come more often: place, colour and most of the form are
    decided there.
    """

    name = "base"

    def __init__(self, model: MiniModel, trained: nn.Module, held_out: SceneBatch) -> None:
        self.model = model
        self.trained = trained
        self.held_out = held_out
        alphas: Tensor = model.scheduler.alphas_cumprod.to(held_out.images.device)
        self.signal, self.noise = alphas.sqrt(), (1 - alphas).sqrt()

    def loss(self, batch: SceneBatch, progress: float) -> Float[Tensor, ""]:
        latents = self.encode(batch).repeat_interleave(LEVELS, 0)
        timesteps = self.draw_timesteps(len(latents))
        drops = draw_drops(len(latents), RATES).to(latents.device)
        error = self.error(batch, latents, torch.randn_like(latents), timesteps, drops)
        weight = (1.0 + INSIDE_WEIGHT * self.inside(batch)).repeat_interleave(LEVELS, 0)
        return (error * weight).sum() / (weight.sum() * error.shape[1])

    def draw_timesteps(self, rows: int) -> Int[Tensor, " rows"]:
        """Timesteps from 0 to 999, with a density that grows with the noise."""
        return (torch.rand(rows).to(self.signal.device).sqrt() * len(self.signal)).long()

    @torch.no_grad()
    def encode(self, batch: SceneBatch) -> Float[Tensor, "b c h w"]:
        """Latents of the targets."""
        return self.model.vae.encoder(to_signed(batch.images)).float()

    def error(
        self,
        batch: SceneBatch,
        latents: Float[Tensor, "rows c h w"],
        noise: Float[Tensor, "rows c h w"],
        timesteps: Int[Tensor, " rows"],
        drops: Drops,
    ) -> Float[Tensor, "rows c h w"]:
        """Squared error of the predicted velocity; every scene has as many rows as every other, one after another."""
        signal, spread = (table[timesteps].view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        noisy, velocity = signal * latents + spread * noise, signal * noise - spread * latents
        text, captions = self.text(batch, drops.text)
        data = self.attention_data(batch, drops.image, drops.grounding, captions)
        return (self.predict(noisy, timesteps, text, data).float() - velocity).square()

    def text(self, batch: SceneBatch, dropped: Bool[Tensor, " rows"]) -> tuple[Text, Shared]:
        """Captions of all rows, and what the rows share of them; the empty one where it is dropped."""
        text = encode_captions(self.model, [*batch.captions, ""])
        empty = len(batch.captions)
        captions = torch.where(dropped, empty, scene_of_rows(batch, dropped))
        rows = Text(text.prompt_embeds[captions], text.pooled_prompt_embeds[captions])
        return rows, Shared(text.prompt_embeds, captions)

    def predict(
        self, noisy: Float[Tensor, "b c h w"], timesteps: Tensor, text: Text, data: AttentionData
    ) -> Float[Tensor, "b c h w"]:
        """The UNet's velocity."""
        height, width = (8 * side for side in noisy.shape[-2:])
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=noisy.device).expand(len(noisy), 6)
        return self.model.unet(
            noisy,
            timesteps,
            text.prompt_embeds,
            added_cond_kwargs={"text_embeds": text.pooled_prompt_embeds, "time_ids": time_ids},
            cross_attention_kwargs={ATTENTION_DATA: data},
        ).sample

    def attention_data(
        self,
        batch: SceneBatch,
        drop_image: Bool[Tensor, " rows"],
        drop_grounding: Bool[Tensor, " rows"],
        captions: Shared | None = None,
    ) -> SceneAttentionData:
        """Subject tokens of all rows; a row whose image is dropped sees none, as unconditional rows do.

        Args:
            batch: of scenes.
            drop_image: of each row.
            drop_grounding: of all rows of a scene at once, as its first row says.
            captions: what the rows share of them, if anything.
        """
        scenes, most = batch.present.shape
        rows = scene_of_rows(batch, drop_image)
        with torch.no_grad():
            references = normalise_references(batch.references[batch.present])
            features = self.model.image_encoder(references, output_hidden_states=True).hidden_states[-2]
        phrases = [phrase for row in batch.phrases for phrase in row]
        phrase_embeds = encode_phrases(self.model, phrases)
        grounded = ~drop_grounding[:: len(rows) // scenes, None].expand(scenes, most)[batch.present]
        flat = self.model.adapter.resampler(features, phrase_embeds, batch.places[batch.present], grounded)
        tokens = flat.new_zeros(scenes, most, *flat.shape[1:])
        tokens[batch.present] = flat
        present = batch.present[rows] & ~drop_image[:, None]
        scales = torch.ones_like(present, dtype=torch.float32)
        height, width = (side // 8 for side in batch.images.shape[-2:])
        subjects = SubjectBatch(tokens[rows], batch.boxes[rows], scales, present)
        shared = share_subjects(flat, batch.present, rows)
        return SceneAttentionData(subjects, (height, width), shared_subjects=shared, shared_captions=captions)

    def inside(self, batch: SceneBatch) -> Float[Tensor, "b 1 h w"]:
        """1 in the cells of the latents that any box covers."""
        height, width = (side // 8 for side in batch.images.shape[-2:])
        covered = boxes_to_masks(batch.boxes, height, width) & batch.present[..., None, None]
        return covered.any(1, keepdim=True).float()

    def telemetry(self) -> dict[str, float]:
        """Loss inside the boxes with the right references, and the reference gain: wrong references minus right."""
        batch = self.held_out
        wrong = rotate_references(batch)
        latents = self.encode(batch)
        inside = self.inside(batch)
        nothing = Drops.none(len(latents)).to(latents.device)
        values: dict[str, float] = {}
        for timestep in GAIN_TIMESTEPS:
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(timestep)).to(latents.device)
            timesteps = torch.full((len(latents),), timestep, device=latents.device)
            losses = [
                float((self.error(b, latents, noise, timesteps, nothing) * inside).sum())
                / float(inside.sum() * latents.shape[1])
                for b in (batch, wrong)
            ]
            values[f"inside_{timestep}"] = losses[0]
            values[f"reference_gain_{timestep}"] = losses[1] - losses[0]
        return values

    def sheet(self) -> Image.Image | None:
        """Held-out scenes: target, sample, sample with the references of other scenes."""
        batch = self.held_out.first(SHEET_PICTURES)
        wrong = rotate_references(batch)
        rows = [to_signed(batch.images), sample_batch(self, batch), sample_batch(self, wrong)]
        return grid([[to_picture(picture) for picture in row] for row in rows])


def scene_of_rows(batch: SceneBatch, rows: Bool[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Index of each row's scene."""
    scenes = len(batch.present)
    return torch.arange(scenes, device=rows.device).repeat_interleave(len(rows) // scenes)


def rotate_references(batch: SceneBatch) -> SceneBatch:
    """The batch with every present reference exchanged for the next one of the batch."""
    references = batch.references.clone()
    references[batch.present] = batch.references[batch.present].roll(1, 0)
    return batch.with_references(references)
