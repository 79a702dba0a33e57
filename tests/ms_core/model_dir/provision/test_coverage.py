"""Every tensor of a checkpoint in one file is used, known to be harmless, or named; scaled weights are what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ms_core.errors import CheckpointError
from ms_core.model_dir.provision.single_file import write_single_file as convert
from tests.support.single_file_checkpoint import single_file_tensors

Tensors = dict[str, Tensor]
UNET = "model.diffusion_model."
QUERY = f"{UNET}input_blocks.4.1.transformer_blocks.0.attn1.to_q"
FC1 = "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1"


@pytest.fixture
def base(golden_directory: Path) -> Path:
    return golden_directory / "tiny-sdxl"


@pytest.fixture
def tensors(base: Path) -> Tensors:
    return {name: tensor.to(torch.float16).contiguous() for name, tensor in single_file_tensors(base).items()}


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Callable[[Tensors], Path]:
    """Converts a file of some tensors; returns the folder of the result."""

    def convert_file(tensors: Tensors) -> Path:
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "file.safetensors")
        (tmp_path / "model").mkdir()
        convert(tmp_path / "file.safetensors", base, tmp_path / "model", with_vae=True)
        return tmp_path / "model"

    return convert_file


def as_bytes(value: object) -> Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def quantise(tensors: Tensors, ending: str, dtype: torch.dtype) -> Tensors:
    """All linear layers of the UNet and the first text encoder in 8 bits, each with its scale."""
    made = dict(tensors)
    for name, tensor in tensors.items():
        if name.startswith((UNET, "conditioner.embedders.0.")) and name.endswith(".weight") and tensor.dim() == 2:
            scale = tensor.float().abs().max() / 400
            made[name] = (tensor.float() / scale).to(dtype)
            made[f"{name.removesuffix('.weight')}.{ending}"] = scale
    return made


@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_scaled_weights_are_multiplied_by_their_scales(make, tensors: Tensors, ending: str, dtype: torch.dtype) -> None:
    scaled = quantise(tensors, ending, dtype)
    layer = scaled[f"{QUERY}.weight"]
    scaled[f"{QUERY}.input_scale"] = torch.tensor(0.3)
    scaled[f"{QUERY}.comfy_quant"] = as_bytes({"format": str(dtype).removeprefix("torch.")})
    scaled[f"{UNET}scaled_fp8"] = torch.zeros(2).to(dtype)
    folder = make(scaled)
    made = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    found = made["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"]
    assert found.dtype == torch.float16
    assert torch.equal(found, (layer.float() * scaled[f"{QUERY}.{ending}"]).half())
    torch.testing.assert_close(found, tensors[f"{QUERY}.weight"], rtol=0.2, atol=1e-3)
    text = {
        name.removeprefix("text_model."): t for name, t in load_file(folder / "text_encoder/model.safetensors").items()
    }
    torch.testing.assert_close(text["encoder.layers.0.mlp.fc1.weight"], tensors[f"{FC1}.weight"], rtol=0.2, atol=1e-3)


@pytest.mark.parametrize("ending", ["input_scale", "scale_input"])
def test_what_belongs_to_products_in_8_bits_changes_no_weight(make, tensors: Tensors, ending: str) -> None:
    """A scale of inputs, and whether the sums are exact."""
    told = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
    extras = {ending: torch.tensor(0.3), "comfy_quant": as_bytes(told)}
    scaled = float8(tensors, weight_scale=ONE, **extras)
    found = load_file(make(scaled) / "unet" / "diffusion_pytorch_model.safetensors")
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(found[name], (scaled[f"{QUERY}.weight"].float() * 0.5).half())


def test_a_scale_of_inputs_without_one_of_weights_is_named(make, tensors: Tensors) -> None:
    with pytest.raises(CheckpointError, match="tensors in its unet that the model does not have: .*to_q.input_scale"):
        make(float8(tensors, input_scale=ONE))


def float8(tensors: Tensors, layer: str = QUERY, **extras: Tensor) -> Tensors:
    weight = {f"{layer}.weight": tensors[f"{layer}.weight"].to(torch.float8_e4m3fn)}
    return tensors | weight | {f"{layer}.{name}": tensor for name, tensor in extras.items()}


ONE = torch.tensor(0.5)
PACKED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a scale for each row": (lambda t: float8(t, weight_scale=torch.ones(16)), "to_q.weight_scale"),
    "a scale of zero": (lambda t: float8(t, scale_weight=torch.tensor(0.0)), "to_q.scale_weight"),
    "a scale that is no number": (lambda t: float8(t, scale_weight=torch.tensor(float("nan"))), "to_q.scale_weight"),
    "a scale that overflows": (lambda t: float8(t, scale_weight=torch.tensor(1e30)), "to_q.scale_weight"),
    "two scales": (lambda t: float8(t, scale_weight=ONE, weight_scale=ONE), "to_q.(scale_weight|weight_scale)"),
    "a scale of plain weights": (lambda t: t | {f"{QUERY}.weight_scale": ONE}, "to_q.weight_scale"),
    "a scale without weight": (lambda t: t | {f"{UNET}x.weight_scale": ONE}, "x.weight_scale"),
    "int8": (
        lambda t: t | {f"{QUERY}.weight": torch.ones(16, 16, dtype=torch.int8), f"{QUERY}.weight_scale": ONE},
        "to_q.weight_scale",
    ),
    "int8 without scale": (lambda t: t | {f"{QUERY}.weight": torch.ones(16, 16, dtype=torch.int8)}, "to_q.weight"),
    "blocks as in GGUF": (lambda t: t | {f"{QUERY}.weight": torch.ones(16, 18, dtype=torch.uint8)}, "to_q.weight"),
    "4 bits in the VAE": (
        lambda t: t | {"first_stage_model.quant_conv.weight": torch.ones(9, dtype=torch.uint8)},
        "quant_conv.weight",
    ),
    "another format": (
        lambda t: float8(t, weight_scale=ONE, comfy_quant=as_bytes({"format": "nvfp4"})),
        "to_q.comfy_quant",
    ),
    "a rotated format": (
        lambda t: float8(t, weight_scale=ONE, comfy_quant=as_bytes({"format": "float8_e4m3fn", "convrot": True})),
        "to_q.comfy_quant",
    ),
    "a format without scale": (lambda t: float8(t, comfy_quant=as_bytes({"format": "float8_e4m3fn"})), "comfy_quant"),
    "a format of no sense": (lambda t: float8(t, weight_scale=ONE, comfy_quant=torch.ones(3)), "comfy_quant"),
    "a format of other bits": (
        lambda t: float8(t, weight_scale=ONE, comfy_quant=as_bytes({"format": "float8_e5m2"})),
        "to_q.comfy_quant",
    ),
    "a format that is no object": (
        lambda t: float8(t, weight_scale=ONE, comfy_quant=as_bytes(["format"])),
        "comfy_quant",
    ),
    "a scale below zero": (lambda t: float8(t, scale_weight=-ONE), "to_q.scale_weight"),
    "a scale in 8 bits": (lambda t: float8(t, scale_weight=ONE.to(torch.float8_e4m3fn)), "to_q.scale_weight"),
    "a whole scale": (lambda t: float8(t, scale_weight=torch.tensor(1)), "to_q.scale_weight"),
    "a mark without scales": (lambda t: float8(t) | {"scaled_fp8": torch.zeros(0)}, "'scaled_fp8'"),
}


@pytest.mark.parametrize("case", PACKED)
def test_packed_weights_are_refused_with_the_remedy(make, tensors: Tensors, case: str) -> None:
    change, name = PACKED[case]
    sentence = rf"in a packed form that cannot be undone.*{name}.*Take the same checkpoint in float16"
    with pytest.raises(CheckpointError, match=sentence):
        make(change(tensors))


SPARE = torch.ones(4)
STRANGERS = {
    f"{UNET}input_blocks.99.0.in_layers.2.weight": "unet",
    f"{QUERY}.weight_scale_inv": "unet",
    f"{QUERY}.weight.absmax": "unet",
    f"{QUERY}.lora_down.weight": "unet",
    f"{UNET}output_blocks.0.0.extra.weight": "unet",
    f"{UNET}something": "unet",
    "first_stage_model.decoder.up.7.block.0.conv1.weight": "vae",
    "first_stage_model.decoder.mid.attn_1.q.scales": "vae",
    f"{FC1}.SCB": "text_encoder",
    "conditioner.embedders.1.model.transformer.resblocks.77.ln_1.weight": "text_encoder_2",
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight_scale": "text_encoder_2",
    "conditioner.embedders.1.model.visual.proj": "text_encoder_2",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_tensor_that_no_component_takes_is_named(make, tensors: Tensors, name: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"tensors in its {STRANGERS[name]} that the model does not have: '{name}'"
    ):
        make(tensors | {name: SPARE})


HARMLESS = (
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.0.logit_scale",
    "conditioner.embedders.0.transformer.text_projection.weight",
    "conditioner.embedders.0.text_projection",
    "conditioner.embedders.1.model.logit_scale",
    "first_stage_model.loss.discriminator.main.0.weight",
    "model_ema.decay",
    "model_ema.diffusion_modelinput_blocks00weight",
    "denoiser.sigmas",
    "alphas_cumprod_prev",
    "sqrt_one_minus_alphas_cumprod",
    "posterior_mean_coef1",
    "betas",
    "global_step",
    "loss_fn.logvar",
)


def test_what_has_no_effect_is_passed_over(make, tensors: Tensors, base: Path, caplog) -> None:
    make(tensors | dict.fromkeys(HARMLESS, torch.arange(4)))
    assert not caplog.messages


def test_what_lies_beside_the_model_is_named(make, tensors: Tensors, caplog) -> None:
    make(tensors | {"other.weight": SPARE, "something": SPARE})
    [message] = caplog.messages
    assert message == "file.safetensors has tensors that are not used: 'other.weight' and 1 more."
