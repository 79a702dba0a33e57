"""Names of layers in LoRA files, on the full-size SDXL: one layer for each name, and the same one as diffusers finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.utils import convert_unet_state_dict_to_peft
from torch import nn

from benchmarks.random_sdxl import FULL, sdxl_parts
from ms_core.sampling.loras import Target, find_targets

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def components() -> Any:
    return sdxl_parts(FULL, torch.float16, torch.device("meta")).components


@pytest.fixture(scope="module")
def targets(components: Any) -> dict[str, Target]:
    return find_targets(components)


def test_every_layer_has_names_of_its_own(components: Any, targets: dict[str, Target]) -> None:
    layers = {
        (component, path)
        for component in COMPONENTS
        for path, module in getattr(components, component).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    kohya = [target for name, target in targets.items() if name.startswith("lora_")]
    assert {(target.component, target.path) for target in targets.values()} == layers
    assert {(target.component, target.path) for target in kohya} == layers


def test_a_target_has_its_layers_shape_and_dtype(components: Any, targets: dict[str, Target]) -> None:
    for target in targets.values():
        weight = getattr(components, target.component).get_submodule(target.path).weight
        assert (target.shape, target.dtype) == (tuple(weight.shape), weight.dtype)


@pytest.mark.parametrize("style", ["down_blocks mid_block up_blocks", "input_blocks middle_block output_blocks"])
def test_kohyas_names_mean_what_diffusers_takes_them_for(components, targets, style: str) -> None:
    names = [name for name in targets if name.startswith(tuple(f"lora_unet_{block}" for block in style.split()))]
    state: dict[str, torch.Tensor] = {}
    for number, name in enumerate(names):
        state[f"{name}.lora_down.weight"] = torch.tensor([number])
        state[f"{name}.lora_up.weight"] = torch.tensor([number])
    converted, _ = StableDiffusionXLPipeline.lora_state_dict(state, unet_config=components.unet.config)
    converted = convert_unet_state_dict_to_peft({key.removeprefix("unet."): value for key, value in converted.items()})
    found = {int(value): key.removesuffix(".lora_A.weight") for key, value in converted.items() if "lora_A" in key}
    assert len(names) > 700
    assert [found[number] for number in range(len(names))] == [targets[name].path for name in names]


@pytest.mark.parametrize(
    ("name", "component", "path"),
    [
        ("lora_te1_text_model_encoder_layers_11_mlp_fc2", "text_encoder", "encoder.layers.11.mlp.fc2"),
        (
            "lora_te2_text_model_encoder_layers_31_self_attn_k_proj",
            "text_encoder_2",
            "encoder.layers.31.self_attn.k_proj",
        ),
        ("lora_te2_text_projection", "text_encoder_2", "text_projection"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora", "text_encoder", "0.self_attn.out_proj"),
        ("lora_unet_input_blocks_0_0", "unet", "conv_in"),
        ("lora_unet_time_embed_2", "unet", "time_embedding.linear_2"),
        ("lora_unet_label_emb_0_0", "unet", "add_embedding.linear_1"),
        ("lora_unet_out_2", "unet", "conv_out"),
        ("lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_out_0", "unet", "9.attn2.to_out.0"),
    ],
)
def test_some_names_in_full(targets: dict[str, Target], name: str, component: str, path: str) -> None:
    assert targets[name].component == component
    assert targets[name].path.endswith(path)
