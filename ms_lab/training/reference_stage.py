"""Stage 2: what reads a reference. Image encoder and grounding resampler learn to say how a subject looks in its box.

A small reader, thrown away afterwards, is asked for the colour of single points of the picture and sees only the
subject's tokens. So the tokens must hold the drawing and where it stands, before any UNet is there to look at them; a
UNet's step costs as much as some twenty of these.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ms_core.method.attention import explicit_attention
from ms_core.method.place_codes import PlaceCode, cell_centres
from ms_lab.mini.assemble import CLIP_MEAN, CLIP_STD
from ms_lab.mini.recipe import MiniModel
from ms_lab.mini.reference_batches import CANVAS, CELL, CHANNELS, POINTS, ReferenceBatch
from ms_lab.training.sample_sheets import grid, to_picture
from ms_lab.training.text_encoding import encode_phrases

CELLS = CANVAS // CELL
POINTS_PER_CELL = (POINTS // CELLS) ** 2
# Cells of each box that one step asks for.
ASKED = 48
SHEET_PICTURES = 16
PATCH_WEIGHT = 0.05


class ReaderLayer(nn.Module):
    """Cross-attention of cells to one subject's tokens, then a feed-forward, each with its residual."""

    def __init__(self, dim: int, token_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(token_dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(
        self, cells: Float[Tensor, "n cells dim"], tokens: Float[Tensor, "n tokens token_dim"]
    ) -> Float[Tensor, "n cells dim"]:
        """The cells after this layer."""
        key, value = self.to_kv(tokens).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q(self.norm(cells)), key, value)
        )
        cells = cells + self.to_out(explicit_attention(query, key, value, None).transpose(1, 2).flatten(2))
        return cells + self.feed_forward(cells)


class TokenReader(nn.Module):
    """Colours and opacities of cells, from the tokens of the subject that stands there."""

    def __init__(self, token_dim: int, dim: int = 192, depth: int = 3, heads: int = 6) -> None:
        super().__init__()
        self.place = PlaceCode(dim)
        self.layers = nn.ModuleList(ReaderLayer(dim, token_dim, heads) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, CHANNELS * POINTS_PER_CELL))

    def forward(
        self, tokens: Float[Tensor, "n tokens token_dim"], centres: Float[Tensor, "n cells 2"]
    ) -> Float[Tensor, "n cells values"]:
        """The points of the cells with these centres (normalised x and y)."""
        cells = self.place(centres)
        for layer in self.layers:
            cells = layer(cells, tokens)
        return self.out(cells)


