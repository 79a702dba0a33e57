"""Memory modes on the CPU: the same picture in each, made with nothing on the device that the mode keeps away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import nn

from benchmarks.random_sdxl import TINY, sdxl_parts
from ms_core.config import LORAS
from ms_core.device.memory import ModelSizes, Precision
from ms_core.device.modes import DEVICE_MODES, PARTS, MemoryMode, Part, resident_parts
from ms_core.device.residency import HOST, Residency, move_tensors
from ms_core.errors import InsufficientMemoryError
from ms_core.sampling.parts import model_parts
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline
from ms_core.spec import AutoLayout, Box, GenerationSpec, Lora, StartPicture, Subject
from tests.support.two_memories import DEVICE, TwoMemories

STEPS = 2
WEIGHTS: tuple[Part, ...] = tuple(part for part in PARTS if part != "controlnets")


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> TwoMemories:
    memories = TwoMemories()
    monkeypatch.setattr("ms_core.device.residency.move_tensors", memories)
    return memories


@pytest.fixture
def make_pipeline(memories: TwoMemories) -> Callable[[MemoryMode], MSDiffusionPipeline]:
    def make(mode: MemoryMode) -> MSDiffusionPipeline:
        return MSDiffusionPipeline(sdxl_parts(TINY), DEVICE, mode)

    return make


@pytest.fixture(scope="module")
def plain() -> MSDiffusionPipeline:
    """The same model with everything in one place."""
    return MSDiffusionPipeline(sdxl_parts(TINY), DEVICE, "24gb")


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subjects = (
        Subject("dog", reference_picture(0), Box(0.0, 0.2, 0.5, 0.9)),
        Subject("cat", reference_picture(1), Box(0.4, 0.1, 1.0, 0.8), scale=0.9),
    )
    return GenerationSpec("a dog and a cat", subjects, height=64, width=96, num_inference_steps=STEPS, seed=7)


def changed(name: str) -> Callable[[GenerationSpec], GenerationSpec]:
    def change(spec: GenerationSpec) -> GenerationSpec:
        changes: dict[str, dict[str, Any]] = {
            "boxes": {},
            "auto layout": {"layout": AutoLayout(start_step=1)},
            "no guidance": {"guidance_scale": 1.0},
            "heun": {"scheduler": "heun"},
            "start": {"start": StartPicture(spec.subjects[0].image, strength=0.6)},
        }
        return replace(spec, **changes[name])

    return change


def assert_same_pictures(found: MSDiffusionPipeline, plain: MSDiffusionPipeline, specs: Any) -> None:
    for one, other in zip(found.run(specs), plain.run(specs), strict=True):
        assert torch.equal(one.latents, other.latents)
        assert one.image.tobytes() == other.image.tobytes()


@pytest.mark.parametrize("name", ["boxes", "auto layout", "no guidance", "heun", "start"])
@pytest.mark.parametrize("mode", [*DEVICE_MODES, "cpu"])
def test_every_mode_makes_the_same_picture_to_the_last_bit(make_pipeline, plain, spec, mode, name: str) -> None:
    assert_same_pictures(make_pipeline(mode), plain, changed(name)(spec))


@pytest.mark.parametrize("mode", DEVICE_MODES)
def test_every_mode_makes_the_same_batch(make_pipeline, plain, spec, mode) -> None:
    assert_same_pictures(make_pipeline(mode), plain, [spec, replace(spec, prompt="a dog", seed=8)])


@pytest.mark.parametrize("mode", DEVICE_MODES)
def test_what_is_parked_cannot_be_used(make_pipeline, memories, spec, mode) -> None:
    """The tests above would see a part that is used while it is parked."""
    pipeline = make_pipeline(mode)
    with pipeline.residency.switched("8gb"):
        pass
    assert memories.present == set()
    assert all(parameter.isnan().all() for parameter in pipeline.unet.parameters())


def modules_of(parts: ModelParts | MSDiffusionPipeline) -> dict[Part, set[nn.Module]]:
    image_encoder = parts.image_encoder if isinstance(parts, ModelParts) else parts.conditioner.reader.image_encoder
    found = model_parts(parts.components, image_encoder, parts.adapter)
    return {part: set(modules()) for part, modules in found.items()}


@pytest.fixture
def watch(memories: TwoMemories) -> Iterator[Callable[[MSDiffusionPipeline], dict[str, set[Part]]]]:
    """Which parts are on the device whenever a model works, by the model's name."""
    handles: list[Any] = []

    def start(pipeline: MSDiffusionPipeline) -> dict[str, set[Part]]:
        seen: dict[str, set[Part]] = {}
        models = {
            "text_encoder": pipeline.components.text_encoder,
            "text_encoder_2": pipeline.components.text_encoder_2,
            "image_encoder": pipeline.conditioner.reader.image_encoder,
            "resampler": pipeline.adapter.resampler,
            "to_k": pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k,
            "unet": pipeline.unet,
            "vae": pipeline.components.vae.decoder,
        }

        def look(name: str) -> None:
            parts = {part for part, modules in modules_of(pipeline).items() if modules & memories.present}
            assert all(modules_of(pipeline)[part] <= memories.present for part in parts), "a part is there by halves"
            seen[name] = parts

        for name, model in models.items():
            handles.append(model.register_forward_pre_hook(lambda *_, name=name: look(name)))
        return seen

    yield start
    for handle in handles:
        handle.remove()


