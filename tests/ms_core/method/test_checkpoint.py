"""Adapter files: the official one there and back, ours, and sentences for files that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPVisionConfig

from ms_core.config import WEIGHTS_FILE, ModelCard, ResamplerConfig
from ms_core.errors import CheckpointError, ModelNotFoundError, WrongImageEncoderError
from ms_core.method.adapter import MSAdapter
from ms_core.method.checkpoint import (
    check_encoders,
    from_official,
    infer_resampler_config,
    load_adapter,
    load_official_adapter,
    save_adapter,
    to_official,
)


@pytest.fixture
def official(golden_directory) -> dict[str, Any]:
    return torch.load(golden_directory / "ms_adapter.bin", weights_only=True)


@pytest.fixture
def adapter(golden_directory, tiny_unet) -> MSAdapter:
    return load_official_adapter(golden_directory / "ms_adapter.bin", tiny_unet, heads=4)


def assert_same_tensors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(actual) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(actual[key], tensor), key


def write(official: dict[str, Any], directory: Path) -> Path:
    torch.save(official, directory / "adapter.bin")
    return directory / "adapter.bin"


def test_the_official_file_goes_there_and_back(adapter, official) -> None:
    back = to_official(adapter)
    assert set(back) == set(official)
    assert_same_tensors(back["image_proj"], official["image_proj"])
    assert_same_tensors(back["ms_adapter"], official["ms_adapter"])
    assert torch.equal(back["dummy_image_tokens"], official["dummy_image_tokens"])


def test_what_we_write_officially_we_can_read(adapter, tiny_unet, tmp_path) -> None:
    again = load_official_adapter(write(to_official(adapter), tmp_path), tiny_unet, heads=4)
    assert_same_tensors(again.state_dict(), adapter.state_dict())


def test_numeric_keys_follow_the_processors_with_the_mid_block_last(adapter, official, tiny_unet) -> None:
    names = list(tiny_unet.attn_processors)
    for position, name in enumerate(names):
        if "attn2" in name:
            weight = adapter.projection(name.removesuffix(".processor")).to_k.weight
            assert torch.equal(weight, official["ms_adapter"][f"{position}.to_k_ip.weight"])
    assert names[-1].startswith("mid_block")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_our_file_keeps_the_weights(adapter, tiny_unet, tmp_path, dtype: torch.dtype) -> None:
    save_adapter(adapter, tmp_path, dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS_FILE).values()} == {dtype}
    again = load_adapter(tmp_path, tiny_unet, ModelCard(resampler=adapter.resampler.config))
    assert_same_tensors(again.state_dict(), adapter.to(dtype).state_dict())


def test_loaded_weights_can_be_trained_further(adapter) -> None:
    assert all(parameter.requires_grad for parameter in adapter.parameters())


def test_sizes_are_read_from_the_shapes(official) -> None:
    state = from_official(official, tuple(f"layer{index}.attn2" for index in range(len(official["ms_adapter"]) // 2)))
    assert infer_resampler_config(state, heads=4) == ResamplerConfig(
        dim=64, depth=2, heads=4, dim_head=16, num_queries=16, feature_dim=48, phrase_dim=24, output_dim=64, ff_mult=4
    )


def test_heads_are_64_wide_unless_told() -> None:
    adapter = MSAdapter(ResamplerConfig(depth=1), {})
    assert infer_resampler_config(adapter.state_dict()) == ResamplerConfig(depth=1)


def test_heads_must_divide_the_width(golden_directory, tiny_unet) -> None:
    with pytest.raises(CheckpointError, match="5 heads"):
        load_official_adapter(golden_directory / "ms_adapter.bin", tiny_unet, heads=5)


@pytest.mark.parametrize("entry", ["image_proj", "ms_adapter"])
@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_official_weights_that_do_not_fit_are_refused(official, tiny_unet, tmp_path, entry: str, change: str) -> None:
    weights = official[entry]
    last = list(weights)[-1]
    if change == "missing":
        del weights[last]
    elif change == "unknown":
        weights["7.to_x_ip.weight"] = torch.zeros(1)
    else:
        weights[last] = torch.zeros(3, 5)
    with pytest.raises(CheckpointError, match="adapter weights"):
        load_official_adapter(write(official, tmp_path), tiny_unet, heads=4)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"image_proj": {}}, [1, 2]])
def test_other_files_are_no_official_adapter(tiny_unet, tmp_path, content: Any) -> None:
    torch.save(content, tmp_path / "other.bin")
    with pytest.raises(CheckpointError, match="image_proj"):
        load_official_adapter(tmp_path / "other.bin", tiny_unet)


def test_code_in_a_pickle_is_not_run(tiny_unet, tmp_path) -> None:
    torch.save({"image_proj": Path("x")}, tmp_path / "evil.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_official_adapter(tmp_path / "evil.bin", tiny_unet)


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_broken_official_file_is_named(tiny_unet, tmp_path, content: bytes) -> None:
    (tmp_path / "broken.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.bin"):
        load_official_adapter(tmp_path / "broken.bin", tiny_unet)


def test_a_missing_official_file_is_named(tiny_unet, tmp_path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"gone\.bin"):
        load_official_adapter(tmp_path / "gone.bin", tiny_unet)


def test_a_missing_file_of_ours_is_named(tiny_unet, tmp_path) -> None:
    with pytest.raises(ModelNotFoundError, match=WEIGHTS_FILE):
        load_adapter(tmp_path, tiny_unet, ModelCard())


def test_a_broken_file_of_ours_is_named(tiny_unet, tmp_path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"\x08")
    with pytest.raises(CheckpointError, match=WEIGHTS_FILE):
        load_adapter(tmp_path, tiny_unet, ModelCard())


def test_positions_instead_of_paths_are_refused(adapter, tiny_unet, tmp_path, official) -> None:
    save_file({key: tensor.contiguous() for key, tensor in official["ms_adapter"].items()}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="missing"):
        load_adapter(tmp_path, tiny_unet, ModelCard(resampler=adapter.resampler.config))


def test_the_needed_image_encoder_is_named() -> None:
    image_encoder = type("Encoder", (), {"config": CLIPVisionConfig(hidden_size=1280, num_attention_heads=16)})
    text_encoder = type("Encoder", (), {"config": CLIPTextConfig(hidden_size=768, num_attention_heads=16)})
    with pytest.raises(WrongImageEncoderError, match=r"1664.*CLIP-ViT-bigG-14.*1280 \(CLIP-ViT-H-14\)"):
        check_encoders(ResamplerConfig(), image_encoder, text_encoder)


def test_a_wrong_text_encoder_is_refused() -> None:
    image_encoder = type("Encoder", (), {"config": CLIPVisionConfig(hidden_size=1664, num_attention_heads=16)})
    text_encoder = type("Encoder", (), {"config": CLIPTextConfig(hidden_size=512, num_attention_heads=16)})
    with pytest.raises(CheckpointError, match="width 768"):
        check_encoders(ResamplerConfig(), image_encoder, text_encoder)
