"""A set that was encoded once trains as the set itself, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ms_core.config import WEIGHTS_FILE, ModelCard, ReferenceConfig
from ms_core.errors import CheckpointError, InvalidInputError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.data.writing.sample_index import ENCODED, SampleIndex
from ms_lab.training.adapter.cache import BLANKS, NOTES, count_samples, read_cache, write_cache
from ms_lab.training.adapter.encoding import SampleEncoder
from ms_lab.training.adapter.model_checkpoints import newest_checkpoint
from ms_lab.training.adapter.run import AdapterTraining
from ms_lab.training.adapter.samples import Size
from ms_lab.training.adapter.sources import EncodedSamples
from tests.ms_lab.training.adapter.small_set import small_config, write_shards

SIZE = Size(64, 64)


@pytest.fixture(scope="module")
def cache(
    pipeline: MSDiffusionPipeline,
    golden_model_directory: Path,
    small_set: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder, done = tmp_path_factory.mktemp("cache"), []
    counts = write_cache(small_set, folder, golden_model_directory, pipeline, SIZE, 4, done.append)
    assert counts == {"train": 10, "heldout": 3}
    assert done == [4, 4, 2, 3]
    return folder


def test_training_on_a_cache_gives_the_bits_of_training_on_pictures(
    cache: Path, golden_model_directory: Path, small_set: Path, tmp_path: Path
) -> None:
    drops = {"text": 0.3, "image": 0.3, "both": 0.1, "grounding": 0.3}
    weights, figures = [], []
    for name, folder in (("pictures", small_set), ("cache", cache)):
        config = small_config(
            folder, train={"steps": 2}, drops=drops, log={"held_out": 2, "pictures": 1, "picture_steps": 1}
        )
        training = AdapterTraining(config, golden_model_directory, tmp_path / name)
        assert training.run()
        checkpoint = newest_checkpoint(tmp_path / name)
        assert checkpoint is not None
        weights.append(load_file(checkpoint / WEIGHTS_FILE))
        figures.append(training.trainer.figures)
        # Held-out samples keep their pictures, so that there is a sheet.
        assert list((tmp_path / name).glob("sheet-*.png"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert figures[0] == figures[1]
    assert weights[0].keys() == weights[1].keys()


def test_a_cache_holds_no_pictures_but_of_what_is_held_out(cache: Path) -> None:
    assert set(SampleIndex(cache, "train").read(0).files) == {ENCODED}
    assert {"target.png", "reference0.png", ENCODED} <= set(SampleIndex(cache, "heldout").read(0).files)


def test_whole_shards_are_not_made_again(
    cache: Path,
    pipeline: MSDiffusionPipeline,
    golden_model_directory: Path,
    small_set: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {path.name: path.read_bytes() for path in cache.glob("*.tar")}
    (cache / "train-000001.tar").unlink()
    (cache / BLANKS).unlink()
    with pytest.raises(InvalidInputError, match="not finished"):
        read_cache(cache, golden_model_directory, SIZE)
    encode, seen = SampleEncoder.encode, []

    def note(self: SampleEncoder, sample: object) -> object:
        seen.append(sample)
        return encode(self, sample)

    monkeypatch.setattr(SampleEncoder, "encode", note)
    write_cache(small_set, cache, golden_model_directory, pipeline, SIZE, 4)
    assert len(seen) == 4
    assert {path.name: path.read_bytes() for path in cache.glob("*.tar")} == before


def test_a_cache_of_another_size_or_model_is_refused(
    cache: Path, golden_model_directory: Path, small_set: Path, pipeline: MSDiffusionPipeline, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="made with another size"):
        read_cache(cache, golden_model_directory, Size(64, 128))
    other = tmp_path / "other"
    for path in golden_model_directory.rglob("*"):
        if path.is_file():
            target = other / path.relative_to(golden_model_directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert read_cache(cache, other, SIZE) is not None
    card = ModelCard.load(other)
    replace(card, reference=ReferenceConfig(background=(0, 0, 0))).save(other)
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InvalidInputError, match="made with another model and reference"):
        read_cache(cache, other, SIZE)
    with pytest.raises(InvalidInputError, match="holds the cache of another model"):
        write_cache(small_set, cache, other, pipeline, SIZE, 4)


def test_a_cache_of_another_set_or_one_that_has_grown_is_refused(
    cache: Path, golden_model_directory: Path, pipeline: MSDiffusionPipeline, tmp_path: Path
) -> None:
    """Its whole shards would be taken for those of this set."""
    for name, count in (("grown", 11), ("smaller", 9)):
        other = write_shards(tmp_path / name, train=count)
        with pytest.raises(InvalidInputError, match="another model, size or set"):
            write_cache(other, cache, golden_model_directory, pipeline, SIZE, 4)
    same = write_shards(tmp_path / "same")
    assert write_cache(same, cache, golden_model_directory, pipeline, SIZE, 4) == {"train": 10, "heldout": 3}


def test_a_size_that_the_base_cannot_draw_is_not_cached(
    golden_model_directory: Path,
    small_set: Path,
    pipeline: MSDiffusionPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline.components, "vae_scale_factor", 16)
    with pytest.raises(InvalidInputError, match="multiples of 16, not 72 x 64"):
        write_cache(small_set, tmp_path / "cache", golden_model_directory, pipeline, Size(72, 64), 4)
    assert not (tmp_path / "cache").exists()


def test_a_set_without_a_cache_is_read_from_its_pictures(golden_model_directory: Path, small_set: Path) -> None:
    assert read_cache(small_set, golden_model_directory, SIZE) is None
    assert count_samples(small_set) == 13


def test_an_empty_set_is_not_cached(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no samples"):
        count_samples(tmp_path)


def test_a_damaged_sample_of_a_cache_is_named(cache: Path, tmp_path: Path) -> None:
    stored = SampleIndex(cache, "heldout").read(0)
    (tmp_path / "0.json").write_text(json.dumps({**stored.record, "split": "train"}))
    (tmp_path / f"0.{ENCODED}").write_bytes(stored.files[ENCODED][:100])
    assert (cache / NOTES).is_file()
    with pytest.raises(CheckpointError, match=r"The sample 0 in .* is damaged"):
        EncodedSamples(SampleIndex(tmp_path, "train"))[0]
