"""What reads a reference learns from points of the picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ms_core.method.attention import explicit_attention
from ms_lab.mini.batches import Share
from ms_lab.mini.random_scenes import PLAIN_SCENES
from ms_lab.mini.recipe import build_model, train_tokenizer
from ms_lab.mini.reference_batches import POINTS, ReferenceStream
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.reference_stage import CELLS, ReferenceReading, ReferenceStage, cell_values, normalise_references
from ms_lab.training.text_encoding import encode_phrases
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def stage() -> ReferenceStage:
    pack = SpritePack.load(ASSETS / "smoke-sprites.zip")
    torch.manual_seed(0)
    model = build_model(train_tokenizer(sprite.phrase for sprite in pack.sprites), explicit_attention)
    batch = ReferenceStream(pack, PLAIN_SCENES, Share(8, seed=0)).batch(0)
    return ReferenceStage(model, ReferenceReading(model), batch)


def test_values_of_a_cell_are_its_points() -> None:
    placed = torch.randn(2, 4, POINTS, POINTS)
    values = cell_values(placed)
    side = POINTS // CELLS
    row, column = 3, 5
    cell = placed[1, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
    assert values.shape == (2, CELLS * CELLS, 4 * side * side)
    assert torch.equal(values[1, row * CELLS + column], cell.flatten())


def test_painting_puts_every_cell_where_it_was_read(stage: ReferenceStage) -> None:
    with torch.no_grad():
        painted = stage._paint(stage.held_out)
        place = torch.tensor([5.5 / CELLS, 3.5 / CELLS]).expand(8, 1, 2)
        batch = stage.held_out
        features = stage.trained.features(normalise_references(batch.references))
        read = stage.trained.read(features, encode_phrases(stage.model, batch.phrases), batch.boxes, place)[:, 0]
    torch.testing.assert_close(cell_values(painted)[:, 3 * CELLS + 5], read, atol=1e-5, rtol=0)


def test_a_few_steps_lower_the_loss_and_reach_every_part(stage: ReferenceStage) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(stage.trained.parameters(), lr=1e-3)
    losses: list[float] = []
    for _ in range(12):
        loss = stage.loss(stage.held_out, 0.0)
        loss.backward()
        losses.append(float(loss.detach()))
        # The tower's last layer and its head lie behind the penultimate features; learned queries replace grounding.
        idle = {name for name, p in stage.trained.named_parameters() if p.grad is None}
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
    assert all(
        name.startswith(("image_encoder.vision_model.encoder.layers.3", "image_encoder.vision_model.post_layernorm"))
        or name in ("image_encoder.visual_projection.weight", "resampler.learned_queries")
        or name.startswith("text_encoder")
        for name in idle
    )


@torch.no_grad()
def test_what_is_read_is_at_most_everything(stage: ReferenceStage) -> None:
    assert stage.telemetry()["read"] <= 1.0
    assert stage.sheet().width > 8 * 64


def test_the_reader_is_asked_for_cells_of_the_box_and_compared_with_what_stands_there(
    stage: ReferenceStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell holds its own number, so an answer by place is right only where place and cell belong together."""
    cells = torch.arange(float(CELLS * CELLS)).view(CELLS, CELLS)
    side = POINTS // CELLS
    placed = cells.repeat_interleave(side, 0).repeat_interleave(side, 1).expand(8, 4, -1, -1)
    batch = replace(stage.held_out, placed=placed)
    asked: list[torch.Tensor] = []

    def read(_features: object, _phrases: object, _boxes: object, centres: torch.Tensor) -> torch.Tensor:
        asked.append(centres)
        column, row = (centres * CELLS - 0.5).unbind(-1)
        return (row * CELLS + column + 0.5)[..., None].expand(-1, -1, 4 * side * side)

    monkeypatch.setattr(stage.trained, "read", read)
    monkeypatch.setattr("ms_lab.training.reference_stage.PATCH_WEIGHT", 0.0)
    torch.manual_seed(0)
    assert float(stage.loss(batch, 0.0).detach()) == pytest.approx(0.5**2, abs=1e-3)
    corner, opposite = batch.boxes[:, None, :2], batch.boxes[:, None, 2:]
    half = 0.5 / CELLS
    assert bool(((asked[0] > corner - half) & (asked[0] < opposite + half)).all())
    reach = (asked[0].amax(1) - asked[0].amin(1)) / (batch.boxes[:, 2:] - batch.boxes[:, :2])
    assert float(reach.mean()) > 0.75


def test_each_patch_is_painted_back_from_its_own_feature(
    stage: ReferenceStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a twentieth: the mean squared error of every patch's pixels, channels first, as the encoder sees them."""
    batch = stage.held_out
    # CLIP's own mean and spread of each channel.
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    seen = (batch.references / 255 - mean) / std
    patches = seen.unflatten(3, (8, 8)).unflatten(2, (8, 8)).permute(0, 2, 4, 1, 3, 5)
    expected = patches.flatten(3).flatten(1, 2)
    class_token = torch.full((8, 1, expected.shape[2]), 99.0)
    monkeypatch.setattr(stage.trained, "features", lambda references: torch.cat([class_token, expected + 2.0], 1))
    monkeypatch.setattr(stage.trained, "patches", nn.Identity())
    monkeypatch.setattr(stage.trained, "read", lambda *_: torch.zeros(8, 48, 4 * (POINTS // CELLS) ** 2))
    empty = replace(batch, placed=torch.zeros_like(batch.placed))
    assert float(stage.loss(empty, 0.0)) == pytest.approx(0.05 * 2.0**2, rel=1e-4)
