"""The last stage's loss: velocity, drops, the weight of the boxes, timesteps and the adapter's start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ms_core.method.attention import explicit_attention
from ms_lab.mini.batches import SceneBatch
from ms_lab.mini.recipe import LATENT_CHANNELS, build_model, train_tokenizer
from ms_lab.training.checkpoints import AVERAGE
from ms_lab.training.denoising_stage import LEVELS, DenoisingStage
from ms_lab.training.dropout import Drops
from ms_lab.training.mini import SMOKE, WHITENED, MiniTraining, load_artwork, train_ready
from tests.support.paths import ASSETS
from tests.support.small_scenes import random_batch

FIRST_ROW, NO_ROW = torch.tensor([True, False, False]), torch.tensor([False, False, False])
TIMESTEPS = torch.tensor([100, 500, 900])


@pytest.fixture(scope="module")
def stage() -> DenoisingStage:
    torch.manual_seed(0)
    model = train_ready(build_model(train_tokenizer(["a cat", "a pot", "a tree"]), explicit_attention))
    return DenoisingStage(model, model.unet, random_batch())


class PlayedUNet(nn.Module):
    """Answers with a velocity that is worked out from the noisy latents and the timesteps."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, noisy: Tensor, timesteps: Tensor, *_: Any, **__: Any) -> Any:
        return type("Answer", (), {"sample": self.answer(noisy, timesteps)})