class ReferenceReading(nn.Module):
    """All that is trained in this stage: image encoder, phrases' text encoder, resampler, and what is thrown away.

    Attributes:
        reader: of the tokens.
        patches: paints each patch of the reference back from its feature; so the tower keeps colours and forms from the
            first steps on.
    """

    def __init__(self, model: MiniModel) -> None:
        super().__init__()
        self.image_encoder = model.image_encoder
        self.text_encoder = model.text_encoder
        self.resampler = model.adapter.resampler
        self.reader = TokenReader(model.card.resampler.output_dim)
        width, self.patch_size = model.image_encoder.config.hidden_size, model.image_encoder.config.patch_size
        self.patches = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * self.patch_size**2))

    def features(self, references: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n tokens width"]:
        """Penultimate features, the class token first."""
        return self.image_encoder(references, output_hidden_states=True).hidden_states[-2]

    def read(
        self,
        features: Float[Tensor, "n tokens width"],
        phrase_embeds: Float[Tensor, "n phrase"],
        boxes: Float[Tensor, "n 4"],
        centres: Float[Tensor, "n cells 2"],
    ) -> Float[Tensor, "n cells values"]:
        """The points of the cells with these centres, in float32."""
        return self.reader(self.resampler(features, phrase_embeds, boxes), centres).float()


class ReferenceStage:
    """Mean squared error of colours and opacities within the boxes, and of the references' patches."""

    name = "references"

    def __init__(self, model: MiniModel, trained: ReferenceReading, held_out: ReferenceBatch) -> None:
        self.model = model
        self.trained = trained
        self.held_out = held_out

    def loss(self, batch: ReferenceBatch, progress: float) -> Float[Tensor, ""]:
        asked = torch.rand(len(batch.boxes), ASKED, 2).to(batch.boxes.device)
        corner, extent = batch.boxes[:, None, :2], batch.boxes[:, None, 2:] - batch.boxes[:, None, :2]
        cells = ((corner + asked * extent) * CELLS).long().clamp(0, CELLS - 1)
        numbers = cells[..., 1] * CELLS + cells[..., 0]
        target = cell_values(batch.placed).gather(1, numbers[..., None].expand(-1, -1, CHANNELS * POINTS_PER_CELL))
        references = normalise_references(batch.references)
        features = self.trained.features(references)
        phrase_embeds = encode_phrases(self.model, batch.phrases)
        read = self.trained.read(features, phrase_embeds, batch.boxes, (cells + 0.5) / CELLS)
        painted = self.trained.patches(features[:, 1:]).float()
        patches = F.unfold(references, self.trained.patch_size, stride=self.trained.patch_size).transpose(1, 2)
        return (read - target).square().mean() + PATCH_WEIGHT * (painted - patches).square().mean()

    def _paint(self, batch: ReferenceBatch) -> Float[Tensor, "n 4 points points"]:
        centres = cell_centres(CELLS, CELLS, batch.boxes.device).flatten(0, 1).expand(len(batch.boxes), -1, -1)
        features = self.trained.features(normalise_references(batch.references))
        read = self.trained.read(features, encode_phrases(self.model, batch.phrases), batch.boxes, centres)
        values = read.transpose(1, 2).reshape(len(batch.boxes), -1, CELLS, CELLS)
        return F.pixel_shuffle(values, POINTS // CELLS)

    def sheet(self) -> Image.Image:
        """Held-out references, what should be read from their tokens, and what is; on grey."""
        batch = self.held_out
        shown = [_denormalise(row) for row in normalise_references(batch.references[:SHEET_PICTURES])]
        rows = [_on_grey(placed[:SHEET_PICTURES]) for placed in (batch.placed, self._paint(batch))]
        return grid([[to_picture(picture) for picture in row] for row in (shown, *rows)])

    def telemetry(self) -> dict[str, float]:
        """Share of the held-out drawings' variance within their boxes that is read from their tokens."""
        batch = self.held_out
        centres = cell_centres(POINTS, POINTS, batch.boxes.device)
        inside = ((centres >= batch.boxes[:, None, None, :2]) & (centres <= batch.boxes[:, None, None, 2:])).all(-1)
        target, painted = (placed.permute(0, 2, 3, 1)[inside] for placed in (batch.placed, self._paint(batch)))
        return {"read": 1.0 - float((painted - target).square().mean() / (target - target.mean(0)).square().mean())}


def cell_values(placed: Float[Tensor, "n 4 points points"]) -> Float[Tensor, "n cells values"]:
    """The points of each cell side by side, cells row by row."""
    return F.pixel_unshuffle(placed, POINTS // CELLS).flatten(2).transpose(1, 2)


def normalise_references(references: Tensor) -> Float[Tensor, "n 3 size size"]:
    """Bytes to what the image encoder reads: CLIP's mean and spread."""
    mean, std = _mean_and_std(references.device)
    return (references.float() / 255.0 - mean) / std


def _denormalise(picture: Float[Tensor, "3 size size"]) -> Float[Tensor, "3 size size"]:
    mean, std = _mean_and_std(picture.device)
    return (picture * std + mean) * 2 - 1


def _on_grey(placed: Float[Tensor, "n 4 points points"]) -> Float[Tensor, "n 3 size size"]:
    colours, opacity = placed[:, :3], placed[:, 3:].clamp(0, 1)
    # A reference is as large as this, so that all rows of the sheet are.
    return F.interpolate((colours + 0.5 * (1 - opacity)) * 2 - 1, scale_factor=2, mode="nearest")


def _mean_and_std(device: torch.device) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    mean, std = (torch.tensor(numbers, device=device).view(-1, 1, 1) for numbers in (CLIP_MEAN, CLIP_STD))
    return mean, std
