"""A set of shards and the tiny SDXL, once for all tests of the adapter's training."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.sampling.pipeline import MSDiffusionPipeline
from tests.ms_lab.training.adapter.small_set import write_shards


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten samples to train on, three held out."""
    return write_shards(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def pipeline(golden_model_directory: Path) -> MSDiffusionPipeline:
    """The tiny SDXL, loaded once for the tests of a file, which change no weight of it."""
    return MSDiffusionPipeline.from_pretrained(golden_model_directory, "cpu")
