"""Names of LoRA files from other programs: read as what they mean, or said to be unknown; a foreign base only where it is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ms_core.errors import UnfitLoraError
from ms_core.sampling.loras import LoraFile, LoraLibrary, Target, find_targets
from ms_core.spec import Box, GenerationSpec, Lora, Subject
from ms_core.spec.resolve import ResolvedSpec
from tests.ms_core.sampling.lora_files import ORIGINAL_NAMES, TEXT, UNET, make_lora, write_peft

Tensors = dict[str, Tensor]
QUERY = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def targets(golden_pipeline) -> dict[str, Target]:
    return find_targets(golden_pipeline.components)


@pytest.fixture
def plain(golden_pipeline, tmp_path: Path) -> Tensors:
    """A LoRA of both text encoders and the UNet, by diffusers' names."""
    write_peft(tmp_path / "plain.safetensors", make_lora(golden_pipeline.components, (*UNET, *TEXT), seed=1))
    return load_file(tmp_path / "plain.safetensors")


def read(path: Path, tensors: Tensors, targets: dict[str, Target]) -> LoraFile:
    save_file(tensors, path / "style.safetensors")
    return LoraFile.read(path / "style.safetensors", targets)


def original(name: str) -> str:
    """A UNet layer's name after SDXL's own code, with dots."""
    for layer, own in ORIGINAL_NAMES.items():
        if name.startswith(f"unet.{layer}.lora_"):
            dotted = re.sub(
                r"(?<=\d)_|_(?=\d)|(?<=ff)_|(?<=net)_(?=\d)|_(?=(?:proj|conv|op|to_|attn|ff|in_l|out_l|emb_l|skip|tr))",
                ".",
                own,
            )
            dotted = re.sub(r"(?<=in|ip)\.(?=layers|proj|connection)", "_", dotted).replace("label.emb", "label_emb")
            return f"unet.{dotted}.{name.removeprefix(f'unet.{layer}.')}"
    return name


def one_trainer(name: str) -> str:
    name = original(name).replace("text_encoder_2.", "clip_g.").replace("text_encoder.", "clip_l.")
    return name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")


def comfy(name: str) -> str:
    name = original(name).replace("unet.", "diffusion_model.", 1)
    name = name.replace("text_encoder_2.", "text_encoders.clip_g.transformer.")
    return name.replace("text_encoder.", "text_encoders.clip_l.transformer.")


