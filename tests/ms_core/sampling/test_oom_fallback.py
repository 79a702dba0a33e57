"""Out of memory in a job: everything freed, one more try in a smaller mode, one picture at a time, then only this job fails."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from cachetools import LRUCache

from benchmarks.random_sdxl import TINY, sdxl_parts
from ms_core.device.modes import MemoryMode
from ms_core.errors import DeviceLostError, DeviceOutOfMemoryError
from ms_core.sampling.events import Finished, Progress
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from tests.support.two_memories import DEVICE

STEPS = 3
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def large() -> MSDiffusionPipeline:
    return MSDiffusionPipeline(sdxl_parts(TINY), DEVICE, "24gb")


@pytest.fixture
def pipeline(
    large: MSDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> Callable[[MemoryMode], MSDiffusionPipeline]:
    """The one pipeline in any mode: only what it keeps on its device differs, and here all devices are one."""

    def in_mode(mode: MemoryMode) -> MSDiffusionPipeline:
        monkeypatch.setattr(large.residency, "_base_mode", mode)
        return large

    return in_mode


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subject = Subject("cat", reference_picture(1), Box(0.1, 0.1, 0.9, 0.9))
    return GenerationSpec("a cat", (subject,), height=64, width=72, num_inference_steps=STEPS, seed=5)


@pytest.fixture
def fail() -> Iterator[Callable[..., list[Any]]]:
    """Have a module's calls fail, those of the given numbers; gives the shape of each call's first input."""
    handles: list[Any] = []

    def install(module: torch.nn.Module, *numbers: int, error: Exception = NO_MEMORY) -> list[Any]:
        shapes: list[Any] = []

        def before(_: Any, args: tuple[Any, ...]) -> None:
            shapes.append(tuple(args[0].shape))
            if len(shapes) - 1 in numbers:
                # A new one each time: an error keeps the frames that it went through.
                raise type(error)(*error.args)

        handles.append(module.register_forward_pre_hook(before))
        return shapes

    yield install
    for handle in handles:
        handle.remove()


def latents(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> torch.Tensor:
    return pipeline.run(spec)[0].latents


@pytest.mark.parametrize("model", ["text_encoder", "image_encoder", "unet", "vae"])
def test_wherever_memory_runs_out_the_second_try_makes_the_same_picture(
    pipeline, spec, fail, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    large = pipeline("24gb")
    expected = large.run(spec)[0]
    # Pictures that were read before would not be read again.
    monkeypatch.setattr(large.conditioner.reader, "_features", LRUCache(0, lambda tensor: tensor.nbytes))
    models = {
        "text_encoder": large.components.text_encoder,
        "image_encoder": large.conditioner.reader.image_encoder,
        "unet": large.unet,
        "vae": large.components.vae.decoder,
    }
    fail(models[model], 0)
    (generation,) = large.run(spec)
    assert torch.equal(generation.latents, expected.latents)
    assert generation.image.tobytes() == expected.image.tobytes()
    assert [warning.code for warning in generation.warnings] == ["memory_retry"]
    assert expected.warnings == ()


@pytest.mark.parametrize(("mode", "smaller"), [("24gb", "12gb"), ("12gb", "8gb")])
def test_the_second_try_is_in_the_next_smaller_mode(pipeline, spec, fail, mode: MemoryMode, smaller: str) -> None:
    chosen = pipeline(mode)
    fail(chosen.unet, 1)
    modes: list[str] = []
    handle = chosen.unet.register_forward_pre_hook(lambda *_: modes.append(chosen.memory_mode))
    *_, finished = chosen.generate(spec)
    handle.remove()
    # The call that failed did not reach the second hook.
    assert modes == [mode, *[smaller] * STEPS]
    assert chosen.memory_mode == mode
    (warning,) = finished.generations[0].warnings
    assert f"mode {mode}," in warning.detail
    assert f"in mode {smaller}," in warning.detail


def test_the_second_try_makes_one_picture_at_a_time_and_changes_nothing_else(pipeline, spec, fail) -> None:
    large = pipeline("24gb")
    batch = [spec, replace(spec, seed=6, guidance_scale=1.0), replace(spec, prompt="a cat in the forest")]
    expected = [latents(large, row) for row in batch]
    shapes = fail(large.unet, 2)
    found = large.run(batch)
    assert [torch.equal(one.latents, other) for one, other in zip(found, expected, strict=True)] == [True] * 3
    assert [generation.seed for generation in found] == [5, 6, 5]
    rows = [shape[0] for shape in shapes]
    assert rows == [5] * 3 + [2] * STEPS + [1] * STEPS + [2] * STEPS
    assert {shape[1:] for shape in shapes} == {(4, 8, 9)}


def test_the_second_try_tells_its_progress_over_all_pictures(pipeline, spec, fail) -> None:
    large = pipeline("24gb")
    fail(large.unet, 1)
    events = list(large.generate([spec, replace(spec, prompt="a dog")]))
    progress = [event for event in events if isinstance(event, Progress)]
    first = [("encode", 0, 3), ("denoise", 0, 3), ("denoise", 1, 3)]
    one = [("encode", 0, 6), *(("denoise", step, 6) for step in range(4)), ("decode", 3, 6)]
    two = [("encode", 3, 6), *(("denoise", step, 6) for step in range(3, 7)), ("decode", 6, 6)]
    assert [(event.phase, event.step, event.num_inference_steps) for event in progress] == first + one + two
    assert [[warning.code for warning in row] for row in progress[-1].warnings] == [
        ["memory_retry"],
        ["phrase_not_found", "memory_retry"],
    ]
    assert isinstance(events[-1], Finished)
    assert [generation.warnings for generation in events[-1].generations] == list(progress[-1].warnings)


def test_after_a_second_failure_only_this_job_fails(pipeline, spec, fail) -> None:
    large = pipeline("24gb")
    expected = latents(large, spec)
    shapes = fail(large.unet, 1, 2)
    with pytest.raises(
        DeviceOutOfMemoryError, match=r"too little free memory.*second try in memory mode 12gb"
    ) as caught:
        large.run(spec)
    assert caught.value.__cause__ is None
    assert len(shapes) == 3
    assert large.memory_mode == "24gb"
    (generation,) = large.run(spec)
    assert torch.equal(generation.latents, expected)
    assert generation.warnings == ()


def test_one_picture_in_the_smallest_mode_is_not_tried_again(pipeline, spec, fail) -> None:
    small = pipeline("8gb")
    shapes = fail(small.unet, 0)
    with pytest.raises(DeviceOutOfMemoryError, match="too little free memory"):
        small.run(spec)
    assert len(shapes) == 1


@pytest.mark.parametrize("mode", ["8gb", "cpu"])
def test_a_batch_in_the_smallest_mode_is_tried_again_one_by_one(pipeline, spec, fail, mode: MemoryMode) -> None:
    small = pipeline(mode)
    shapes = fail(small.unet, 0)
    small.run([spec, replace(spec, seed=6)])
    assert [shape[0] for shape in shapes] == [4] + [2] * 2 * STEPS


def test_nothing_of_the_first_try_is_left_when_the_second_begins(pipeline, spec, fail) -> None:
    large = pipeline("24gb")
    seen: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    watch = large.unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.extend(
            weakref.ref(tensor)
            for tensor in (
                args[0],
                kwargs["encoder_hidden_states"],
                kwargs["cross_attention_kwargs"]["attention_data"].subjects.tokens,
            )
        ),
        with_kwargs=True,
    )
    fail(large.unet, 1)
    gc.disable()
    begin = large.components.text_encoder.register_forward_pre_hook(
        lambda *_: alive.append(sum(ref() is not None for ref in seen))
    )
    try:
        large.run(spec)
    finally:
        gc.enable()
        watch.remove()
        begin.remove()
    assert len(seen) == 3 * (2 + STEPS)
    assert set(alive) == {0}


def test_nothing_of_a_failed_job_is_left_with_its_error(pipeline, spec, fail) -> None:
    small = pipeline("8gb")
    seen: list[weakref.ref[torch.Tensor]] = []
    watch = small.unet.register_forward_pre_hook(lambda _, args: seen.append(weakref.ref(args[0])))
    fail(small.unet, 1)
    with pytest.raises(DeviceOutOfMemoryError) as caught:
        small.run(spec)
    watch.remove()
    assert caught.value.__context__ is None
    assert [ref() for ref in seen] == [None, None]


def test_a_lost_device_is_not_tried_again(pipeline, spec, fail) -> None:
    large = pipeline("24gb")
    shapes = fail(large.unet, 0, error=torch.AcceleratorError("CUDA error: unspecified launch failure"))
    with pytest.raises(DeviceLostError):
        large.run(spec)
    assert len(shapes) == 1


def test_a_second_try_can_be_ended_early(pipeline, spec, fail) -> None:
    large = pipeline("24gb")
    fail(large.unet, 0)
    events = large.generate(spec)
    while not next(events).warnings or large.memory_mode == "24gb":
        pass
    events.close()
    assert large.memory_mode == "24gb"
