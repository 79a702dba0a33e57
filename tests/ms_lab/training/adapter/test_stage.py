"""One step: its loss against the formula written out, what drops do, and what learns."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ms_core.method.attention_data import ATTENTION_DATA
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec, Subject
from ms_core.spec.resolve import resolve_batch
from ms_lab.data.writing.sample_index import SampleIndex
from ms_lab.mini.batches import Share
from ms_lab.training.adapter.batches import SampleBatch, SampleStream
from ms_lab.training.adapter.draws import Draws, draw
from ms_lab.training.adapter.encoding import SampleEncoder
from ms_lab.training.adapter.objective import NoiseObjective
from ms_lab.training.adapter.samples import Size, crop
from ms_lab.training.adapter.sheet import draw_sheet
from ms_lab.training.adapter.sources import PictureSamples
from ms_lab.training.adapter.stage import AdapterStage, HeldOut
from ms_lab.training.dropout import DropRates, Drops
from ms_lab.training.sample_sheets import GAP
from tests.ms_lab.training.adapter.test_objective import kept_signal

SIZE = Size(64, 64)
NEVER = DropRates(0.0, 0.0, 0.0, 0.0)


def stage_of(
    pipeline: MSDiffusionPipeline, rates: DropRates = NEVER, gamma: float = 0.0, **changes: str
) -> AdapterStage:
    objective = NoiseObjective({**pipeline.components.scheduler.config, **changes}, gamma)
    return AdapterStage(pipeline, objective, SampleEncoder(pipeline).blanks(), rates, seed=3)


def samples_of(folder: Path, pipeline: MSDiffusionPipeline) -> PictureSamples:
    return PictureSamples(SampleIndex(folder, "train"), SIZE, pipeline.conditioner.reader.preprocessor)


def batch_of(folder: Path, pipeline: MSDiffusionPipeline, rows: int = 3, number: int = 0) -> SampleBatch:
    return SampleStream(samples_of(folder, pipeline), Share(rows, seed=3)).batch(number)


def loss_by_hand(
    pipeline: MSDiffusionPipeline, small_set: Path, number: int, draws: Draws, velocity: bool
) -> torch.Tensor:
    """The error of one sample, by what serving reads of a request for it, and the schedule's formula in float64."""
    sample, _ = crop(samples_of(small_set, pipeline).record(number), SIZE)
    subjects = tuple(Subject(own.phrase, own.reference, own.box) for own in sample.subjects)
    spec = GenerationSpec(sample.caption, subjects, height=64, width=64, guidance_scale=1.0, scale=1.0)
    conditioning = pipeline.conditioner.encode(resolve_batch([spec], pipeline.card))
    pixels = pipeline.components.image_processor.preprocess(sample.image)
    encoded = pipeline.components.vae.encode(pixels).latent_dist
    latents = (encoded.mean + encoded.std * draws.spread) * 0.18215
    signal = torch.tensor(kept_signal()[int(draws.timesteps)])
    noisy = (signal.sqrt() * latents + (1 - signal).sqrt() * draws.noise).float()
    record = samples_of(small_set, pipeline).record(number)
    time_ids = torch.tensor([[record.height, record.width, *crop(record, SIZE)[1], 64, 64]], dtype=torch.float32)
    prediction = pipeline.unet(
        noisy,
        draws.timesteps,
        conditioning.prompt_embeds,
        added_cond_kwargs={"text_embeds": conditioning.pooled_prompt_embeds, "time_ids": time_ids},
        cross_attention_kwargs={ATTENTION_DATA: conditioning.attention_data},
    ).sample
    target = signal.sqrt() * draws.noise - (1 - signal).sqrt() * latents if velocity else draws.noise
    return (prediction - target).square().mean()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_the_loss_is_the_error_of_what_serving_would_predict(
    pipeline: MSDiffusionPipeline, small_set: Path, kind: str
) -> None:
    stage = stage_of(pipeline, prediction_type=kind)
    batch = batch_of(small_set, pipeline)
    loss = stage.loss(batch, 0.0)
    stream = SampleStream(samples_of(small_set, pipeline), Share(3, seed=3))
    by_hand = [
        loss_by_hand(
            pipeline,
            small_set,
            stream.number_at(position),
            draw([position], 3, 1000, (4, 8, 8), NEVER),
            kind[0] == "v",
        )
        for position in batch.positions
    ]
    assert float(loss) == pytest.approx(float(sum(by_hand)) / 3, rel=1e-5)
    # Rows have one to three subjects, so that padding is at work.
    assert sorted(len(sample.boxes) for sample in batch.samples) != [3, 3, 3]