def test_24gb_keeps_everything(make_pipeline, memories, watch, spec) -> None:
    pipeline = make_pipeline("24gb")
    seen = watch(pipeline)
    pipeline.run(spec)
    assert all(parts == set(WEIGHTS) for parts in seen.values())
    assert len(seen) == 7


def test_12gb_has_encoders_only_while_they_read(make_pipeline, memories, watch, spec) -> None:
    pipeline = make_pipeline("12gb")
    seen = watch(pipeline)
    pipeline.run(spec)
    always: set[Part] = {"resampler", "projections", "unet", "vae"}
    assert seen == {
        "text_encoder": {*always, "text_encoders"},
        "text_encoder_2": {*always, "text_encoders"},
        "image_encoder": {*always, "image_encoder"},
        "resampler": always,
        "to_k": always,
        "unet": always,
        "vae": always,
    }


def test_8gb_has_one_part_at_a_time(make_pipeline, memories, watch, spec) -> None:
    pipeline = make_pipeline("8gb")
    seen = watch(pipeline)
    pipeline.run(spec)
    assert seen == {
        "text_encoder": {"text_encoders"},
        "text_encoder_2": {"text_encoders"},
        "image_encoder": {"image_encoder"},
        "resampler": {"resampler"},
        "to_k": {"projections"},
        "unet": {"unet"},
        "vae": {"vae"},
    }


@pytest.mark.parametrize("mode", [*DEVICE_MODES, "cpu"])
def test_between_requests_each_part_is_where_the_mode_says(make_pipeline, memories, spec, mode) -> None:
    pipeline = make_pipeline(mode)
    expected = set().union(*(modules_of(pipeline)[part] for part in WEIGHTS if part in resident_parts(mode)))
    assert memories.present == expected
    pipeline.run(spec)
    assert memories.present == expected


def test_the_projections_work_once_a_request(make_pipeline, spec) -> None:
    pipeline = make_pipeline("8gb")
    calls: list[int] = []
    layer = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    layer.to_k.register_forward_pre_hook(lambda *_: calls.append(1))
    pipeline.run(replace(spec, num_inference_steps=5))
    assert len(calls) == 1


