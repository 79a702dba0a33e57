"""What is found in model directories: nothing in healthy ones, one plain error with its remedy for each kind of
damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from ms_core.config import CARD_FILE, SCORER_FILE, ModelCard, ResamplerConfig
from ms_core.method.adapter import MSAdapter
from ms_core.model_dir.inspection import Finding, Level, inspect_model
from ms_core.model_dir.inspection.adapter import expected_shapes
from ms_core.model_dir.inspection.headers import TensorHeader
from ms_core.model_dir.inventory import write_inventory
from tests.support.paths import GOLDEN, MINI
from tests.support.random_scorer import random_scorer
from tests.support.sdxl import sdxl_unet

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
VAE_WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(golden_model_directory: Path, tmp_path: Path) -> Path:
    """The golden model, its files as links: replace them with ``write``, never in place."""
    directory = tmp_path / "golden"
    shutil.copytree(golden_model_directory, directory, copy_function=lambda old, new: Path(new).symlink_to(old))
    return directory


def write(path: Path, content: bytes) -> None:
    """Replace a file, not what a link points to."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def edit_json(path: Path, **values: Any) -> None:
    write(path, json.dumps({**json.loads(path.read_text()), **values}).encode())


def cut(path: Path, size: int) -> None:
    write(path, path.read_bytes()[:size])


def errors(directory: Path, hashes: bool = False) -> list[Finding]:
    return [finding for finding in inspect_model(directory, hashes).findings if finding.level is Level.ERROR]


def the_error(directory: Path, hashes: bool = False) -> Finding:
    """The only error; it has a remedy."""
    [error] = errors(directory, hashes)
    assert error.remedy
    return error


