"""Files of weights: which are taken, what is wrong with them, and how they get to another place."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.inspection.headers import TensorHeader
from ms_core.model_dir.provision.weights import find_weights, load_tensors, put_weights, read_tensor_headers

TENSORS = {"a": torch.arange(6, dtype=torch.float16).reshape(2, 3), "b": torch.ones(4)}
STEM = "diffusion_pytorch_model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "unet").mkdir(parents=True)
    return tmp_path / "model" / "unet"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def write_shards(folder: Path, variant: str = "") -> None:
    files = {name: f"{STEM}{variant}-0000{number}-of-00002.safetensors" for number, name in enumerate("ab", 1)}
    for name, file in files.items():
        save_file({name: TENSORS[name]}, folder / file)
    index = {"metadata": {"total_size": 28}, "weight_map": files}
    (folder / f"{STEM}.safetensors.index{variant}.json").write_text(json.dumps(index))


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ([f"{STEM}.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.bin"], f"{STEM}.fp16.safetensors"),
        ([f"{STEM}.safetensors", f"{STEM}.fp16.bin"], f"{STEM}.safetensors"),
        ([f"{STEM}.bin", f"{STEM}.fp16.bin"], f"{STEM}.fp16.bin"),
        (["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["pytorch_model.bin"], "pytorch_model.bin"),
    ],
)
def test_the_best_file_is_taken(folder: Path, names: list[str], taken: str) -> None:
    for name in names:
        (folder / name).touch()
    assert [file.name for file in find_weights(folder).files] == [taken]


def test_a_folder_without_weights_is_named(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="model/unet holds no weights"):
        find_weights(folder)
    with pytest.raises(ModelNotFoundError, match="model/nothing holds no weights"):
        find_weights(folder.with_name("nothing"))


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards_are_put_with_an_index_that_names_them(folder: Path, target: Path, variant: str) -> None:
    write_shards(folder, variant)
    put_weights(find_weights(folder), target, STEM)
    moved = find_weights(target)
    assert same(moved.load())
    assert not any(".fp16" in file.name for file in target.iterdir())


def test_a_missing_shard_is_named(folder: Path) -> None:
    write_shards(folder)
    (folder / f"{STEM}-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="lacks diffusion_pytorch_model-00002-of-00002.safetensors"):
        find_weights(folder)


def test_an_index_leads_nowhere_else(folder: Path) -> None:
    save_file(TENSORS, folder.parent / "secret.safetensors")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFoundError, match="lacks secret.safetensors"):
        find_weights(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}'])
def test_a_broken_index_is_named(folder: Path, text: str) -> None:
    (folder / f"{STEM}.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="is not an index of weights"):
        find_weights(folder)


def test_one_file_is_linked_without_its_variant(folder: Path, target: Path) -> None:
    source = folder / f"{STEM}.fp16.safetensors"
    save_file(TENSORS, source)
    put_weights(find_weights(folder), target, STEM)
    assert (target / f"{STEM}.safetensors").samefile(source)


def test_a_link_in_a_cache_is_followed(folder: Path, target: Path) -> None:
    save_file(TENSORS, folder / "blob")
    (folder / f"{STEM}.safetensors").symlink_to("blob")
    put_weights(find_weights(folder), target, STEM)
    assert not (target / f"{STEM}.safetensors").is_symlink()
    assert same(load_file(target / f"{STEM}.safetensors"))


def test_what_cannot_be_linked_is_copied(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    save_file(TENSORS, folder / f"{STEM}.safetensors")
    put_weights(find_weights(folder), target, STEM)
    assert not (target / f"{STEM}.safetensors").samefile(folder / f"{STEM}.safetensors")
    assert same(load_file(target / f"{STEM}.safetensors"))


def test_pickled_weights_become_safetensors(folder: Path, target: Path) -> None:
    shared = TENSORS["b"]
    torch.save({"state_dict": {**TENSORS, "c": shared, "step": 7}}, folder / "pytorch_model.bin")
    put_weights(find_weights(folder), target, "model")
    found = load_file(target / "model.safetensors")
    assert torch.equal(found.pop("c"), shared)
    assert same(found)


def test_headers_are_read_of_both_kinds(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    torch.save(TENSORS, tmp_path / "a.ckpt")
    expected = {"a": TensorHeader("F16", (2, 3), 12), "b": TensorHeader("F32", (4,), 16)}
    assert read_tensor_headers(tmp_path / "a.safetensors") == expected
    assert read_tensor_headers(tmp_path / "a.ckpt") == expected


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("run"),))


def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="running foreign code is refused"):
        load_tensors(tmp_path / "evil.ckpt")
    assert not (tmp_path / "run").exists()


def test_other_pickles_are_named(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="not a torch.save archive"):
        load_tensors(tmp_path / "old.bin")
    torch.save([TENSORS["a"]], tmp_path / "list.bin")
    with pytest.raises(CheckpointError, match="no weights by name"):
        load_tensors(tmp_path / "list.bin")


def test_a_file_that_is_cut_off_is_named(folder: Path, target: Path) -> None:
    path = folder / f"{STEM}.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.safetensors is cut off.*; fetch it again"):
        put_weights(find_weights(folder), target, STEM)
    with pytest.raises(CheckpointError, match="is cut off"):
        load_tensors(path)
    assert list(target.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no file"):
        read_tensor_headers(tmp_path / "nothing.safetensors")
