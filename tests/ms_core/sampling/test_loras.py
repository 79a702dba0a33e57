"""LoRAs of a request: the same as merged weights, gone with the request, and named when they do not fit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.random_sdxl import TINY, sdxl_parts
from ms_core.config import Preset, PresetLora
from ms_core.errors import BatchMismatchError, UnfitLoraError, UnknownNameError
from ms_core.sampling.loras import NO_LORAS, LoraLibrary
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Lora, Subject
from ms_core.spec.resolve import ResolvedSpec
from ms_lab.parity import load_parity_pipeline
from tests.ms_core.sampling.lora_files import (
    TEXT,
    UNET,
    Layer,
    Matrices,
    make_lora,
    merge,
    write_kohya,
    write_old_diffusers,
    write_peft,
)
from tests.support.paths import GOLDEN
from tests.support.two_memories import DEVICE, TwoMemories

STEPS = 2
PARTS = ("unet", "text_encoder", "text_encoder_2")
TOLERANCE = {"atol": 2e-5, "rtol": 0.0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory's folders, without a model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "loras").mkdir()
    return folder


@pytest.fixture(scope="module")
def pipeline(directory: Path) -> MSDiffusionPipeline:
    """A pipeline that takes its LoRAs from ``directory``."""
    made = load_parity_pipeline(GOLDEN, resampler_heads=4)
    made.loras = LoraLibrary(made.components, directory, made.device)
    return made


@pytest.fixture(scope="module")
def drawn(pipeline: MSDiffusionPipeline, directory: Path) -> Mapping[str, dict[Layer, Matrices]]:
    """Random LoRAs by name, as they lie in ``directory``: of the UNet, of the text encoders, and of both."""
    loras = {
        "unet": make_lora(pipeline.components, UNET, seed=1),
        "text": make_lora(pipeline.components, TEXT, seed=2),
        "both": make_lora(pipeline.components, (*UNET, *TEXT), seed=3),
    }
    for name, lora in loras.items():
        write_kohya(directory / "loras" / f"{name}.safetensors", lora)
    return loras


@pytest.fixture(scope="module")
def merged() -> Callable[..., torch.Tensor]:
    """Latents of a spec by another pipeline, with LoRAs added to its weights."""
    other = load_parity_pipeline(GOLDEN, resampler_heads=4)
    parts = [getattr(other.components, name) for name in PARTS]
    states = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts]

    def run(spec: GenerationSpec, *loras: tuple[dict[Layer, Matrices], float]) -> torch.Tensor:
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        for lora, weight in loras:
            merge(other.components, lora, weight)
        return other.run(spec)[0].latents

    return run


@pytest.fixture(scope="module")
def spec(reference_picture) -> GenerationSpec:
    subjects = (
        Subject("dog", reference_picture(0), Box(0.05, 0.3, 0.45, 0.8)),
        Subject("cat", reference_picture(1), Box(0.5, 0.2, 0.95, 0.9), scale=0.9),
    )
    return GenerationSpec("a dog and a cat", subjects, height=32, width=40, num_inference_steps=STEPS, seed=3)


def latents(pipeline: MSDiffusionPipeline, spec: GenerationSpec, **weights: float) -> torch.Tensor:
    loras = tuple(Lora(name, weight) for name, weight in weights.items())
    return pipeline.run(replace(spec, loras=loras))[0].latents


@pytest.fixture(scope="module")
def plain(pipeline: MSDiffusionPipeline, spec: GenerationSpec) -> torch.Tensor:
    """Latents without any LoRA, made before there was one."""
    return latents(pipeline, spec)


def hooks(components: Any) -> dict[str, list[int]]:
    """Forward hooks of all layers; transformers has some of its own."""
    layers = ((part, path, module) for part in PARTS for path, module in getattr(components, part).named_modules())
    return {f"{part}.{path}": list(module._forward_hooks) for part, path, module in layers}


@pytest.mark.parametrize(("name", "weight"), [("unet", 1.0), ("text", 1.0), ("both", 0.6), ("both", -0.8)])
def test_a_lora_equals_merged_weights(pipeline, plain, drawn, merged, spec, name: str, weight: float) -> None:
    with_lora = latents(pipeline, spec, **{name: weight})
    torch.testing.assert_close(with_lora, merged(spec, (drawn[name], weight)), **TOLERANCE)
    assert (with_lora - plain).abs().max() > 1e-2


def test_two_loras_equal_both_merged(pipeline, drawn, merged, spec) -> None:
    torch.testing.assert_close(
        latents(pipeline, spec, unet=0.5, both=-0.7),
        merged(spec, (drawn["unet"], 0.5), (drawn["both"], -0.7)),
        **TOLERANCE,
    )


def test_the_same_lora_twice_counts_with_both_weights(pipeline, drawn, spec) -> None:
    twice = replace(spec, loras=(Lora("both", 0.5), Lora("both", 0.25)))
    assert torch.equal(pipeline.run(twice)[0].latents, latents(pipeline, spec, both=0.75))


def test_weight_zero_is_none(pipeline, plain, drawn, spec) -> None:
    assert torch.equal(latents(pipeline, spec, both=0.0), plain)


def test_a_plain_request_after_one_with_a_lora_is_plain(pipeline, plain, drawn, spec) -> None:
    latents(pipeline, spec, both=1.0)
    assert torch.equal(latents(pipeline, spec), plain)


def test_requests_in_turn_keep_their_own_loras(pipeline, drawn, spec) -> None:
    specs = [spec, *(replace(spec, loras=(Lora(name),)) for name in drawn)]
    alone = [pipeline.run(one)[0].latents for one in specs]
    streams = [pipeline.generate(one) for one in specs]
    for _ in range(STEPS + 2):
        for stream in streams:
            next(stream)
    for stream, expected in zip(streams, alone, strict=True):
        *_, last = stream
        assert torch.equal(last.generations[0].latents, expected)


def test_the_model_is_never_touched(pipeline, plain, drawn, spec) -> None:
    parts = [getattr(pipeline.components, name) for name in PARTS]
    before = hooks(pipeline.components)
    states = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts]
    modules = [dict(part.named_modules()) for part in parts]
    trainable = [[parameter.requires_grad for parameter in part.parameters()] for part in parts]
    stream = pipeline.generate(replace(spec, loras=(Lora("both"),)))
    while next(stream).step < 1:
        pass
    stream.close()
    for part, state, module in zip(parts, states, modules, strict=True):
        assert dict(part.named_modules()) == module
        assert part.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in part.state_dict().items())
    assert hooks(pipeline.components) == before
    assert [[parameter.requires_grad for parameter in part.parameters()] for part in parts] == trainable


def test_a_request_that_fails_leaves_no_lora_behind(pipeline, plain, drawn, spec) -> None:
    before = hooks(pipeline.components)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    handle = pipeline.unet.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ZeroDivisionError):
            latents(pipeline, spec, both=1.0)
    finally:
        handle.remove()
    assert hooks(pipeline.components) == before
    assert torch.equal(latents(pipeline, spec), plain)


def test_the_specs_of_a_batch_share_their_loras(pipeline, drawn, spec) -> None:
    one, other = (replace(spec, loras=(Lora("both", weight),)) for weight in (0.5, 0.75))
    with pytest.raises(BatchMismatchError, match=r"loras.* both at 0\.5; both at 0\.75") as caught:
        pipeline.generate([one, other])
    assert caught.value.pointer == "/loras"
    together = pipeline.run([one, replace(one, seed=9)])
    torch.testing.assert_close(together[0].latents, latents(pipeline, spec, both=0.5), atol=1e-4, rtol=0)


WRITERS: dict[str, Callable[..., None]] = {
    "kohya": write_kohya,
    "kohya-original": lambda path, lora: write_kohya(path, lora, original=True),
    "peft": write_peft,
    "old-diffusers": write_old_diffusers,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_spelling_is_read(pipeline, directory: Path, drawn, merged, spec, writer: str) -> None:
    lora = drawn["both"]
    if not writer.startswith("kohya"):
        # These hold no alpha; it counts as the rank.
        lora = {layer: replace(matrices, alpha=len(matrices.down)) for layer, matrices in lora.items()}
    WRITERS[writer](directory / "loras" / f"{writer}.safetensors", lora)
    torch.testing.assert_close(latents(pipeline, spec, **{writer: 0.7}), merged(spec, (lora, 0.7)), **TOLERANCE)


def test_a_unets_own_names_without_prefix_are_read(pipeline, directory: Path, drawn, spec) -> None:
    write_peft(directory / "loras" / "prefixed.safetensors", drawn["unet"])
    tensors = load_file(directory / "loras" / "prefixed.safetensors")
    bare = {name.removeprefix("unet."): tensor for name, tensor in tensors.items()}
    save_file(bare, directory / "loras" / "bare.safetensors")
    assert torch.equal(latents(pipeline, spec, bare=0.5), latents(pipeline, spec, prefixed=0.5))


def test_alphas_of_diffusers_metadata_count(pipeline, directory: Path, drawn, merged, spec) -> None:
    odd, other = ("unet", "mid_block.resnets.1.conv2"), ("text_encoder", "encoder.layers.1.mlp.fc1")
    lora = {layer: replace(matrices, alpha=3.0) for layer, matrices in drawn["both"].items()}
    lora[odd] = replace(lora[odd], alpha=5.0)
    lora[other] = replace(lora[other], alpha=3.0 * len(lora[other].down) ** 0.5)
    lora = {key: matrices for key, matrices in lora.items() if key[0] == "unet" or key == other}
    numbers = {
        "unet.lora_alpha": 3.0,
        "unet.alpha_pattern": {"^mid_block.resnets.1.conv2": 5.0},
        "text_encoder.lora_alpha": 3.0,
        "text_encoder.use_rslora": True,
    }
    write_peft(directory / "loras" / "numbers.safetensors", lora, {"lora_adapter_metadata": json.dumps(numbers)})
    torch.testing.assert_close(latents(pipeline, spec, numbers=0.5), merged(spec, (lora, 0.5)), **TOLERANCE)


def test_linear_layers_written_as_convolutions_are_read(pipeline, directory: Path, drawn, spec) -> None:
    flat = {key: m for key, m in drawn["unet"].items() if m.down.dim() == 2}
    tall = {key: replace(m, down=m.down[..., None, None], up=m.up[..., None, None]) for key, m in flat.items()}
    write_kohya(directory / "loras" / "flat.safetensors", flat)
    write_kohya(directory / "loras" / "tall.safetensors", tall)
    assert torch.equal(latents(pipeline, spec, tall=0.5), latents(pipeline, spec, flat=0.5))


def test_a_path_is_taken_as_it_is(pipeline, drawn, spec, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.safetensors"
    write_kohya(path, drawn["unet"])
    assert torch.equal(latents(pipeline, spec, **{str(path): 0.5}), latents(pipeline, spec, unet=0.5))


@pytest.mark.parametrize("name", ["no-such", "loras/unet", "../loras/unet", "no-such.safetensors", "unet.safetensors"])
def test_a_name_that_the_model_lacks_is_refused_at_the_call(pipeline, drawn, spec, name: str) -> None:
    with pytest.raises(UnknownNameError, match="no LoRA .* it has .*both, ") as caught:
        pipeline.generate(replace(spec, loras=(Lora("unet"), Lora(name))))
    assert caught.value.pointer == "/loras/1/name"


def test_a_model_directory_brings_its_loras(golden_model_directory: Path, drawn, spec, tmp_path: Path) -> None:
    home = tmp_path / "model"
    home.mkdir()
    for part in golden_model_directory.iterdir():
        (home / part.name).symlink_to(part)
    (home / "loras").mkdir()
    write_kohya(home / "loras" / "style.safetensors", drawn["both"])
    loaded = MSDiffusionPipeline.from_pretrained(home, "cpu")
    assert loaded.card.extras.loras == ("style",)
    assert not torch.equal(latents(loaded, spec, style=1.0), latents(loaded, spec))


def test_parked_layers_take_a_lora_as_those_do_that_stay(spec, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ms_core.device.residency.move_tensors", TwoMemories())
    block = "mid_block.attentions.0.transformer_blocks.0.attn2"
    layers = [("unet", f"{block}.to_q"), ("unet", f"{block}.to_k"), ("text_encoder", TEXT[0][1])]
    large, small = (MSDiffusionPipeline(sdxl_parts(TINY), DEVICE, mode) for mode in ("24gb", "8gb"))
    write_kohya(tmp_path / "style.safetensors", make_lora(sdxl_parts(TINY).components, layers))
    style = {str(tmp_path / "style.safetensors"): 1.0}
    assert torch.equal(latents(small, spec, **style), latents(large, spec, **style))
    assert not torch.equal(latents(small, spec, **style), latents(small, spec))


def test_a_model_without_a_folder_has_no_loras(golden_pipeline, spec) -> None:
    with pytest.raises(UnknownNameError, match="it has none"):
        golden_pipeline.generate(replace(spec, loras=(Lora("unet"),)))


def preset_card(pipeline: MSDiffusionPipeline, *names: str) -> Any:
    preset = Preset(num_inference_steps=STEPS, loras=tuple(PresetLora(name, 0.5) for name in names), extra="quick-set")
    return replace(pipeline.card, presets={"quick": preset})


def test_a_presets_loras_act_beside_the_specs_own(pipeline, drawn, spec, monkeypatch) -> None:
    expected = latents(pipeline, spec, unet=0.5, text=0.75)
    monkeypatch.setattr(pipeline, "card", preset_card(pipeline, "unet"))
    quick = replace(spec, preset="quick", loras=(Lora("text", 0.75),), num_inference_steps=None)
    assert torch.equal(pipeline.run(quick)[0].latents, expected)


def test_a_lora_that_a_preset_lacks_is_told_with_the_remedy(pipeline, drawn, spec, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "card", preset_card(pipeline, "unet", "missing"))
    with pytest.raises(UnknownNameError, match="'quick' needs the LoRA 'missing'.* sdxl --with quick-set") as caught:
        pipeline.generate(replace(spec, preset="quick"))
    assert caught.value.pointer == "/preset"


def test_own_loras_count_from_zero_beside_a_presets(pipeline, drawn, spec, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "card", preset_card(pipeline, "unet", "text"))
    with pytest.raises(UnknownNameError) as caught:
        pipeline.generate(replace(spec, preset="quick", loras=(Lora("unet"), Lora("no-such"))))
    assert caught.value.pointer == "/loras/1/name"


def sd15_lora() -> dict[str, torch.Tensor]:
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    return {f"{name}.lora_down.weight": torch.zeros(4, 768), f"{name}.lora_up.weight": torch.zeros(640, 4)}


def pair(name: str, down: tuple[int, ...] = (4, 16), up: tuple[int, ...] = (16, 4)) -> dict[str, torch.Tensor]:
    return {f"{name}.lora_A.weight": torch.zeros(down), f"{name}.lora_B.weight": torch.zeros(up)}


QUERY = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
UNFIT: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "SD 1.5": (sd15_lora(), r"was made for Stable Diffusion 1\.5 \(text 768 wide\)"),
    "Flux": (pair("transformer.single_transformer_blocks.0.attn.to_q"), "was made for Flux"),
    "kohya Flux": (pair("lora_unet_double_blocks_0_img_attn_qkv"), "was made for Flux"),
    "transformer": (pair("transformer.transformer_blocks.0.attn.to_q"), "a base with a transformer"),
    "other layers": (
        pair(QUERY) | pair(QUERY.replace("blocks.1", "blocks.7")),
        "1 of its 2 layers are not in this model",
    ),
    "other sizes": (pair(QUERY, (4, 320), (320, 4)), r"has the size \(320, 320\), the model's has \(16, 16\)"),
    "other ranks": (pair(QUERY, (4, 16), (16, 8)), "has the size None"),
    "no LoRA": ({"down_blocks.1.weight": torch.zeros(3)}, "contains no LoRA"),
    "nothing": ({}, "contains no LoRA"),
    "one half": ({f"{QUERY}.lora_A.weight": torch.zeros(4, 16)}, "only one half"),
    "more": (pair(QUERY) | {"emb_params": torch.zeros(1, 768)}, "contains more than a LoRA, such as 'emb_params'"),
    "DoRA": (pair(QUERY) | {f"{QUERY}.lora_magnitude_vector": torch.zeros(16)}, "is a DoRA"),
    "LoHa": ({"lora_unet_x.hada_w1_a": torch.zeros(4, 4)}, "is a LoHa"),
    "LoKr": ({"lora_unet_x.lokr_w1": torch.zeros(4, 4)}, "is a LoKr"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_lora_that_does_not_fit_is_named(pipeline, directory: Path, spec, case: str) -> None:
    tensors, sentence = UNFIT[case]
    before = hooks(pipeline.components)
    save_file(tensors, directory / "loras" / "unfit.safetensors")
    with pytest.raises(UnfitLoraError, match=sentence) as caught:
        pipeline.generate(replace(spec, loras=(Lora("unfit"),)))
    assert caught.value.pointer == "/loras/0/name"
    assert hooks(pipeline.components) == before


def test_the_model_works_on_after_a_lora_that_does_not_fit(pipeline, plain, directory: Path, spec) -> None:
    save_file(sd15_lora(), directory / "loras" / "foreign.safetensors")
    with pytest.raises(UnfitLoraError):
        pipeline.generate(replace(spec, loras=(Lora("unet"), Lora("foreign"))))
    assert torch.equal(latents(pipeline, spec), plain)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content[:-9], "is cut off"),
        (lambda content: content[:100], "is cut off within its header"),
        (lambda _: b"", "is empty"),
        (lambda _: b"PK\x03\x04" + bytes(200), "is a file of torch.save under another ending"),
        (lambda _: b"<!doctype html>" + bytes(200), "is a web page"),
    ],
)
def test_a_broken_file_is_named_and_never_unpickled(pipeline, directory: Path, drawn, spec, change, sentence) -> None:
    content = (directory / "loras" / "unet.safetensors").read_bytes()
    (directory / "loras" / "broken.safetensors").write_bytes(change(content))
    with pytest.raises(UnfitLoraError, match=rf"'broken' {sentence}.*fetch it again"):
        pipeline.generate(replace(spec, loras=(Lora("broken"),)))


def test_a_bad_lora_is_refused_at_weight_zero_too(pipeline, directory: Path, spec) -> None:
    (directory / "loras" / "empty.safetensors").write_bytes(b"")
    with pytest.raises(UnfitLoraError):
        pipeline.generate(replace(spec, loras=(Lora("empty", 0.0),)))


def test_a_file_that_is_replaced_is_read_anew(pipeline, directory: Path, drawn, spec) -> None:
    path = directory / "loras" / "fresh.safetensors"
    write_kohya(path, drawn["unet"])
    first = latents(pipeline, spec, fresh=0.5)
    write_kohya(path, make_lora(pipeline.components, UNET, seed=8))
    os.utime(path, ns=(1, 1))
    assert not torch.equal(latents(pipeline, spec, fresh=0.5), first)


def test_a_file_that_changes_between_finding_and_loading_is_refused(pipeline, directory: Path, drawn, spec) -> None:
    path = directory / "loras" / "hasty.safetensors"
    write_kohya(path, drawn["unet"])
    loras = pipeline.loras.find(ResolvedSpec.of(replace(spec, loras=(Lora("hasty"),)), pipeline.card))
    write_kohya(path, drawn["both"])
    before = hooks(pipeline.components)
    with pytest.raises(UnfitLoraError, match="just been changed"):
        pipeline.loras.activate(loras)
    assert hooks(pipeline.components) == before


def test_the_least_recently_used_loras_are_forgotten(golden_pipeline, directory: Path, drawn, spec) -> None:
    pipeline = golden_pipeline
    library = LoraLibrary(pipeline.components, directory, pipeline.device, max_loaded=2)

    def use(*names: str) -> list[str]:
        loras = tuple(Lora(name) for name in names)
        library.activate(library.find(ResolvedSpec.of(replace(spec, loras=loras), pipeline.card)))
        return [file.path.stem for file in library.loaded]

    before = hooks(pipeline.components)
    assert use("unet") == ["unet"]
    assert use("text") == ["unet", "text"]
    assert use("unet") == ["text", "unet"]
    assert use("both") == ["unet", "both"]
    # Those that act stay, be they more than are kept.
    assert use("unet", "both", "text") == ["unet", "both", "text"]
    assert use() == ["both", "text"]
    use("text")
    library.unload()
    assert library.loaded == ()
    assert hooks(pipeline.components) == before


def test_what_acts_already_is_not_set_up_again(golden_pipeline, directory: Path, drawn, spec) -> None:
    library = LoraLibrary(golden_pipeline.components, directory, golden_pipeline.device)
    loras = library.find(ResolvedSpec.of(replace(spec, loras=(Lora("unet"),)), golden_pipeline.card))
    before = hooks(golden_pipeline.components)
    library.activate(loras)
    acting = hooks(golden_pipeline.components)
    assert acting != before
    library.activate(loras)
    assert hooks(golden_pipeline.components) == acting
    library.activate(NO_LORAS)
    assert hooks(golden_pipeline.components) == before


def test_a_file_that_cannot_be_read_is_told_without_its_path(pipeline, directory: Path, spec) -> None:
    link = directory / "loras" / "lost.safetensors"
    link.symlink_to(directory / "nowhere")
    with pytest.raises(UnfitLoraError, match="'lost' cannot be read") as caught:
        pipeline.generate(replace(spec, loras=(Lora("lost"),)))
    link.unlink()
    assert str(directory) not in caught.value.detail


def test_what_interrupts_the_setting_up_leaves_no_hook(
    golden_pipeline, directory: Path, drawn, spec, monkeypatch
) -> None:
    library = LoraLibrary(golden_pipeline.components, directory, golden_pipeline.device)
    loras = library.find(ResolvedSpec.of(replace(spec, loras=(Lora("unet"),)), golden_pipeline.card))
    before = hooks(golden_pipeline.components)
    register, calls = torch.nn.Module.register_forward_hook, iter(range(3))

    def interrupted(module, hook):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return register(module, hook)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "register_forward_hook", interrupted)
        with pytest.raises(KeyboardInterrupt), library.cleared():
            library.activate(loras)
    assert hooks(golden_pipeline.components) == before
