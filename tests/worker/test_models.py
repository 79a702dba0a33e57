from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.config import ModelCard
from ms_core.errors import CheckpointError, ModelNotFoundError
from worker.models import find_model


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    for name in ("mini", "other"):
        (tmp_path / "models" / name).mkdir(parents=True)
        ModelCard(name=name).save(tmp_path / "models" / name)
    return tmp_path / "models"


def test_a_model_is_found_by_name(models_dir: Path) -> None:
    assert find_model("mini", models_dir).directory == models_dir / "mini"


def test_a_model_is_found_by_path(models_dir: Path) -> None:
    found = find_model(str(models_dir / "other"))
    assert (found.name, found.directory) == ("other", models_dir / "other")


def test_a_known_name_comes_before_a_folder_here(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models_dir.parent / "mini").mkdir()
    monkeypatch.chdir(models_dir.parent)
    assert find_model("mini", models_dir).directory == models_dir / "mini"


def test_a_missing_model_is_answered_with_the_known_ones(models_dir: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="Models by name: mini, other"):
        find_model("nothing", models_dir)


def test_a_name_does_not_leave_the_models(models_dir: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        find_model("../models/nothing", models_dir)


def test_a_directory_without_card_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="no ms_adapter.json"):
        find_model(str(tmp_path / "empty"))


def test_a_directory_that_cannot_name_a_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a model").mkdir()
    ModelCard().save(tmp_path / "a model")
    with pytest.raises(ModelNotFoundError, match="is not a model name"):
        find_model(str(tmp_path / "a model"))


def test_a_broken_card_is_named_so(models_dir: Path) -> None:
    (models_dir / "mini" / "ms_adapter.json").write_text("{")
    with pytest.raises(CheckpointError):
        find_model("mini", models_dir)
