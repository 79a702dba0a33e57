"""What reads a reference learns from points of the picture."""

from __future__ import annotations

import pytest
import torch

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