def signal_and_noise(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of picture and noise on a cosine schedule of a thousand timesteps (Nichol and Dhariwal 2021, eq. 17)."""
    angles = ((timesteps + 1) / 1000 + 0.008) / 1.008 * torch.pi / 2
    signal = angles.cos() / torch.tensor(0.008 / 1.008 * torch.pi / 2).cos()
    return signal.view(-1, 1, 1, 1), (1 - signal.square()).sqrt().view(-1, 1, 1, 1)


def test_the_velocity_leads_from_the_noisy_latents_back_to_the_clean_ones(
    stage: DenoisingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, noise = torch.randn(2, 3, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    seen: list[Tensor] = []

    def answer(noisy: Tensor, timesteps: Tensor) -> Tensor:
        seen.append(noisy)
        signal, spread = signal_and_noise(timesteps)
        # A sampler reads a velocity v as: clean = signal * noisy - spread * v.
        return (signal * noisy - latents) / spread + 0.5

    monkeypatch.setattr(stage.model, "unet", PlayedUNet(answer))
    error = stage.error(random_batch(), latents, noise, TIMESTEPS, Drops.none(3))
    signal, spread = signal_and_noise(TIMESTEPS)
    torch.testing.assert_close(seen[0], signal * latents + spread * noise, atol=1e-4, rtol=0)
    torch.testing.assert_close(error, torch.full_like(error, 0.25), atol=1e-3, rtol=0)


def errors(stage: DenoisingStage, batch: SceneBatch, drops: Drops) -> Tensor:
    """Of each row, with the model's own UNet."""
    latents, noise = torch.randn(2, 3, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return stage.error(batch, latents, noise, TIMESTEPS, drops).flatten(1)


def differ(one: Tensor, other: Tensor) -> list[bool]:
    """Which rows differ."""
    return [not torch.allclose(*rows, atol=1e-5) for rows in zip(one, other, strict=True)]


def without_captions(batch: SceneBatch) -> SceneBatch:
    return replace(batch, captions=("",) * 3)


def with_other_captions(batch: SceneBatch) -> SceneBatch:
    return replace(batch, captions=("a tree",) * 3)


def without_subjects(batch: SceneBatch) -> SceneBatch:
    return replace(batch, present=batch.present & ~FIRST_ROW[:, None], phrases=((), *batch.phrases[1:]))


def with_other_references(batch: SceneBatch) -> SceneBatch:
    return replace(batch, references=255 - batch.references)


def with_other_grounding(batch: SceneBatch) -> SceneBatch:
    phrases = tuple(("tree",) * len(row) for row in batch.phrases)
    return replace(batch, phrases=phrases, places=batch.places * 0.5)


@pytest.mark.parametrize(
    ("drops", "changed"),
    [
        (Drops(FIRST_ROW, NO_ROW, NO_ROW), with_other_captions),
        (Drops(NO_ROW, FIRST_ROW, NO_ROW), with_other_references),
        (Drops(NO_ROW, NO_ROW, FIRST_ROW), with_other_grounding),
    ],
    ids=["caption", "image", "grounding"],
)
def test_a_row_goes_without_what_is_dropped_and_the_others_keep_it(
    stage: DenoisingStage, drops: Drops, changed: Callable[[SceneBatch], SceneBatch]
) -> None:
    batch = random_batch()
    dropped = errors(stage, batch, drops)
    assert differ(dropped, errors(stage, batch, Drops.none(3))) == [True, False, False]
    assert differ(dropped, errors(stage, changed(batch), drops)) == [False, True, True]


def test_a_dropped_caption_is_the_empty_one(stage: DenoisingStage) -> None:
    batch = random_batch()
    dropped = errors(stage, batch, Drops(FIRST_ROW, NO_ROW, NO_ROW))
    assert differ(dropped, errors(stage, without_captions(batch), Drops.none(3))) == [False, True, True]


def test_a_row_without_images_is_drawn_as_if_it_had_no_subjects(stage: DenoisingStage) -> None:
    batch = random_batch()
    dropped = errors(stage, batch, Drops(NO_ROW, FIRST_ROW, NO_ROW))
    assert differ(dropped, errors(stage, without_subjects(batch), Drops.none(3))) == [False, False, False]


def test_learned_queries_take_the_place_of_a_dropped_grounding(stage: DenoisingStage) -> None:
    drops = Drops(NO_ROW, NO_ROW, FIRST_ROW)
    queries = stage.model.adapter.resampler.learned_queries
    before = errors(stage, random_batch(), drops)
    kept = queries.detach().clone()
    try:
        queries.data.neg_()
        assert differ(before, errors(stage, random_batch(), drops)) == [True, False, False]
    finally:
        queries.data.copy_(kept)


def test_an_error_counts_three_times_within_the_boxes(stage: DenoisingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    left_half, corner, everything = (0.0, 0.0, 0.5, 1.0), (0.75, 0.75, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)
    # Covered cells of 16: one; eight, padding covers none; eight, covered twice they count once.
    boxes = torch.tensor([[corner, corner], [left_half, everything], [left_half, left_half]])
    batch = replace(random_batch(), boxes=boxes)
    inside = torch.zeros(3, 1, 4, 4)
    inside[0, :, 3, 3] = inside[1, :, :, :2] = inside[2, :, :, :2] = 1

    def answer(noisy: Tensor, timesteps: Tensor) -> Tensor:
        signal, spread = signal_and_noise(timesteps)
        return signal / spread * noisy + torch.where(inside.bool().repeat_interleave(LEVELS, 0), 0.5, 2.0)

    monkeypatch.setattr(stage.model, "unet", PlayedUNet(answer))
    monkeypatch.setattr(stage, "encode", lambda batch: torch.zeros(len(batch.images), LATENT_CHANNELS, 4, 4))
    torch.manual_seed(0)
    num_inside, num_outside = 17, 31
    expected = (3 * num_inside * 0.5**2 + num_outside * 2.0**2) / (3 * num_inside + num_outside)
    assert float(stage.loss(batch, 0.0)) == pytest.approx(expected, rel=1e-3)


def test_several_rows_of_a_scene_are_as_the_scene_given_several_times(stage: DenoisingStage) -> None:
    batch, twice = random_batch(), [0, 0, 1, 1, 2, 2]
    repeated = SceneBatch(
        *(getattr(batch, name)[twice] for name in ("images", "references", "boxes", "places", "present")),
        captions=tuple(batch.captions[scene] for scene in twice),
        phrases=tuple(batch.phrases[scene] for scene in twice),
    )
    latents, noise = torch.randn(2, 6, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([100, 900, 500, 400, 300, 200])
    drops = Drops(
        text=torch.tensor([True, False, False, False, False, True]),
        image=torch.tensor([False, False, True, False, False, False]),
        grounding=torch.tensor([False, False, False, False, True, True]),
    )
    with torch.no_grad():
        torch.testing.assert_close(
            stage.error(batch, latents, noise, timesteps, drops),
            stage.error(repeated, latents, noise, timesteps, drops),
        )


def test_every_row_draws_its_timestep_and_its_drops(stage: DenoisingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noisy timesteps come more often: their density grows in proportion, so half as far lies a quarter of them."""
    rows, batch = 6000, random_batch()
    batch = replace(
        batch,
        images=batch.images[:1].expand(rows, -1, -1, -1),
        boxes=batch.boxes[:1].expand(rows, -1, -1),
        present=batch.present[:1].expand(rows, -1),
    )
    drawn: list[tuple[Tensor, Tensor, Drops]] = []

    def keep(batch: SceneBatch, latents: Tensor, noise: Tensor, timesteps: Tensor, drops: Drops) -> Tensor:
        drawn.append((noise, timesteps, drops))
        return torch.zeros_like(latents)

    monkeypatch.setattr(stage, "error", keep)
    monkeypatch.setattr(stage, "encode", lambda batch: torch.zeros(len(batch.images), LATENT_CHANNELS, 4, 4))
    torch.manual_seed(0)
    stage.loss(batch, 0.0)
    ((noise, timesteps, drops),) = drawn
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0.0, 1.0), abs=0.01)
    assert 0 <= int(timesteps.min()) < 50
    assert int(timesteps.max()) == 999
    for bound in (250, 500, 750):
        assert float((timesteps < bound).float().mean()) == pytest.approx((bound / 1000) ** 2, abs=0.02)
    assert float((drops.text & ~drops.image).float().mean()) == pytest.approx(0.08, abs=0.015)
    assert float((drops.image & ~drops.text).float().mean()) == pytest.approx(0.12, abs=0.015)
    assert float((drops.image & drops.text).float().mean()) == pytest.approx(0.05, abs=0.015)
    assert float(drops.grounding.float().mean()) == pytest.approx(0.1, abs=0.015)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> MiniTraining:
    """A run whose earlier stages are done, before the first step of the last one."""
    folder = tmp_path_factory.mktemp("begun")
    training = MiniTraining(folder, *load_artwork(folder, (), ASSETS, smoke=True), SMOKE)
    for name, weights, part in (
        ("vae", WHITENED, training.model.vae),
        ("references", AVERAGE, training.reading),
    ):
        (folder / name).mkdir()
        (folder / name / "done.json").write_text("{}")
        save_file(part.state_dict(), folder / name / weights)
    assert training.run(minutes=0.0) == "base"
    return training


def test_subjects_start_from_the_text_projections(begun: MiniTraining) -> None:
    text, subjects = begun.model.unet.state_dict(), begun.model.adapter.state_dict()
    copied = [name for name in text if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    assert len(copied) == 2 * 11
    assert all(torch.equal(subjects[f"attention.{name}"], text[name]) for name in copied)


def test_the_base_is_trained_and_what_came_before_it_stays(begun: MiniTraining) -> None:
    model = begun.model
    for part in (model.unet, model.text_encoder, model.text_encoder_2, model.adapter):
        assert all(parameter.requires_grad for parameter in part.parameters())
    for part in (model.vae, model.image_encoder):
        assert not any(parameter.requires_grad for parameter in part.parameters())
