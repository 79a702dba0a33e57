"""Going on from the bundled model: its parts stand in the new run, and what comes out tells where it comes from."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ms_core.config import ModelCard
from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.method.checkpoint import load_adapter
from ms_core.model_dir.loading import load_sdxl
from ms_lab.mini.recipe import LATENT_CHANNELS
from ms_lab.mini.sprites import Sprite
from ms_lab.mini.training_index import load_index, save_index
from ms_lab.training.checkpoints import AVERAGE, WEIGHTS
from ms_lab.training.mini import FULL, SMOKE, MiniTraining, load_artwork
from ms_lab.training.warm_start import ORIGIN, add_origin, begin_from, gentle, is_continued, is_gentle
from ms_lab.training.widening import load_widened
from tests.support.paths import ROOT

MINI = ROOT / "models" / "mini"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    begin_from(MINI, folder)
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "run"))


def test_the_base_goes_on_where_the_model_stands(run: Path) -> None:
    training = MiniTraining(run, *load_artwork(run, (), ROOT / "assets", smoke=True), SMOKE)
    assert training.run(minutes=0.0) == "base"
    # The first checkpoint of a stage that has not moved yet.
    shutil.copy(run / "base" / WEIGHTS, run / "base" / AVERAGE)
    training.load("base")
    pipeline = load_sdxl(MINI, torch.float32)
    trained = {part: getattr(pipeline, part) for part in ("unet", "vae", "text_encoder", "text_encoder_2")}
    trained["adapter"] = load_adapter(MINI, pipeline.unet, ModelCard.load(MINI))
    for part, module in trained.items():
        own = getattr(training.model, part)
        expected = copy.deepcopy(own)
        load_widened(expected, module.state_dict())
        now = own.state_dict()
        assert all(torch.equal(now[name], value) for name, value in expected.state_dict().items())
    # Latents that were never trained would only be noise to it.
    assert training.model.vae.config["latent_channels"] == pipeline.vae.config["latent_channels"]


def test_only_a_thorough_run_trains_the_autoencoder(run: Path, tmp_path: Path) -> None:
    assert is_gentle(run)
    begin_from(MINI, tmp_path / "thorough", thorough=True)
    assert is_continued(tmp_path / "thorough")
    assert not is_gentle(tmp_path / "thorough")
    training = MiniTraining(tmp_path / "thorough", *load_artwork(run, (), ROOT / "assets", smoke=True), SMOKE)
    assert training.run(minutes=0.0) == "vae"
    assert training.model.vae.config["latent_channels"] == LATENT_CHANNELS
    with pytest.raises(CheckpointError, match="with --thorough"):
        begin_from(MINI, tmp_path / "thorough")
    with pytest.raises(CheckpointError, match="without --thorough"):
        begin_from(MINI, run, thorough=True)


def test_the_model_tells_what_it_goes_on_from(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    replace(ModelCard.load(MINI), name="mine", training={"sprites": 1}).save(directory)
    own = Sprite("own", "pot.png", "own:pot", "pot", "00ff", "LicenseRef-own")
    save_index([own], directory)
    add_origin(run, directory)
    training = ModelCard.load(directory).training
    assert training["sprites"] == 1
    assert training["from"]["name"] == "mini"
    assert training["from"]["sprites"] == ModelCard.load(MINI).training["sprites"]
    assert set(load_index(directory)) == {own, *load_index(MINI)}


def test_the_image_encoder_is_taken_over(begun: Path) -> None:
    trained = load_file(MINI / "image_encoder" / "model.safetensors")
    laid = load_file(begun / "references" / AVERAGE)
    assert all(torch.equal(laid[f"image_encoder.{name}"], value.float()) for name, value in trained.items())


def test_a_run_can_be_begun_again_and_stays_as_it_is(run: Path) -> None:
    assert is_continued(run)
    (run / "base" / "weights.safetensors").write_bytes(b"trained further")
    begin_from(MINI, run)
    assert (run / "base" / "weights.safetensors").read_bytes() == b"trained further"


def test_a_run_that_began_from_nothing_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    with pytest.raises(CheckpointError, match="--out"):
        begin_from(MINI, tmp_path)
    assert not (tmp_path / ORIGIN).exists()


def test_another_kind_of_model_is_refused(golden_model_directory: Path, tmp_path: Path) -> None:
    directory = tmp_path / "golden"
    shutil.copytree(golden_model_directory, directory)
    with pytest.raises(ModelNotFoundError, match="msd train mini"):
        begin_from(directory, tmp_path / "run")
    for name in ("training_log.jsonl", "training_index.json"):
        shutil.copy(MINI / name, directory)
    with pytest.raises(CheckpointError, match="sizes"):
        begin_from(directory, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_was_learnt_is_changed_gently() -> None:
    assert gentle(FULL).base.learning_rate < FULL.base.learning_rate