def save_headers(path: Path, tensors: dict[str, tuple[int, ...]], dtype: str = "F16", width: int = 2) -> None:
    """A safetensors file of the right length whose values are a hole in the file."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + width * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize("hashes", [False, True])
def test_the_bundled_model_is_well(hashes: bool) -> None:
    assert errors(MINI, hashes) == []


def test_the_golden_model_gives_neither_error_nor_warning(model: Path) -> None:
    assert {finding.level for finding in inspect_model(model).findings} == {Level.OK}


def test_an_inventory_that_fits_is_well(model: Path) -> None:
    write_inventory(model)
    findings = inspect_model(model, hashes=True).findings
    assert {finding.level for finding in findings} == {Level.OK}
    assert "by sizes and SHA-256" in findings[-1].sentence


def test_facts_tell_what_matters() -> None:
    facts = inspect_model(MINI).facts
    assert facts["unet"]["class"] == "MiniUNet"
    assert facts["unet"]["cross_attention_dim"] == 320
    assert facts["unet"]["block_out_channels"] == [96, 192]
    assert facts["image_encoder"]["hidden_size"] == 192
    assert facts["adapter"] == {"tensors": 66, "attention_layers": 11, "dtype": "BF16", "bytes": 14_054_272}


@pytest.mark.parametrize(
    "path",
    [
        "model_index.json",
        "ms_adapter.json",
        "ms_adapter.safetensors",
        "unet/config.json",
        UNET_WEIGHTS,
        VAE_WEIGHTS,
        "text_encoder/config.json",
        "text_encoder_2/model.safetensors",
        "image_encoder/model.safetensors",
        "image_encoder/preprocessor_config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_a_missing_file(model: Path, path: str, recorded: bool) -> None:
    if recorded:
        write_inventory(model)
    (model / path).unlink()
    error = the_error(model)
    assert error.code == "missing_file"
    assert error.sentence == f"{path} is missing."
    assert "msd download" in error.remedy


@pytest.mark.parametrize("folder", ["unet", "vae", "text_encoder", "tokenizer_2", "scheduler", "image_encoder"])
def test_a_missing_folder(model: Path, folder: str) -> None:
    shutil.rmtree(model / folder)
    assert the_error(model).sentence == f"The model lacks its folder {folder}."


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        (UNET_WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"),
        ("image_encoder/model.safetensors", "weights.safetensors"),
        ("unet/config.json", "config (1).json"),
        ("text_encoder/config.json", "config.json.bak"),
        ("ms_adapter.safetensors", "adapter.safetensors"),
        ("ms_adapter.json", "card.json"),
        ("model_index.json", "index.json"),
        ("image_encoder/preprocessor_config.json", "preprocessor.json"),
    ],
)
def test_a_renamed_file(model: Path, path: str, name: str, recorded: bool) -> None:
    if recorded:
        write_inventory(model)
    (model / path).rename((model / path).with_name(name))
    error = the_error(model)
    assert error.code == "renamed_file"
    assert error.sentence.startswith(f"{path} is missing")
    assert name in error.sentence
    assert error.remedy.startswith("Rename ")


def test_a_file_beside_the_missing_one_is_not_taken_for_it(model: Path) -> None:
    (model / "unet" / "config.json").rename(model / "unet" / "old.json")
    write(model / "unet" / "old.json", b'{"anything": "else"}')
    assert the_error(model).code == "missing_file"


@pytest.mark.parametrize("path", [UNET_WEIGHTS, "ms_adapter.safetensors", "text_encoder/model.safetensors"])
@pytest.mark.parametrize("size", [100, 100_000])
def test_a_truncated_file(model: Path, path: str, size: int) -> None:
    cut(model / path, size)
    error = the_error(model)
    assert error.code == "truncated_file"
    assert error.sentence.startswith(f"{path} is cut off")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\0" * 5000, "nothing but zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"PK\x03\x04" + b"\0" * 100, "torch.save"),
        (b"GGUF\x03\0\0\0" + b"\0" * 100, "a GGUF file"),
        (b"what is this, it is no weights at all", "not a safetensors file"),
        (b"\x02\0\0\0\0\0\0\0{}and more", "8 bytes more than its header says"),
        (b"\x05\0\0\0\0\0\0\0{bad}", "header cannot be read"),
        (b'\x15\0\0\0\0\0\0\0{"a": {"shape": [1]}}', "header cannot be read"),
    ],
)
def test_a_file_that_is_no_weights(model: Path, content: bytes, told: str) -> None:
    write(model / VAE_WEIGHTS, content)
    error = the_error(model)
    assert told in error.sentence
    assert error.path == VAE_WEIGHTS


@pytest.mark.parametrize("path", [UNET_WEIGHTS, VAE_WEIGHTS, "text_encoder/model.safetensors"])
@pytest.mark.parametrize(
    "ending", ["weight_scale", "scale_weight", "comfy_quant", "SCB", "quant_state.bitsandbytes__nf4"]
)
def test_weights_that_are_packed_or_scaled(model: Path, path: str, ending: str) -> None:
    tensors = load_file(model / path)
    write(model / path, save({**tensors, f"x.{ending}": torch.ones(1)}))
    error = the_error(model)
    assert (error.code, error.path) == ("packed_weights", path.partition("/")[0])
    assert f"x.{ending}" in error.sentence


def test_weights_of_integers_are_packed(model: Path) -> None:
    tensors = load_file(model / UNET_WEIGHTS)
    name = next(name for name in tensors if name.endswith("to_q.weight"))
    write(model / UNET_WEIGHTS, save({**tensors, name: tensors[name].to(torch.int8)}))
    error = the_error(model)
    assert error.code == "packed_weights"
    assert name in error.sentence


def test_weights_that_could_run_code(model: Path) -> None:
    (model / UNET_WEIGHTS).rename(model / "unet" / "diffusion_pytorch_model.bin")
    error = the_error(model)
    assert error.code == "pickled_weights"
    assert "msd convert" in error.remedy


@pytest.mark.parametrize(
    ("width", "name"),
    [(768, "Stable Diffusion 1.5"), (1024, "Stable Diffusion 2"), (1280, "the SDXL refiner"), (2048, "SDXL")],
)
def test_another_base_under_the_adapter(model: Path, width: int, name: str) -> None:
    edit_json(model / "unet" / "config.json", cross_attention_dim=width)
    error = the_error(model)
    assert error.code == "wrong_base"
    assert f"The base here is {name} (text {width} wide)" in error.sentence
    assert "msd download sdxl" in error.remedy


def test_another_base_is_one_error_though_its_files_differ_from_the_inventory(model: Path) -> None:
    write_inventory(model)
    edit_json(model / "unet" / "config.json", cross_attention_dim=768, in_channels=9)
    cut(model / UNET_WEIGHTS, 5000)
    assert the_error(model, hashes=True).code == "wrong_base"


def test_a_whole_model_of_stable_diffusion_1_5(model: Path) -> None:
    for extra in ("ms_adapter.json", "ms_adapter.safetensors"):
        (model / extra).unlink()
    for folder in ("text_encoder_2", "tokenizer_2", "image_encoder"):
        shutil.rmtree(model / folder)
    edit_json(model / "unet" / "config.json", cross_attention_dim=768)
    write(model / "model_index.json", b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"]}')
    error = the_error(model)
    assert "The base here is Stable Diffusion 1.5" in error.sentence


@pytest.mark.parametrize(
    ("pipeline", "name"), [("FluxPipeline", "Flux"), ("StableDiffusion3Pipeline", "Stable Diffusion 3")]
)
def test_a_transformer_instead_of_a_unet(model: Path, pipeline: str, name: str) -> None:
    (model / "unet").rename(model / "transformer")
    write(
        model / "model_index.json",
        json.dumps({"_class_name": pipeline, "transformer": ["diffusers", "Transformer2DModel"]}).encode(),
    )
    error = the_error(model)
    assert error.sentence == f"The base here is {name}; MS-Diffusion works on SDXL only."


def test_an_unknown_transformer_is_told_by_its_pipeline(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "SanaPipeline", "transformer": ["diffusers", "S"]}')
    assert "a transformer instead of a UNet (SanaPipeline)" in the_error(tmp_path).sentence


@pytest.mark.parametrize("width", [1024, 1280])
def test_another_image_encoder_names_the_one_needed(model: Path, width: int) -> None:
    card = json.loads((model / "ms_adapter.json").read_text())
    card["resampler"]["feature_dim"] = 1664
    write(model / "ms_adapter.json", json.dumps(card).encode())
    # The adapter's own weights follow the card, so that only the encoder is wrong.
    fix_adapter(model)
    edit_json(model / "image_encoder" / "config.json", hidden_size=width)
    error = the_error(model)
    assert error.code == "wrong_image_encoder"
    assert f"is {width} wide" in error.sentence
    assert "needs 1664: CLIP-ViT-bigG-14" in error.sentence
    assert "CLIP-ViT-bigG-14" in error.remedy


def fix_adapter(model: Path) -> None:
    """Give the adapter the shapes that its card and the UNet ask for."""
    unet = read_shapes(model / UNET_WEIGHTS)
    save_headers(model / "ms_adapter.safetensors", expected_shapes(ModelCard.load(model), as_headers(unet)))


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def as_headers(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorHeader]:
    return {name: TensorHeader("F16", shape, 2 * torch.Size(shape).numel()) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("text_encoder", {"hidden_size": 32}, "The first text encoder is 32 wide; the adapter needs 24."),
        (
            "text_encoder_2",
            {"hidden_size": 32},
            "The second text encoder is 32 wide; beside the first the UNet needs 40.",
        ),
        ("text_encoder_2", {"projection_dim": 24}, "The second text encoder's output is 24 wide"),
    ],
)
def test_another_text_encoder(model: Path, name: str, values: dict[str, int], told: str) -> None:
    edit_json(model / name / "config.json", **values)
    error = the_error(model)
    assert error.code == "wrong_text_encoder"
    assert told in error.sentence


def test_an_inpainting_unet(model: Path) -> None:
    edit_json(model / "unet" / "config.json", in_channels=9)
    error = the_error(model)
    assert error.sentence == "The UNet reads 9 channels (as an inpainting model's); the VAE makes 4."


def test_a_config_of_other_weights(model: Path) -> None:
    edit_json(model / "text_encoder" / "config.json", vocab_size=7)
    assert "it says vocab_size 7, they have" in the_error(model).sentence


def test_the_authors_adapter_is_not_taken_as_it_is(model: Path) -> None:
    (model / "ms_adapter.safetensors").unlink()
    (model / "ms_adapter.json").unlink()
    (model / "ms_adapter.bin").write_bytes(b"PK")
    error = the_error(model)
    assert error.code == "adapter_not_converted"
    assert "msd convert" in error.remedy


@pytest.mark.parametrize("key", ["image_proj.latents", "ip_adapter.1.to_k_ip.weight", "ms_adapter.1.to_k_ip.weight"])
def test_an_adapter_with_the_authors_keys(model: Path, key: str) -> None:
    save_headers(model / "ms_adapter.safetensors", {key: (4, 4)})
    assert the_error(model).code == "adapter_not_converted"


def test_a_plain_sdxl_model(model: Path) -> None:
    (model / "ms_adapter.safetensors").unlink()
    (model / "ms_adapter.json").unlink()
    shutil.rmtree(model / "image_encoder")
    error = the_error(model)
    assert error.code == "no_adapter"
    assert "msd convert" in error.remedy


def test_an_adapter_of_another_unet(model: Path) -> None:
    shapes = read_shapes(model / "ms_adapter.safetensors")
    first = next(name for name in shapes if name.startswith("attention."))
    save_headers(
        model / "ms_adapter.safetensors", {name.replace(first, "attention.x"): s for name, s in shapes.items()}
    )
    error = the_error(model)
    assert f"1 are missing (such as {first}) and 1 are unknown (such as attention.x)" in error.sentence


def test_a_card_of_another_adapter(model: Path) -> None:
    card = json.loads((model / "ms_adapter.json").read_text())
    card["resampler"]["num_queries"] += 1
    write(model / "ms_adapter.json", json.dumps(card).encode())
    assert "3 tensors have another shape" in the_error(model).sentence


def test_a_broken_card(model: Path) -> None:
    edit_json(model / "ms_adapter.json", colour="red")
    assert "is not a model card: colour" in the_error(model).sentence


@pytest.mark.parametrize("path", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_json_file_that_is_none(model: Path, path: str) -> None:
    write(model / path, b"{")
    assert the_error(model).sentence == f"{path} is not valid JSON."


def test_a_component_from_elsewhere(model: Path) -> None:
    edit_json(model / "model_index.json", vae=["evil.vae", "VAE"])
    assert "takes vae from 'evil.vae'" in the_error(model).sentence


def test_a_changed_file_is_found_by_its_hash(model: Path) -> None:
    write_inventory(model)
    content = bytearray((model / UNET_WEIGHTS).read_bytes())
    content[-1] ^= 1
    write(model / UNET_WEIGHTS, bytes(content))
    assert errors(model) == []
    error = the_error(model, hashes=True)
    assert error.code == "changed_file"
    assert error.remedy == "Fetch it again with: msd download golden"


@pytest.mark.parametrize("recorded", [False, True])
def test_half_a_download(model: Path, recorded: bool) -> None:
    if recorded:
        write_inventory(model)
    records = model / ".cache" / "huggingface" / "download" / "unet"
    records.mkdir(parents=True)
    (model / UNET_WEIGHTS).rename(records / "diffusion_pytorch_model.safetensors.0123.incomplete")
    cut(model / VAE_WEIGHTS, 1000)
    shutil.rmtree(model / "image_encoder")
    error = the_error(model)
    assert error.code == "half_download"
    assert "The download was interrupted: 1 files are incomplete" in error.sentence
    assert "msd download" in error.remedy


def test_what_a_download_left_over_is_a_warning(model: Path) -> None:
    (model / "unet" / "weights.incomplete").touch()
    warnings = [finding for finding in inspect_model(model).findings if finding.level is Level.WARNING]
    assert [finding.code for finding in warnings] == ["leftover"]
    assert errors(model) == []


def test_shards_are_read_through_their_index(model: Path) -> None:
    shapes = read_shapes(model / UNET_WEIGHTS)
    (model / UNET_WEIGHTS).unlink()
    names = ["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors"]
    halves = [dict(list(shapes.items())[::2]), dict(list(shapes.items())[1::2])]
    for name, half in zip(names, halves, strict=True):
        save_headers(model / "unet" / name, half)
    weight_map = {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}
    (model / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": weight_map})
    )
    report = inspect_model(model)
    assert report.is_usable
    assert report.facts["unet"]["tensors"] == len(shapes)
    (model / "unet" / names[1]).unlink()
    assert the_error(model).sentence == f"unet/{names[1]} is missing."


def test_a_single_file_is_to_be_converted(tmp_path: Path) -> None:
    file = tmp_path / "sd_xl_base_1.0.safetensors"
    file.write_bytes(b"x")
    error = the_error(file)
    assert error.sentence == "sd_xl_base_1.0.safetensors is a single checkpoint file; a model is a directory."
    assert "msd convert" in error.remedy


def test_there_is_nothing(tmp_path: Path) -> None:
    assert the_error(tmp_path / "nothing").code == "no_directory"


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert the_error(tmp_path).code == "no_model"


def test_a_directory_with_nothing_but_a_checkpoint_file(tmp_path: Path) -> None:
    (tmp_path / "sd_xl_base_1.0.safetensors").write_bytes(b"x")
    error = the_error(tmp_path)
    assert error.code == "single_file"
    assert "sd_xl_base_1.0.safetensors" in error.sentence


def test_a_download_that_has_hardly_begun(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json.incomplete").touch()
    assert the_error(tmp_path).code == "half_download"


def test_extras_that_cannot_be_used(model: Path) -> None:
    (model / "loras").mkdir()
    (model / "loras" / "half.safetensors").write_bytes(b"")
    (model / "controlnets" / "depth").mkdir(parents=True)
    (model / "controlnets" / "depth" / "config.json").write_text('{"cross_attention_dim": 768}')
    assert [error.sentence for error in errors(model)] == [
        "loras/half.safetensors is empty.",
        "The ControlNet depth is made for Stable Diffusion 1.5, this model is a base whose text is 64 wide.",
    ]


def test_a_scorer_that_the_card_tells_of_must_be_there(model: Path) -> None:
    edit_json(model / CARD_FILE, scorer={})
    assert the_error(model).code == "missing_file"
    write(model / SCORER_FILE, b"no weights")
    assert the_error(model).code == "broken_file"
    random_scorer().save(model)
    assert errors(model) == []


def test_a_preset_without_its_lora_is_a_warning(model: Path) -> None:
    edit_json(model / "ms_adapter.json", presets={"fast": {"loras": [{"name": "lightning"}]}})
    [warning] = [finding for finding in inspect_model(model).findings if finding.level is Level.WARNING]
    assert warning.sentence == "The preset fast needs loras/lightning.safetensors, which is not there."


def test_the_expected_shapes_are_those_of_the_released_adapter() -> None:
    unet = sdxl_unet()
    with torch.device("meta"):
        adapter = MSAdapter.for_unet(unet, ModelCard())
    expected = expected_shapes(ModelCard(), as_headers(shapes_of(unet)))
    assert expected == shapes_of(adapter)
    assert len(expected) == 200


def test_the_expected_shapes_are_those_of_queries_that_start_from_their_parts() -> None:
    unet, card = sdxl_unet(), ModelCard(resampler=ResamplerConfig(patches_per_query=4))
    with torch.device("meta"):
        adapter = MSAdapter.for_unet(unet, card)
    assert expected_shapes(card, as_headers(shapes_of(unet))) == shapes_of(adapter)


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.fixture(scope="module")
def full_size_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SDXL, bigG and the adapter with the real headers; the values, 11 GB, are holes in the files."""
    directory = tmp_path_factory.mktemp("models") / "sdxl"
    write_full_size(directory)
    yield directory
    shutil.rmtree(directory)


