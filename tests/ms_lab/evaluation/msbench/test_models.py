"""The real classes of the judges, on tiny random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_lab.data.models.pixels import CLIP_MEAN, CLIP_STD, normalised
from ms_lab.evaluation.msbench.models import ClipEmbedder, DinoEmbedder, JudgeNames, Judges
from ms_lab.evaluation.msbench.results import summarise
from ms_lab.evaluation.msbench.samples import read_benchmark
from ms_lab.evaluation.msbench.scoring import References, score_batch
from tests.ms_lab.evaluation.msbench.colour_judges import painted
from tests.support.small_msbench import write_checkout
from tests.support.tiny_judges import write_judges


@pytest.fixture(scope="module")
def judge_names(tmp_path_factory: pytest.TempPathFactory) -> JudgeNames:
    folder = tmp_path_factory.mktemp("judges")
    write_judges(folder)
    return JudgeNames(str(folder / "clip"), str(folder / "dinov2"), str(folder / "owlv2"), threshold=0.0)


@pytest.fixture(scope="module")
def judges(judge_names: JudgeNames) -> Judges:
    return judge_names.load()


def test_each_embeds_with_unit_vectors_whatever_the_size(judges: Judges) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((20, 50), (64, 64), (1, 9))]
    for embedder in (judges.clip, judges.dino):
        rows = embedder.pictures(pictures)
        assert rows.shape[0] == 3
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        # A batch changes nothing.
        assert np.allclose(rows[1:2], embedder.pictures(pictures[1:2]), atol=1e-5)
    texts = judges.clip.texts(["a red square", "a blue disc on a table " * 30])
    assert texts.shape == (2, judges.clip.pictures(pictures).shape[1])
    assert np.allclose(texts[:1], judges.clip.texts(["a red square"]), atol=1e-5)


def test_they_agree_with_the_library(judges: Judges) -> None:
    assert isinstance(judges.clip, ClipEmbedder)
    assert isinstance(judges.dino, DinoEmbedder)
    model = judges.clip.model
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    tokens = judges.clip.tokenizer(["a red square"], return_tensors="pt")
    answer = model(pixel_values=normalised([picture], CLIP_MEAN, CLIP_STD), **tokens)
    assert np.allclose(judges.clip.pictures([picture]), answer.image_embeds.detach().numpy(), atol=1e-5)
    assert np.allclose(judges.clip.texts(["a red square"]), answer.text_embeds.detach().numpy(), atol=1e-5)
    # What DINOv2 pools is its class token.
    square = np.random.default_rng(2).integers(0, 256, (224, 224, 3), np.uint8)
    pooled = judges.dino.model(pixel_values=normalised([square], *judges.dino.levels)).pooler_output[0].detach().numpy()
    assert np.allclose(judges.dino.pictures([square])[0], pooled / np.linalg.norm(pooled), atol=1e-5)


def test_random_judges_give_every_measure(judges: Judges, tmp_path: Path) -> None:
    samples = read_benchmark(write_checkout(tmp_path)).few(1).samples
    pictures = [np.asarray(painted(sample)) for sample in samples]
    scores = score_batch(samples, pictures, References(samples, judges), judges)
    assert any(score.found for score in scores)
    estimates = summarise(scores)["all"].estimates
    assert {"clip_t", "clip_i", "dino", "m_dino", "miou", "ap", "collapse"} <= set(estimates)
    assert all(-1 <= estimate.value <= 1 for estimate in estimates.values())


def test_models_are_told_by_their_files(judge_names: JudgeNames) -> None:
    told = judge_names.describe()
    assert told["clip"]["model"] == "clip"
    assert len(told["dino"]["sha256"]) == 64
    assert told["dino"]["sha256"] != told["detector"]["sha256"]
    assert told["detector_threshold"] == 0


def test_a_model_of_the_hub_is_told_by_its_commit(
    judge_names: JudgeNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--somebody--clip" / "snapshots" / commit
    shutil.copytree(judge_names.clip, snapshot)
    (tmp_path / "models--somebody--clip" / "refs").mkdir()
    (tmp_path / "models--somebody--clip" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    names = JudgeNames("somebody/clip", judge_names.dino, judge_names.detector)
    assert names.describe()["clip"] == {"model": "somebody/clip", "revision": commit}
    assert names.load().clip.texts(["a red square"]).shape == (1, 32)


def test_what_cannot_be_loaded_is_told(judge_names: JudgeNames, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="hf download nobody/owl; or name its folder with --detector"):
        JudgeNames(judge_names.clip, judge_names.dino, "nobody/owl").describe()
    (tmp_path / "config.json").write_text((Path(judge_names.clip) / "config.json").read_text())
    with pytest.raises(ModelNotFoundError):
        ClipEmbedder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError):
        ClipEmbedder(str(tmp_path))
