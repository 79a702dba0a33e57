"""The public pipeline on the tiny golden model: events, batches, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ms_core.errors import BatchMismatchError, DeviceError, DeviceOutOfMemoryError
from ms_core.sampling.events import Finished, Progress
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import AutoLayout, Box, GenerationSpec, Subject
from tests.support.scheduler_kinds import KINDS_FIRST

STEPS = 3


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subjects = (
        Subject("dog", reference_picture(0), Box(0.05, 0.3, 0.45, 0.8)),
        Subject("cat", reference_picture(1), Box(0.5, 0.2, 0.95, 0.9), scale=0.9),
    )
    return GenerationSpec(
        "a dog and a cat on the beach", subjects, height=96, width=136, num_inference_steps=STEPS, seed=3
    )


@pytest.fixture
def other_specs(spec, reference_picture) -> tuple[GenerationSpec, GenerationSpec]:
    """A third of one subject without guidance, and one of three subjects with auto layout and without grounding."""
    one = replace(
        spec,
        prompt="a teapot in the forest",
        subjects=(Subject("teapot", reference_picture(3), Box(0.0, 0.0, 1.0, 1.0)),),
        seed=4,
        guidance_scale=1.0,
        scale=0.3,
    )
    phrases = ("red backpack", "dog", "cat")
    three = replace(
        spec,
        prompt="a red backpack, a dog and a cat",
        subjects=tuple(Subject(phrase, reference_picture(number)) for number, phrase in enumerate(phrases)),
        seed=5,
        guidance_scale=4.0,
        negative_prompt="",
        layout=AutoLayout(threshold=0.4, start_step=2),
        grounding=False,
    )
    return one, three


def latents(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> torch.Tensor:
    return pipeline.run(spec)[0].latents


def test_events_come_phase_by_phase(golden_pipeline, spec) -> None:
    *progress, last = golden_pipeline.generate(spec)
    assert [(event.phase, event.step) for event in progress] == [
        ("encode", 0),
        *(("denoise", step) for step in range(STEPS + 1)),
        ("decode", STEPS),
    ]
    assert all(isinstance(event, Progress) and event.num_inference_steps == STEPS for event in progress)
    assert isinstance(last, Finished)


def test_warnings_are_known_before_the_first_step(golden_pipeline, spec) -> None:
    events = list(golden_pipeline.generate([spec, replace(spec, prompt="a dog")]))
    assert events[0].warnings == ()
    assert [[warning.code for warning in warnings] for warnings in events[1].warnings] == [[], ["phrase_not_found"]]
    assert events[-1].generations[1].warnings == events[1].warnings[1]


def test_a_picture_has_the_size_that_was_asked_for(golden_pipeline, spec) -> None:
    (generation,) = golden_pipeline.run(spec)
    assert (generation.image.size, generation.image.mode) == ((136, 96), "RGB")
    assert generation.latents.shape == (1, 4, 12, 17)
    assert generation.seed == 3


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 64), (200, 264)])
def test_every_multiple_of_eight_runs(golden_pipeline, spec, height: int, width: int) -> None:
    (generation,) = golden_pipeline.run(replace(spec, height=height, width=width, num_inference_steps=1))
    assert generation.image.size == (width, height)
    assert generation.latents.isfinite().all()


def test_a_batch_of_different_specs_equals_each_alone(golden_pipeline, spec, other_specs) -> None:
    specs = [spec, *other_specs]
    for generation, single in zip(golden_pipeline.run(specs), specs, strict=True):
        torch.testing.assert_close(generation.latents, latents(golden_pipeline, single), atol=1e-3, rtol=0)


def test_specs_that_cannot_share_a_batch_are_refused_at_the_call(golden_pipeline, spec) -> None:
    with pytest.raises(BatchMismatchError):
        golden_pipeline.generate([spec, replace(spec, width=64)])


def test_auto_layout_first_and_plain_second_share_no_state(golden_pipeline, spec, other_specs) -> None:
    before = latents(golden_pipeline, spec)
    golden_pipeline.run(other_specs[1])
    assert torch.equal(latents(golden_pipeline, spec), before)


def test_requests_in_turn_do_not_mix(golden_pipeline, spec, other_specs) -> None:
    alone = latents(golden_pipeline, spec)
    first, second = golden_pipeline.generate(spec), golden_pipeline.generate(other_specs[1])
    for _ in range(STEPS + 2):
        next(first)
        next(second)
    *_, last = first
    assert torch.equal(last.generations[0].latents, alone)


def test_closing_early_leaves_the_unet_as_it_was(golden_pipeline, spec) -> None:
    before = latents(golden_pipeline, spec)
    processors = dict(golden_pipeline.unet.attn_processors)
    contents = [dict(vars(processor)) for processor in processors.values()]
    events = golden_pipeline.generate(replace(spec, layout=AutoLayout(start_step=1)))
    while next(events).step < 2:
        pass
    events.close()
    assert golden_pipeline.unet.attn_processors == processors
    assert [vars(processor) for processor in processors.values()] == contents
    assert torch.equal(latents(golden_pipeline, spec), before)


def test_gradients_are_on_again_between_steps(golden_pipeline, spec) -> None:
    assert all(torch.is_grad_enabled() for _ in golden_pipeline.generate(spec))


def test_uninstalling_gives_plain_sdxl(golden_directory, golden_pipeline, spec) -> None:
    from ms_lab.parity import load_parity_pipeline

    pipeline = load_parity_pipeline(golden_directory, resampler_heads=4)
    pipeline.run(spec)
    pipeline.adapter.uninstall(pipeline.unet)
    call = {
        "encoder_hidden_states": torch.ones(1, 77, 64),
        "added_cond_kwargs": {"text_embeds": torch.ones(1, 32), "time_ids": torch.ones(1, 6)},
    }
    with torch.no_grad():
        assert pipeline.unet(torch.ones(1, 4, 8, 8), torch.tensor(1), **call).sample.isfinite().all()


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0])
def test_without_guidance_the_negative_prompt_has_no_effect(golden_pipeline, spec, guidance_scale: float) -> None:
    one, other = (
        latents(golden_pipeline, replace(spec, guidance_scale=guidance_scale, negative_prompt=text))
        for text in ("", "red")
    )
    assert torch.equal(one, other)


def test_without_guidance_the_unconditional_half_is_not_computed(golden_pipeline, spec) -> None:
    batches: list[int] = []
    handle = golden_pipeline.unet.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    try:
        golden_pipeline.run([replace(spec, guidance_scale=1.0), replace(spec, seed=1)])
        golden_pipeline.run(replace(spec, guidance_scale=1.0))
    finally:
        handle.remove()
    assert batches == [3] * STEPS + [1] * STEPS


def test_guidance_just_above_one_meets_guidance_of_one(golden_pipeline, spec) -> None:
    one, above = (latents(golden_pipeline, replace(spec, guidance_scale=value)) for value in (1.0, 1.00001))
    torch.testing.assert_close(one, above, atol=2e-3, rtol=0)


def changed(name: str) -> Callable[[GenerationSpec], GenerationSpec]:
    """A spec with one thing changed."""

    def change(spec: GenerationSpec) -> GenerationSpec:
        first, second = spec.subjects
        changes = {
            "seed": {"seed": 4},
            "prompt": {"prompt": "a dog and a cat in the forest"},
            "scale": {"scale": 0.1},
            "grounding": {"grounding": False},
            "box": {"subjects": (replace(first, box=Box(0.0, 0.0, 0.3, 0.3)), second)},
            "reference": {"subjects": (replace(first, image=Image.new("RGB", (9, 9), "red")), second)},
            "phrase": {"subjects": (replace(first, phrase="beach"), second)},
            "subject scale": {"subjects": (first, replace(second, scale=0.1))},
            "layout": {"layout": AutoLayout(start_step=1)},
        }
        return replace(spec, **changes[name])

    return change


@pytest.mark.parametrize(
    "name",
    ["seed", "prompt", "scale", "grounding", "box", "reference", "phrase", "subject scale", "layout"],
)
def test_everything_that_is_asked_for_has_an_effect(golden_pipeline, spec, name: str) -> None:
    one, other = latents(golden_pipeline, spec), latents(golden_pipeline, changed(name)(spec))
    assert (one - other).abs().max() > 1e-3


def test_ddim_and_euler_are_one_solver_of_a_noise_prediction(golden_pipeline, spec) -> None:
    one, other = (latents(golden_pipeline, replace(spec, scheduler=name)) for name in ("euler", "ddim"))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_at_scale_zero_the_references_have_no_effect(golden_pipeline, spec) -> None:
    subjects = tuple(replace(subject, scale=None) for subject in spec.subjects)
    silent = replace(spec, subjects=subjects, scale=0.0)
    swapped = replace(silent, subjects=tuple(replace(s, image=Image.new("RGB", (9, 9))) for s in subjects))
    assert torch.equal(latents(golden_pipeline, silent), latents(golden_pipeline, swapped))


def test_the_same_seed_gives_the_same_picture(golden_pipeline, spec) -> None:
    first, second = golden_pipeline.run(spec), golden_pipeline.run(spec)
    assert first[0].image.tobytes() == second[0].image.tobytes()


@pytest.mark.parametrize("scheduler", KINDS_FIRST)
def test_v_prediction_runs_with_every_scheduler(golden_pipeline, spec, scheduler: str, monkeypatch) -> None:
    config = {**golden_pipeline.components.scheduler.config}
    own = type(golden_pipeline.components.scheduler).from_config(
        {**config, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    )
    epsilon = latents(golden_pipeline, replace(spec, scheduler=scheduler))
    monkeypatch.setattr(golden_pipeline.components, "scheduler", own)
    velocity = latents(golden_pipeline, replace(spec, scheduler=scheduler))
    assert velocity.isfinite().all()
    assert not torch.allclose(velocity, epsilon, atol=1e-2)


def test_too_little_memory_is_an_error_of_ours(golden_pipeline, spec) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    before = latents(golden_pipeline, spec)
    handle = golden_pipeline.unet.register_forward_pre_hook(fail)
    try:
        with pytest.raises(DeviceOutOfMemoryError):
            golden_pipeline.run(spec)
    finally:
        handle.remove()
    assert torch.equal(latents(golden_pipeline, spec), before)


def test_subjects_at_scale_zero_reach_nothing(golden_pipeline, spec) -> None:
    first, second = spec.subjects
    off = replace(spec, scale=0.0, subjects=(replace(first, scale=None), replace(second, scale=None)))
    exchanged = replace(
        off,
        subjects=(
            replace(second, box=first.box, scale=None),
            replace(first, box=second.box, scale=None),
        ),
    )
    assert torch.equal(latents(golden_pipeline, off), latents(golden_pipeline, exchanged))


def test_a_bar_is_shown_if_that_is_asked_for(golden_pipeline, spec, capsys) -> None:
    plain = golden_pipeline.run(spec)
    assert capsys.readouterr().err == ""
    shown = golden_pipeline.run(spec, progress=True)
    told = capsys.readouterr().err
    assert f"{STEPS}/{STEPS}" in told
    assert torch.equal(shown[0].latents, plain[0].latents)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="PyTorch sees no CUDA device for 'cuda:99'"):
        MSDiffusionPipeline.from_pretrained("nothing", device="cuda:99")
    with pytest.raises(DeviceError, match="no device; use cpu or cuda"):
        MSDiffusionPipeline.from_pretrained("nothing", device="gpu")