def write_full_size(directory: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    shutil.copytree(GOLDEN / "tiny-sdxl", directory, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    shutil.copytree(
        GOLDEN / "image_encoder", directory / "image_encoder", ignore=shutil.ignore_patterns("*.safetensors")
    )
    first = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, vocab_size=49408)
    second = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, vocab_size=49408, projection_dim=1280
    )
    vision = CLIPVisionConfig(
        hidden_size=1664, intermediate_size=8192, num_hidden_layers=48, num_attention_heads=16, projection_dim=1280
    )
    unet = sdxl_unet()
    with torch.device("meta"):
        parts: dict[str, Any] = {
            "unet": unet,
            "vae": AutoencoderKL(block_out_channels=(128, 256, 512, 512), latent_channels=4),
            "text_encoder": CLIPTextModel(first),
            "text_encoder_2": CLIPTextModelWithProjection(second),
            "image_encoder": CLIPVisionModelWithProjection(vision),
        }
        adapter = MSAdapter.for_unet(unet, ModelCard())
    for name, part in parts.items():
        stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
        part.save_config(directory / name) if name in ("unet", "vae") else part.config.save_pretrained(directory / name)
        save_headers(directory / name / f"{stem}.safetensors", shapes_of(part))
    save_headers(directory / "ms_adapter.safetensors", shapes_of(adapter), "F32", 4)
    ModelCard().save(directory)


def test_the_full_size_model_is_well(full_size_model: Path) -> None:
    report = inspect_model(full_size_model)
    assert [finding.sentence for finding in report.findings if finding.level is not Level.OK] == []
    assert report.facts["unet"]["bytes"] == 2 * 2_567_463_684
    assert report.facts["image_encoder"]["hidden_size"] == 1664
    assert report.facts["adapter"] == {"tensors": 200, "attention_layers": 70, "dtype": "F32", "bytes": 4 * 459_739_008}


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "image_encoder/model.safetensors"])
def test_a_full_size_file_that_broke_off(full_size_model: Path, part: str) -> None:
    size = (full_size_model / part).stat().st_size
    with (full_size_model / part).open("r+b") as file:
        file.truncate(size // 2)
        error = the_error(full_size_model)
        file.truncate(size)
    assert error.sentence.startswith(f"{part} is cut off: it has ")


def test_it_is_free_of_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from ms_core.model_dir.inspection import inspect_model;"
        f"assert inspect_model(Path({str(MINI)!r})).is_usable;"
        "print(sorted({'torch', 'safetensors', 'numpy', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
