"""The configuration of a run: the paper's numbers by default, nothing unknown, and a copy that gives it again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ms_core.device.modes import resident_parts
from ms_core.errors import InvalidInputError
from ms_lab.training.adapter.config import load_config
from ms_lab.training.adapter.run import memory_setting, require_same_run, spread
from tests.ms_lab.training.adapter.small_set import small_config

LEAST = 'model = "sdxl"\n[data]\nfolder = "runs/data"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_papers_numbers(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, LEAST))
    train, stage = config.train, config.stage()
    assert (train.steps, train.batch_size, train.learning_rate) == (120_000, 16 * 8, 1e-4)
    assert (train.weight_decay, train.clip_norm, config.data.height, config.data.width) == (0.01, 1.0, 512, 512)
    rates = config.drops.rates
    assert (rates.text, rates.image, rates.both, rates.grounding) == (0.05, 0.05, 0.05, 0.1)
    assert (stage.pictures, stage.betas, stage.decay, stage.warmup) == (120_000 * 128, (0.9, 0.999), 0.0, 1)


@pytest.mark.parametrize("line", ["colour = 1", "[train]\nsteep = 3", "[drops]\ntexts = 0.1"])
def test_an_unknown_key_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidInputError, match="there is no such key"):
        load_config(
            written(tmp_path, line + "\n" if "[" not in line else line), {"model": "m", "data": {"folder": "d"}}
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"configuration's model: Field required"),
        ({"model": "m"}, r"data\.folder: Field required"),
        ({"model": "m", "data": {"folder": "d", "height": 100}}, r"data\.height: .*multiple of 8"),
        ({"model": "m", "data": {"folder": "d"}, "drops": {"text": 0.8, "image": 0.3}}, "1 together at most"),
        ({"model": "m", "data": {"folder": "d"}, "version": 2}, r"training/adapter/default\.toml"),
    ],
)
def test_what_is_missing_or_unfit_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_config(None, changes)


def test_the_copy_of_a_configuration_gives_it_again(tmp_path: Path) -> None:
    config = small_config(tmp_path / 'a "folder" in Köln 🎈')
    assert load_config(written(tmp_path, config.to_toml())) == config


def test_a_run_goes_on_with_its_own_configuration_only(tmp_path: Path) -> None:
    run = tmp_path / "run"
    require_same_run(run, small_config(tmp_path))
    assert not run.exists()
    run.mkdir()
    (run / "config.toml").write_text(small_config(tmp_path).to_toml())
    require_same_run(run, small_config(tmp_path, train={"steps": 9}, log={"every_steps": 7}))
    with pytest.raises(InvalidInputError, match=r"another configuration: train\.learning_rate, train\.seed"):
        require_same_run(run, small_config(tmp_path, train={"learning_rate": 0.1, "seed": 5}))
    with pytest.raises(InvalidInputError, match="another configuration: model"):
        require_same_run(run, small_config(tmp_path, model="other"))


def test_encoders_leave_a_gpu_that_trains_on_a_cache() -> None:
    gpu = torch.device("cuda")
    assert (memory_setting(gpu, cached=True), memory_setting(gpu, cached=False)) == ("12gb", "24gb")
    assert memory_setting(torch.device("cpu"), cached=True) == "cpu"
    assert not {"text_encoders", "image_encoder"} & resident_parts("12gb")
    assert {"unet", "projections", "resampler"} <= resident_parts("12gb")


def test_held_out_samples_are_taken_from_all_over_the_set() -> None:
    assert spread(4, 12) == [0, 3, 6, 9]
    assert spread(3, 3) == [0, 1, 2]
    assert spread(2, 3) == [0, 1]
