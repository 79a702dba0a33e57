"""``files.json``: what is recorded, and what is told of a model directory that is no longer as it was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ms_core.model_dir.inventory import INVENTORY_FILE, check_inventory, renew_inventory, write_inventory

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory laid out like a model's, with its inventory."""
    directory = tmp_path / "sdxl"
    for path, content in {
        "model_index.json": b"{}",
        "unet/config.json": b'{"in_channels": 4}',
        "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
        "loras/lightning.safetensors": b"low rank",
    }.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    write_inventory(directory)
    return directory


def test_every_file_but_itself_is_recorded(model: Path) -> None:
    files = json.loads((model / INVENTORY_FILE).read_text())["files"]
    assert list(files) == [
        "loras/lightning.safetensors",
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    recorded = files["unet/diffusion_pytorch_model.safetensors"]
    assert recorded == {"size": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}


def test_writing_again_gives_the_same(model: Path) -> None:
    before = (model / INVENTORY_FILE).read_bytes()
    write_inventory(model)
    assert (model / INVENTORY_FILE).read_bytes() == before


def test_a_directory_that_was_changed_on_purpose_is_recorded_anew(model: Path) -> None:
    write_inventory(model, "msd convert --out sdxl")
    (model / "unet" / "config.json").write_bytes(b"{}")
    (model / "scorer.safetensors").write_bytes(b"new")
    renew_inventory(model)
    assert check_inventory(model, hashes=True) == []
    (model / "scorer.safetensors").unlink()
    assert check_inventory(model, hashes=True) == [
        "scorer.safetensors is missing; fetch it again with: msd convert --out sdxl"
    ]


def test_a_directory_without_an_inventory_gets_none(model: Path) -> None:
    (model / INVENTORY_FILE).unlink()
    renew_inventory(model)
    assert not (model / INVENTORY_FILE).exists()


def test_hidden_records_of_a_download_are_left_out(model: Path) -> None:
    (model / ".cache").mkdir()
    (model / ".cache" / "CACHEDIR.TAG").write_text("mark")
    write_inventory(model)
    assert ".cache" not in (model / INVENTORY_FILE).read_text()


@pytest.mark.parametrize("hashes", [False, True])
def test_an_unchanged_directory_is_well(model: Path, hashes: bool) -> None:
    assert check_inventory(model, hashes) == []


@pytest.mark.parametrize("folder", ["loras", "controlnets", "embeddings"])
def test_the_users_own_files_are_fine(model: Path, folder: str) -> None:
    (model / folder).mkdir(exist_ok=True)
    (model / folder / "mine.safetensors").write_bytes(b"mine")
    assert check_inventory(model, hashes=True) == []


def test_a_missing_file_is_fetched_again(model: Path) -> None:
    (model / "unet" / "config.json").unlink()
    assert check_inventory(model, hashes=False) == [
        "unet/config.json is missing; fetch it again with: msd download sdxl"
    ]


def test_the_remedy_is_the_command_that_made_the_directory(model: Path) -> None:
    write_inventory(model, "msd convert --out sdxl")
    (model / "unet" / "config.json").unlink()
    [sentence] = check_inventory(model, hashes=False)
    assert sentence.endswith("; fetch it again with: msd convert --out sdxl")


def test_a_renamed_file_is_recognised_by_its_content(model: Path) -> None:
    old = model / "unet" / "diffusion_pytorch_model.safetensors"
    old.rename(old.with_name("weights.safetensors"))
    # The decoy has the same size, so only the content can tell.
    old.with_name("a-decoy.safetensors").write_bytes(b"x" * len(WEIGHTS))
    [sentence] = check_inventory(model, hashes=False)
    assert "but unet/weights.safetensors has its content; rename that back to unet/diffusion" in sentence


def test_a_resized_file_is_told_with_both_sizes(model: Path) -> None:
    with (model / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.truncate(100)
    [sentence] = check_inventory(model, hashes=False)
    assert f"has 100 bytes instead of {len(WEIGHTS)}; fetch it again" in sentence


def test_a_changed_file_is_seen_with_hashes_only(model: Path) -> None:
    (model / "unet" / "config.json").write_bytes(b'{"in_channels": 9}')
    assert check_inventory(model, hashes=False) == []
    [sentence] = check_inventory(model, hashes=True)
    assert sentence.startswith("unet/config.json was changed")


def test_a_link_whose_target_is_gone_is_a_missing_file(model: Path) -> None:
    path = model / "unet" / "config.json"
    path.unlink()
    path.symlink_to(model / "gone")
    [sentence] = check_inventory(model, hashes=True)
    assert sentence.startswith("unet/config.json is missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(model: Path) -> None:
    (model / "unet" / "config.json").chmod(0)
    [sentence] = check_inventory(model, hashes=True)
    assert sentence.startswith("unet/config.json cannot be read")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"made_with": "x", "files": {"a": {"size": 1}}}', "\x80"])
def test_an_inventory_that_is_none_is_told(model: Path, text: str) -> None:
    (model / INVENTORY_FILE).write_text(text, encoding="latin-1")
    [sentence] = check_inventory(model, hashes=False)
    assert sentence.startswith("files.json is not an inventory")


def test_a_directory_without_inventory_has_nothing_to_compare(tmp_path: Path) -> None:
    assert check_inventory(tmp_path, hashes=True) == []


def test_it_is_free_of_torch() -> None:
    code = (
        "import sys, ms_core.model_dir.inventory; print(sorted({'torch', 'safetensors', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