def test_the_parts_are_the_whole_model_each_module_once() -> None:
    parts = sdxl_parts(TINY)
    found = modules_of(parts)
    components, adapter = parts.components, parts.adapter
    models = [getattr(components, name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")]
    models += [parts.image_encoder, adapter.resampler, adapter.attention]
    assert sum(len(modules) for modules in found.values()) == sum(1 for model in models for _ in model.modules())
    assert set().union(*found.values()) == {module for model in models for module in model.modules()}


@pytest.mark.parametrize("mode", DEVICE_MODES)
def test_the_estimate_knows_the_largest_sum_of_weights(golden_model_directory, memories, spec, mode) -> None:
    loaded = ModelParts.load(golden_model_directory, torch.float32)
    pipeline = MSDiffusionPipeline(loaded, DEVICE, mode)
    pipeline.run(spec)
    sizes, precision = ModelSizes.read(golden_model_directory, pipeline.card), Precision(4, 4)
    expected = max(sizes.weights({*resident_parts(mode), part}, precision) for part in WEIGHTS)
    assert memories.peak == expected


def test_requests_in_turn_share_what_both_use(make_pipeline, plain, spec) -> None:
    pipeline, other = make_pipeline("8gb"), replace(spec, seed=9, num_inference_steps=STEPS + 2)
    first, second = pipeline.generate(spec), pipeline.generate(other)
    for _ in range(STEPS + 1):
        next(first)
        next(second)
    *_, first_end = first
    *_, second_end = second
    assert torch.equal(first_end.generations[0].latents, plain.run(spec)[0].latents)
    assert torch.equal(second_end.generations[0].latents, plain.run(other)[0].latents)


def test_ending_early_parks_everything(make_pipeline, memories, spec) -> None:
    events = make_pipeline("8gb").generate(spec)
    while next(events).step < 1:
        pass
    assert memories.present
    events.close()
    assert memories.present == set()


def test_a_smaller_mode_for_a_while_parks_at_once_and_brings_back_when_needed(make_pipeline, memories, spec) -> None:
    pipeline = make_pipeline("24gb")
    before = set(memories.present)
    with pipeline.residency.switched("8gb"):
        assert memories.present == set()
        assert pipeline.memory_mode == "8gb"
    assert pipeline.memory_mode == "24gb"
    pipeline.run(spec)
    assert memories.present == before


def test_a_lora_of_a_request_acts_in_every_mode(memories, spec, tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights: dict[str, torch.Tensor] = {}
    for layer in ("attn1.to_q", "attn2.to_k", "attn2.to_v"):
        path = f"mid_block.attentions.0.transformer_blocks.0.{layer}"
        # Text is 64 wide, as the layer itself.
        weights |= {f"unet.{path}.lora_A.weight": torch.randn(2, 64), f"unet.{path}.lora_B.weight": torch.randn(64, 2)}
    (tmp_path / LORAS).mkdir()
    save_file(weights, tmp_path / LORAS / "style.safetensors")
    parts = (replace(sdxl_parts(TINY), directory=tmp_path) for _ in DEVICE_MODES)
    pipelines = [MSDiffusionPipeline(one, DEVICE, mode) for one, mode in zip(parts, DEVICE_MODES, strict=True)]
    with_lora = replace(spec, loras=(Lora("style", 0.5),))
    large, *smaller = pipelines
    for pipeline in smaller:
        assert_same_pictures(pipeline, large, with_lora)
        assert_same_pictures(pipeline, large, spec)
    assert not torch.equal(large.run(with_lora)[0].latents, large.run(spec)[0].latents)


def test_layers_that_peft_adds_move_with_their_part(make_pipeline, memories, spec) -> None:
    def with_lora(mode: MemoryMode) -> MSDiffusionPipeline:
        pipeline = make_pipeline(mode)
        torch.manual_seed(1)
        config = LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
        with pipeline.residency.use("unet", "projections"):
            pipeline.unet.add_adapter(config)
        return pipeline

    large, small = with_lora("24gb"), with_lora("8gb")
    assert_same_pictures(small, large, spec)
    lora = small.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.lora_A["default"]
    assert lora in modules_of(small)["projections"]
    assert lora not in memories.present
    assert not torch.equal(small.run(spec)[0].latents, make_pipeline("8gb").run(spec)[0].latents)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


@pytest.mark.parametrize(("mode", "stays"), [("24gb", True), ("12gb", False), ("8gb", False)])
def test_a_controlnet_comes_for_its_phase(memories, mode: MemoryMode, stays: bool) -> None:
    residency, net = Residency({}, DEVICE, mode), Net()
    with residency.use(net):
        assert memories.present == {net, net.layer}
    assert (net.layer in memories.present) == stays
    with residency.switched("8gb"):
        assert memories.present == set()


def test_a_part_that_does_not_fit_is_parked_again(memories) -> None:
    net = Net()
    residency = Residency({"unet": net.modules}, DEVICE, "8gb")
    memories.room = 8
    with pytest.raises(torch.OutOfMemoryError), residency.use("unet"):
        pass
    assert memories.present == set()
    memories.room = None
    with residency.use("unet"):
        assert memories.present == {net, net.layer}


def test_a_model_that_does_not_fit_is_refused_with_a_sentence(memories) -> None:
    memories.room = 100_000
    with pytest.raises(
        InsufficientMemoryError, match=r"does not fit onto the device in memory mode 24gb.*smaller mode"
    ):
        MSDiffusionPipeline(sdxl_parts(TINY), DEVICE, "24gb")


def test_moving_keeps_parameters_buffers_and_children() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)).requires_grad_(False)
    norm, linear = module[0], module[1]
    weight, mean, other = norm.weight, norm.running_mean.clone(), linear.weight.data_ptr()
    move_tensors(norm, DEVICE)
    assert norm.weight is weight
    assert torch.equal(norm.running_mean, mean)
    assert set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    move_tensors(module, DEVICE)
    assert linear.weight.data_ptr() == other
    move_tensors(norm, HOST)
    assert norm.weight.device == HOST


def test_switches_that_end_in_another_order_leave_the_first_mode() -> None:
    residency = Residency({}, DEVICE, "24gb")
    first, second = residency.switched("12gb"), residency.switched("8gb")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert residency.mode == "8gb"
    second.__exit__(None, None, None)
    assert residency.mode == "24gb"
