"""Schedulers by name: the model's numbers, diffusers' own pictures, rows on their own, honest steps."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from ms_core.errors import InvalidInputError, UnsupportedSchedulerError
from ms_core.sampling.events import Progress
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.sampling.schedulers import Schedule, make_scheduler, usable_schedulers
from ms_core.spec import MAX_STEPS, SCHEDULERS, TIMESTEP_SPACINGS, StartPicture
from tests.support.paths import MINI
from tests.support.plain_sdxl import diffusers_scheduler, our_latents, plain_latents, plain_sdxl, silent_spec, size_of
from tests.support.scheduler_kinds import KINDS_FIRST

CPU = torch.device("cpu")
PLAIN = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1).config
ZERO_SNR = DDIMScheduler(
    prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
).config
# As in ``models/mini``: the noisiest latents are pure noise, a sigma of 20,000.
TRAILING = {**PLAIN, "timestep_spacing": "trailing", "steps_offset": 0}
COSINE = {**TRAILING, "prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}
PERFECT = [
    (name, config)
    for name in SCHEDULERS
    for config in (TRAILING, {**TRAILING, "prediction_type": "v_prediction"}, COSINE)
    if name != "heun" or config is not COSINE
]
KEPT = ("prediction_type", "timestep_spacing", "beta_schedule", "beta_start", "beta_end", "steps_offset")


def schedule(name: str, steps: int, kept: int | None = None, spacing: str | None = None) -> Schedule:
    return Schedule(make_scheduler(name, PLAIN, spacing), steps, steps if kept is None else kept, CPU)


@pytest.fixture(scope="module")
def mini() -> MSDiffusionPipeline:
    """The bundled model."""
    return MSDiffusionPipeline.from_pretrained(MINI, device="cpu")


@pytest.fixture
def spec(reference_picture):
    return silent_spec(reference_picture(0))


@pytest.mark.parametrize("strength", [None, 0.5, 0.26])
@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_request_knows_how_often_the_unet_is_called(spec, name: str, steps: int, strength: float | None) -> None:
    start = None if strength is None else StartPicture(spec.subjects[0].images[0], strength)
    spec = replace(spec, scheduler=name, num_inference_steps=steps, start=start)
    kept = steps if start is None else start.num_kept_steps(steps)
    assert spec.num_unet_calls == len(schedule(name, steps, kept))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_keeps_the_models_numbers(name: str) -> None:
    made = make_scheduler(name, PLAIN).config
    assert {key: made[key] for key in KEPT} == {key: PLAIN[key] for key in KEPT}


@pytest.mark.parametrize("name", sorted({*SCHEDULERS} - {"heun"}))
def test_a_noise_schedule_that_ends_in_pure_noise_is_kept(name: str) -> None:
    made = make_scheduler(name, ZERO_SNR).config
    assert made["rescale_betas_zero_snr"] is True
    assert {key: made[key] for key in KEPT} == {key: ZERO_SNR[key] for key in KEPT}


@pytest.mark.parametrize("config", [ZERO_SNR, COSINE])
def test_heun_refuses_to_begin_at_pure_noise(config) -> None:
    with pytest.raises(UnsupportedSchedulerError, match="pure noise") as caught:
        Schedule(make_scheduler("heun", config), 20, 20, CPU)
    assert caught.value.pointer == "/scheduler"


@pytest.mark.parametrize("config", [PLAIN, ZERO_SNR, COSINE])
def test_those_that_are_told_as_usable_are_those_that_begin(config) -> None:
    usable = usable_schedulers(config)
    for spacing in (None, *TIMESTEP_SPACINGS):
        for name in SCHEDULERS:
            try:
                Schedule(make_scheduler(name, config, spacing), 20, 20, CPU)
            except UnsupportedSchedulerError:
                assert name not in usable.names(spacing)
            else:
                assert name in usable.names(spacing)
    assert ("heun" in usable.unspaced) == (config is PLAIN)


def test_the_bundled_model_tells_what_it_takes(mini) -> None:
    assert set(SCHEDULERS) - set(mini.card.schedulers.unspaced) == {"heun"}
    assert "heun" in mini.card.schedulers.names("leading")


def test_heun_may_begin_later() -> None:
    assert len(Schedule(make_scheduler("heun", COSINE), 20, 15, CPU)) == 29


def test_karras_steps_are_spent_on_the_picture() -> None:
    timesteps = Schedule(make_scheduler("dpmpp_2m_karras", COSINE), 20, 20, CPU).timesteps
    assert timesteps[0] > 985
    assert (timesteps < 950).sum() > 10


@pytest.mark.parametrize("config", [PLAIN, ZERO_SNR])
def test_ddim_never_clips_latents(config) -> None:
    assert make_scheduler("ddim", config).config.clip_sample is False


@pytest.mark.parametrize("name", SCHEDULERS)
def test_another_classs_config_is_no_reason_to_log(name: str) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    try:
        make_scheduler(name, PLAIN)
    finally:
        logger.removeHandler(handler)
    assert records == []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnsupportedSchedulerError, match="ddim, .*, unipc"):
        make_scheduler("dpm", PLAIN)


@pytest.mark.parametrize(("name", "config"), PERFECT)
def test_a_perfect_model_leads_to_its_picture(name: str, config) -> None:
    """Fed with the true noise or velocity at every step, a scheduler must arrive at the clean latents."""
    steps = Schedule(make_scheduler(name, config), 30, 30, CPU)
    alphas = make_scheduler("ddim", config).alphas_cumprod
    clean, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    latents = steps.noised(clean, noise, 0)
    for index, timestep in enumerate(steps.timesteps):
        alpha = alphas[int(timestep)]
        current = steps.scaled(latents, index)
        true_noise = (current - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * true_noise - (1 - alpha).sqrt() * clean
        prediction = true_noise if config["prediction_type"] == "epsilon" else velocity
        latents = steps.step(prediction, index, latents, [torch.Generator()])
    torch.testing.assert_close(latents, clean, atol=0.01, rtol=0.01)


@pytest.mark.parametrize(("name", "config"), PERFECT)
def test_a_perfect_model_sees_its_picture_at_every_step(name: str, config) -> None:
    steps = Schedule(make_scheduler(name, config), 30, 30, CPU)
    alphas = make_scheduler("ddim", config).alphas_cumprod
    clean, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    latents = steps.noised(clean, noise, 0)
    for index, timestep in enumerate(steps.timesteps):
        alpha = alphas[int(timestep)]
        current = steps.scaled(latents, index)
        true_noise = (current - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * true_noise - (1 - alpha).sqrt() * clean
        prediction = true_noise if config["prediction_type"] == "epsilon" else velocity
        # Karras' steps lie between the timesteps that the model knows, so its alpha is a little off.
        torch.testing.assert_close(steps.estimate(prediction, index, current), clean, atol=0.05, rtol=0.05)
        latents = steps.step(prediction, index, latents, [torch.Generator()])


@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_number_of_steps_is_done_within_the_models_timesteps(name: str, spacing: str) -> None:
    most = 50 if name == "lcm" else MAX_STEPS
    for steps in range(1, most + 1):
        done = schedule(name, steps, spacing=spacing)
        assert len(done) == (2 * steps - 1 if name == "heun" else steps)
        assert done.timesteps.min() >= 0
        assert done.timesteps.max() < 1000


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_number_that_diffusers_rounds_wrongly_leads_to_clean_latents(name: str) -> None:
    """With 61 trailing steps diffusers adds one at timestep -1: a repeated step that ends multistep solvers in NaN."""
    steps = schedule(name, 50 if name == "lcm" else 61, spacing="trailing")
    latents = torch.ones(1, 1, 2, 2)
    for index in range(len(steps)):
        latents = steps.step(torch.zeros_like(latents), index, latents, [torch.Generator().manual_seed(index)])
    assert latents.isfinite().all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_last_steps_are_those_of_the_whole_picture(name: str) -> None:
    whole, part = schedule(name, 10), schedule(name, 10, kept=4)
    assert torch.equal(part.timesteps, whole.timesteps[-len(part) :])
    assert len(part) == (7 if name == "heun" else 4)


@pytest.mark.parametrize("name", sorted({*SCHEDULERS} - {"ddim"}))
def test_no_step_is_looked_up_on_the_device(name: str) -> None:
    """Asked for its first step by timestep, a scheduler would wait for the device; DDIM counts no steps."""
    scheduler = make_scheduler(name, PLAIN)
    Schedule(scheduler, 10, 4, CPU)
    assert scheduler.begin_index == (12 if name == "heun" else 6)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_picture_is_diffusers_own(golden_pipeline, spec, name: str) -> None:
    spec = replace(spec, scheduler=name)
    expected = plain_latents(plain_sdxl(StableDiffusionXLPipeline, diffusers_scheduler(name)), spec, **size_of(spec))
    torch.testing.assert_close(our_latents(golden_pipeline, spec), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
@pytest.mark.parametrize("name", ["dpmpp_2m", "heun"])
def test_another_spacing_is_diffusers_own(golden_pipeline, spec, name: str, spacing: str) -> None:
    spec = replace(spec, scheduler=name, timestep_spacing=spacing)
    plain = plain_sdxl(StableDiffusionXLPipeline, diffusers_scheduler(name, timestep_spacing=spacing))
    expected = plain_latents(plain, spec, **size_of(spec))
    torch.testing.assert_close(our_latents(golden_pipeline, spec), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS_FIRST)
def test_a_picture_does_not_depend_on_its_neighbours(golden_pipeline, spec, name: str) -> None:
    one = replace(spec, scheduler=name)
    other = replace(one, prompt="a teapot", seed=8, guidance_scale=1.0)
    for generation, single in zip(golden_pipeline.run([other, one]), [other, one], strict=True):
        torch.testing.assert_close(generation.latents, our_latents(golden_pipeline, single), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", KINDS_FIRST)
def test_progress_counts_the_steps_that_are_done(golden_pipeline, spec, name: str) -> None:
    calls: list[object] = []
    handle = golden_pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        events = [e for e in golden_pipeline.generate(replace(spec, scheduler=name)) if isinstance(e, Progress)]
    finally:
        handle.remove()
    counted = [event.step for event in events if event.phase == "denoise"]
    assert counted == list(range(len(calls) + 1))
    assert {event.num_inference_steps for event in events} == {len(calls)}


@pytest.mark.parametrize("name", sorted({*SCHEDULERS} - {"heun"}))
def test_the_bundled_model_draws_with_it(mini, spec, name: str) -> None:
    """v-prediction, trailing spacing, and a noise schedule that ends in pure noise."""
    [made] = mini.run(replace(spec, scheduler=name, scale=None, num_inference_steps=6, guidance_scale=3.0))
    assert made.latents.abs().max() < 10
    assert all(low < high for low, high in made.image.getextrema())


def test_the_bundled_model_takes_heun_from_a_start_picture_only(mini, spec) -> None:
    spec = replace(spec, scheduler="heun", scale=None, num_inference_steps=6, guidance_scale=3.0)
    with pytest.raises(UnsupportedSchedulerError, match="choose ddim, dpmpp_2m,"):
        mini.generate(spec)
    start = StartPicture(spec.subjects[0].image, 0.7)
    assert mini.run(replace(spec, start=start))[0].latents.abs().max() < 10


def test_lcm_refuses_more_steps_than_it_has(golden_pipeline, spec) -> None:
    golden_pipeline.generate(replace(spec, scheduler="lcm", num_inference_steps=50))
    with pytest.raises(InvalidInputError, match="at most 50 steps") as caught:
        replace(spec, scheduler="lcm", num_inference_steps=51)
    assert caught.value.pointer == "/num_inference_steps"
