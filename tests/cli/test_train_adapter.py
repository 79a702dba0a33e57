"""``msd data cache`` and ``msd train adapter``, from shards to a checkpoint, and what they say of a wrong file."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from cli.main import app
from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from tests.ms_lab.training.adapter.small_set import small_config, write_shards

runner = CliRunner()


def test_a_set_is_cached_and_trained_on(golden_model_directory: Path, tmp_path: Path) -> None:
    small_set, cache, run = write_shards(tmp_path / "set", train=4, held_out=1), tmp_path / "cache", tmp_path / "run"
    size = ["--height", "64", "--width", "64"]
    model = str(golden_model_directory)
    cached = runner.invoke(app, ["data", "cache", str(small_set), "--model", model, "--out", str(cache), *size])
    assert cached.exit_code == 0, cached.output
    assert "Samples: 4 train, 1 heldout." in cached.output
    config = tmp_path / "own.toml"
    config.write_text(small_config(cache, model=model, train={"steps": 1}).to_toml())
    trained = runner.invoke(app, ["train", "adapter", str(config), "--out", str(run)])
    assert trained.exit_code == 0, trained.output
    checkpoint = run / "checkpoints" / "step-0000001"
    assert "msd up --model" in trained.output
    assert "not done" not in trained.output
    assert ModelCard.load(checkpoint).training["adapter"]["pictures"] == 4


def test_a_configuration_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    config.write_text('model = "mini"\ncolour = 1\n[data]\nfolder = "x"\n')
    result = runner.invoke(app, ["train", "adapter", str(config), "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, InvalidInputError)
    assert "colour: there is no such key" in result.exception.detail
    assert not (tmp_path / "run").exists()
