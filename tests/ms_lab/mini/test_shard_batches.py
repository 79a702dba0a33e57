"""Shards of the data pipeline as training batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ms_core.errors import ModelNotFoundError
from ms_lab.data.engine.run import finish
from ms_lab.data.writing.folder import RunFolder
from ms_lab.data.writing.parts import write_part
from ms_lab.mini.batches import Share
from ms_lab.mini.shard_batches import ShardStream
from tests.ms_lab.data.made_clips import config_without_models, judged_clip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_without_models(write={"heldout_share": 0.0})
    folder = RunFolder(tmp_path_factory.mktemp("set"))
    for seed in range(4):
        write_part(folder.parts, judged_clip(config, seed), config.write)
    finish(folder, (), config)
    return folder.path


def test_batches_have_the_samples_at_the_wished_size(shards: Path) -> None:
    batch = ShardStream(shards, 64, Share(3, seed=1)).batch(0)
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.present.all()
    assert batch.captions == ("a red square and a blue disc on a table",) * 3
    assert batch.phrases == (("red square", "blue disc"),) * 3
    assert (batch.boxes[..., 2:] > batch.boxes[..., :2]).all()
    # The square's reference is red around its middle, the disc's blue; both stand on white.
    red, blue = batch.references[0, 0], batch.references[0, 1]
    assert int(red[0, 8, 32]) > int(red[2, 8, 32])
    assert int(blue[:, 1, 1].min()) > 240


def test_the_same_number_gives_the_same_batch(shards: Path) -> None:
    one, other = (ShardStream(shards, 64, Share(4, seed=2)) for _ in range(2))
    assert torch.equal(one.batch(3).images, other.batch(3).images)
    assert not torch.equal(one.batch(3).images, one.batch(4).images)


def test_without_shards_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There are no shards"):
        ShardStream(tmp_path, 64, Share(1, seed=0))