SPELLINGS: dict[str, Callable[[str], str]] = {
    "OneTrainer": one_trainer,
    "OneTrainer, as diffusers": lambda name: re.sub(
        "^(unet|text_encoder_2|text_encoder)",
        lambda match: {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[match[1]],
        name,
    ),
    "ComfyUI": comfy,
    "ComfyUI's checkpoint": lambda name: re.sub("^unet", "model.diffusion_model", original(name)),
    "SDXL's own code": lambda name: original(name).removeprefix("unet."),
    "peft": lambda name: f"base_model.model.{name}",
    "peft's UNet": lambda name: f"base_model.model.{name.removeprefix('unet.')}",
    "peft within": lambda name: re.sub("^(unet|text_encoder_2|text_encoder)", r"\1.base_model.model", name),
    "an adapter's name": lambda name: name.replace(".weight", ".default.weight"),
    "another adapter's name": lambda name: f"base_model.model.{name.replace('.weight', '.my_style.weight')}",
    "compiled": lambda name: re.sub("^(unet|text_encoder_2|text_encoder)", r"\1._orig_mod", name),
    "in parallel": lambda name: f"module.{name}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_means_the_same_layers(targets, plain: Tensors, tmp_path: Path, spelling: str) -> None:
    wanted = read(tmp_path, plain, targets).load()
    tensors = {SPELLINGS[spelling](name): tensor for name, tensor in plain.items()}
    assert len(tensors) == len(plain)
    assert tensors.keys() != plain.keys()
    found = read(tmp_path, tensors, targets).load()
    assert found.keys() == wanted.keys()
    for target, layer in wanted.items():
        assert torch.equal(found[target].down, layer.down)
        assert torch.equal(found[target].up, layer.up)
        assert found[target].scale == layer.scale


def test_lycoris_names_are_kohyas_of_diffusers_unet(targets, plain: Tensors, tmp_path: Path) -> None:
    unet = {name: tensor for name, tensor in plain.items() if name.startswith("unet.")}
    lycoris = {
        re.sub(r"^unet\.(.+)\.lora_[AB]", lambda match: f"lycoris_{match[1].replace('.', '_')}", name).replace(
            ".weight", ".lora_down.weight" if "lora_A" in name else ".lora_up.weight"
        ): tensor
        for name, tensor in unet.items()
    }
    assert read(tmp_path, lycoris, targets).load().keys() == read(tmp_path, unet, targets).load().keys()


def pair(name: str, down: tuple[int, ...] = (4, 16), up: tuple[int, ...] = (16, 4)) -> Tensors:
    return {f"{name}.lora_A.weight": torch.zeros(down), f"{name}.lora_B.weight": torch.zeros(up)}


def adapters() -> Iterator[tuple[str, Tensor]]:
    for adapter in ("one", "two"):
        for name, tensor in pair(QUERY).items():
            yield name.replace(".weight", f".{adapter}.weight"), tensor


UNKNOWN = r"has unknown names: {} of its {} layers are not in this model as kohya.*, such as {}"
UNFIT: dict[str, tuple[dict[str, Tensor], str]] = {
    "another beginning": (
        pair("my_unet.mid_block.x"),
        UNKNOWN.format(1, 1, r"'my_unet\.mid_block\.x\.lora_A\.weight'"),
    ),
    "a transformer within": (pair("foo.clip_l.transformer.x"), UNKNOWN.format(1, 1, "'foo")),
    "one of two": (pair(QUERY) | pair("unet.mid_block.nothing"), UNKNOWN.format(1, 2, "'unet.mid_block.nothing")),
    "other endings": ({f"{QUERY}.lora_a": torch.zeros(4, 16)}, r"has tensors of unknown names, such as .*lora_a'"),
    "Flux of ComfyUI": (pair("diffusion_model.double_blocks.0.img_attn.qkv"), "was made for Flux, not for this model"),
    "Flux of kohya": (pair("lora_unet_single_blocks_0_linear1"), "was made for Flux"),
    "Stable Diffusion 3": (pair("lora_te3_encoder_block_0"), "was made for Stable Diffusion 3"),
    "Stable Diffusion 1.5": (
        pair("lora_unet_down_blocks_0_attentions_0_proj_in"),
        r"was made for Stable Diffusion 1\.5 or 2",
    ),
    "Stable Diffusion 1.5, original": (
        pair("unet.output_blocks.11.1.proj_in"),
        r"was made for Stable Diffusion 1\.5 or",
    ),
    "other sizes": (pair("diffusion_model.input_blocks.4.1.proj_in", (4, 8)), "was made for another base: its layer"),
    "two spellings": (
        pair(QUERY) | pair(f"base_model.model.{QUERY}"),
        f"holds one layer twice, as 'base.*' and '{QUERY}",
    ),
    "two spellings of two kinds": (
        pair(QUERY) | pair(f"lora_{QUERY.replace('.', '_')}"),
        f"holds one layer twice, as 'lora_unet.*' and '{QUERY}",
    ),
    "two adapters": (dict(adapters()), "holds one layer twice"),
    "whole weights": (pair(QUERY) | {"diffusion_model.x.diff": torch.zeros(1)}, "one that holds whole weights"),
    "biases": (pair(QUERY) | {f"{QUERY}.lora_B.default.bias": torch.zeros(1)}, "one with biases"),
    "GLoRA": ({"lora_unet_x.a1.weight": torch.zeros(1)}, "a GLoRA"),
    "integers": (
        {name: tensor.to(torch.int8) for name, tensor in pair(QUERY).items()},
        r"stored in a packed form \('unet.* is I8\); take it in float16",
    ),
    "scales": (
        pair(QUERY) | {f"{QUERY}.lora_A.weight_scale": torch.ones(1)},
        "contains more than a LoRA, such as .*weight_scale",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_said_as_it_is(targets, tmp_path: Path, case: str) -> None:
    tensors, sentence = UNFIT[case]
    with pytest.raises(UnfitLoraError, match=sentence):
        read(tmp_path, tensors, targets)


def test_trained_words_within_a_lora_are_named_where_it_is_used(
    golden_pipeline: Any, plain: Tensors, tmp_path: Path, reference_picture
) -> None:
    (tmp_path / "loras").mkdir()
    words = {f"bundle_emb.{word}.{part}": torch.zeros(2) for word in ("sks", "tok") for part in ("clip_l", "clip_g")}
    save_file(plain | words, tmp_path / "loras" / "style.safetensors")
    save_file(plain, tmp_path / "loras" / "other.safetensors")
    library = LoraLibrary(golden_pipeline.components, tmp_path, golden_pipeline.device)
    subjects = (Subject("cat", reference_picture(0), Box(0.1, 0.1, 0.9, 0.9)),)
    spec = GenerationSpec("a cat", subjects, loras=(Lora("other"), Lora("style", 0.5)))
    resolved = ResolvedSpec.of(spec, golden_pipeline.card)
    assert [file.path.stem for file, _ in library.find(resolved)] == ["other", "style"]
    found = library.find_warnings(resolved)
    assert {(warning.code, warning.pointer) for warning in found} == {("lora_part_ignored", "/loras/1/name")}
    assert [("'sks'" in warning.detail, "'tok'" in warning.detail) for warning in found] == [
        (True, False),
        (False, True),
    ]