@torch.no_grad()
def test_min_snr_weighs_each_row(pipeline: MSDiffusionPipeline, small_set: Path) -> None:
    batch = batch_of(small_set, pipeline, rows=4)
    plain, weighed = stage_of(pipeline), stage_of(pipeline, gamma=0.02)
    encoded = plain.encode(batch)
    draws = plain.draw(batch.positions, encoded, NEVER)
    errors = plain.error(encoded, draws).mean((1, 2, 3))
    signal = torch.tensor(kept_signal()[draws.timesteps.numpy()])
    snr = signal / (1 - signal)
    expected = (errors * (torch.clamp(snr, max=0.02) / snr)).mean()
    assert float(weighed.loss(batch, 0.0)) == pytest.approx(float(expected), rel=1e-3)
    assert float(weighed.loss(batch, 0.0)) != pytest.approx(float(errors.mean()), rel=1e-2)


def test_only_the_adapter_learns_and_all_of_it(pipeline: MSDiffusionPipeline, small_set: Path) -> None:
    stage = stage_of(pipeline, DropRates(0.0, 0.0, 0.0, 0.5))
    batch = batch_of(small_set, pipeline, rows=4)
    encoded = stage.encode(batch)
    draws = stage.draw(batch.positions, encoded, NEVER)
    grounding = torch.tensor([True, False, True, False])
    stage.error(encoded, replace(draws, drops=replace(draws.drops, grounding=grounding))).mean().backward()
    still = [name for name, weight in stage.trained.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []
    components = pipeline.components
    for frozen in (components.unet, components.vae, components.text_encoder, components.text_encoder_2):
        assert all(weight.grad is None and not weight.requires_grad for weight in frozen.parameters())


def tokens_of(stage: AdapterStage, batch: SampleBatch, **drops: torch.Tensor) -> torch.Tensor:
    encoded = stage.encode(batch)
    none = torch.zeros(len(batch.positions), dtype=torch.bool)
    data = stage.attention_data(encoded, drops.get("image", none), drops.get("grounding", none))
    return data.subjects.tokens


@torch.no_grad()
def test_a_dropped_image_is_a_reference_without_pixels(pipeline: MSDiffusionPipeline, small_set: Path) -> None:
    stage, batch = stage_of(pipeline), batch_of(small_set, pipeline, rows=2)
    kept = tokens_of(stage, batch)
    dropped = tokens_of(stage, batch, image=torch.tensor([False, True]))
    blank = replace(batch, samples=tuple(replace(s, references=torch.zeros_like(s.references)) for s in batch.samples))
    assert torch.equal(dropped[0], kept[0])
    assert torch.equal(dropped[1], tokens_of(stage, blank)[1])
    assert not torch.equal(dropped[1], kept[1])


@torch.no_grad()
def test_dropped_grounding_replaces_the_queries_of_all_subjects_of_a_row(
    pipeline: MSDiffusionPipeline, small_set: Path
) -> None:
    stage, batch = stage_of(pipeline), batch_of(small_set, pipeline, rows=2)
    dropped = tokens_of(stage, batch, grounding=torch.tensor([True, False]))
    encoded = stage.encode(batch)
    resampler = pipeline.adapter.resampler
    alone = resampler(encoded.features[0], encoded.phrase_embeds[0], encoded.places[0], grounded=False)
    count = int(encoded.present[0].sum())
    torch.testing.assert_close(dropped[0][:count], alone[:count], atol=1e-5, rtol=0)
    assert torch.equal(dropped[1], tokens_of(stage, batch)[1])


@torch.no_grad()
def test_a_dropped_text_is_the_empty_one(pipeline: MSDiffusionPipeline, small_set: Path) -> None:
    stage, batch = stage_of(pipeline), batch_of(small_set, pipeline, rows=2)
    silent = replace(batch, samples=tuple(replace(sample, caption="") for sample in batch.samples))
    encoded = stage.encode(batch)
    draws = stage.draw(batch.positions, encoded, NEVER)
    dropped = replace(draws, drops=replace(draws.drops, text=torch.tensor([True, False])))
    error, empty = stage.error(encoded, dropped), stage.error(stage.encode(silent), draws)
    torch.testing.assert_close(error[0], empty[0], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(error[1], empty[1], atol=1e-4)


def test_drops_of_rows_come_at_their_rates() -> None:
    rates = DropRates(0.05, 0.05, 0.05, 0.1)
    drops = draw(range(4000), 1, 1000, (1, 1, 1), rates).drops
    shares = [float(own.float().mean()) for own in (drops.text, drops.image, drops.text & drops.image, drops.grounding)]
    # Three standard deviations of 4000 draws.
    for share, rate in zip(shares, (0.1, 0.1, 0.05, 0.1), strict=True):
        assert share == pytest.approx(rate, abs=3 * math.sqrt(rate * (1 - rate) / 4000))


def test_what_chance_decides_for_a_row_depends_on_its_position_alone() -> None:
    rates = DropRates(0.3, 0.3, 0.1, 0.5)
    together = draw([7, 8, 9], 1, 1000, (4, 3, 2), rates)
    alone = draw([8], 1, 1000, (4, 3, 2), rates)
    assert torch.equal(together.noise[1:2], alone.noise)
    assert torch.equal(together.spread[1:2], alone.spread)
    assert torch.equal(together.timesteps[1:2], alone.timesteps)
    assert not torch.equal(together.noise[0], together.noise[1])
    assert not torch.equal(alone.noise, alone.spread)
    assert not torch.equal(alone.noise, draw([8], 2, 1000, (4, 3, 2), rates).noise)


def test_timesteps_come_evenly() -> None:
    timesteps = draw(range(2000), 1, 1000, (1, 1, 1), NEVER).timesteps
    counts = torch.histc(timesteps.float(), 10, 0, 1000)
    assert int(timesteps.max()) > 990
    assert int(timesteps.min()) < 10
    assert float((counts - 200).abs().max()) < 3.5 * math.sqrt(180)


def test_gradient_checkpointing_changes_no_gradient(pipeline: MSDiffusionPipeline, small_set: Path) -> None:
    stage, batch = stage_of(pipeline), batch_of(small_set, pipeline)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
            pipeline.unet.train()
        stage.trained.zero_grad()
        stage.loss(batch, 0.0).backward()
        gradients.append([weight.grad.clone() for weight in stage.trained.parameters() if weight.grad is not None])
    pipeline.unet.disable_gradient_checkpointing()
    pipeline.unet.eval()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-5)


def test_each_pass_over_the_set_has_every_sample_once_in_its_own_order(
    pipeline: MSDiffusionPipeline, small_set: Path
) -> None:
    samples = samples_of(small_set, pipeline)
    stream = SampleStream(samples, Share(4, seed=3))
    passes = [[stream.number_at(10 * number + place) for place in range(10)] for number in range(3)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3
    parts = [SampleStream(samples, Share(2, seed=3, first=rank, every=2)) for rank in (0, 1)]
    # Two processes read the parts of the batches of one.
    assert [next(iter(part)).positions for part in parts] == [(0, 1), (2, 3)]


@torch.no_grad()
def test_the_reference_gain_compares_with_the_references_of_others(
    pipeline: MSDiffusionPipeline, small_set: Path
) -> None:
    stage = stage_of(pipeline)
    assert stage.telemetry() == {}
    batch = batch_of(small_set, pipeline)
    stage.held_out = HeldOut(batch)
    figures = stage.telemetry()
    assert list(figures) == [f"{name}_{t}" for t in (200, 450, 700) for name in ("inside", "reference_gain")]
    encoded = stage.encode(batch)
    draws = replace(stage.draw(batch.positions, encoded, NEVER), timesteps=torch.full((3,), 450), drops=Drops.none(3))
    wrong = encoded.with_rotated_references()
    assert torch.equal(wrong.features[0, 0], encoded.features[encoded.present].roll(1, 0)[0])
    errors = torch.stack([stage.error(references, draws).double() for references in (encoded, wrong)])
    totals, cells = torch.zeros(2, dtype=torch.float64), 0
    for row in range(3):
        for y in range(8):
            for x in range(8):
                # A cell counts where any box covers a part of it.
                if any(
                    box[0] * 8 < x + 1 and box[2] * 8 > x and box[1] * 8 < y + 1 and box[3] * 8 > y
                    for box in encoded.boxes[row][encoded.present[row]].tolist()
                ):
                    cells += 4
                    totals += errors[:, row, :, y, x].sum(1)
    assert figures["inside_450"] == pytest.approx(float(totals[0]) / cells, rel=1e-4)
    assert figures["reference_gain_450"] == pytest.approx(float(totals[1] - totals[0]) / cells, abs=1e-6)


def test_a_base_in_16_bits_and_an_adapter_in_32_train_and_draw_together(
    pipeline: MSDiffusionPipeline, golden_model_directory: Path, small_set: Path
) -> None:
    half = MSDiffusionPipeline.from_pretrained(golden_model_directory, "cpu", torch.bfloat16)
    stage, batch = stage_of(half), batch_of(small_set, half)
    with torch.autocast("cpu", torch.bfloat16):
        loss = stage.loss(batch, 0.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(stage_of(pipeline).loss(batch, 0.0).detach()), rel=0.02)
    assert {weight.dtype for weight in half.adapter.parameters()} == {torch.float32}
    assert {weight.dtype for weight in half.unet.parameters()} == {torch.bfloat16}
    shown = [samples_of(small_set, half).record(0)]
    stage.held_out = HeldOut(batch, partial(draw_sheet, half, shown, SIZE, 1))
    with torch.no_grad():
        assert set(stage.telemetry()) >= {"inside_200", "reference_gain_700"}
        sheet = stage.sheet()
    assert sheet is not None
    # One column of target, sample, and sample with another's references.
    assert sheet.size == (64 + 2 * GAP, 3 * 64 + 4 * GAP)
