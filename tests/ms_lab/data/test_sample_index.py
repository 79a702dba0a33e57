"""Samples by number, from shards or a folder; what is wrong with one is told before any training."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ms_core.errors import CheckpointError, InvalidInputError, ModelNotFoundError
from ms_lab.data.writing.reading import read_samples, sample_of
from ms_lab.data.writing.sample_index import SampleIndex
from tests.ms_lab.training.adapter.small_set import stored_sample, write_files, write_shard, write_shards


def test_every_sample_is_read_as_it_was_written(tmp_path: Path) -> None:
    index = SampleIndex(write_shards(tmp_path), "train")
    assert len(index) == 10
    for number in (9, 0, 4, 5):
        stored = index.read(number)
        record, files = stored_sample(number)
        assert (stored.key, stored.record, stored.files) == (f"{number:04x}", record, files)


def test_splits_are_kept_apart(tmp_path: Path) -> None:
    assert len(SampleIndex(write_shards(tmp_path), "heldout")) == 3
    write_files(tmp_path / "files", [stored_sample(0), stored_sample(1, "heldout"), stored_sample(2)])
    assert [len(SampleIndex(tmp_path / "files", split)) for split in ("train", "heldout")] == [2, 1]


def test_a_folder_of_files_gives_the_samples_of_the_shards(tmp_path: Path) -> None:
    write_files(tmp_path / "files", [stored_sample(seed) for seed in range(10)])
    shards, files = (
        SampleIndex(write_shards(tmp_path / "run" / "shards").parent, "train"),
        SampleIndex(tmp_path / "files", "train"),
    )
    assert [shards.read(number) for number in range(10)] == [files.read(number) for number in range(10)]


def test_the_index_and_the_reader_of_whole_shards_agree(tmp_path: Path) -> None:
    index = SampleIndex(write_shards(tmp_path, train=4), "train")
    samples = [sample_of(*index.read(number)[1:]) for number in range(4)]
    assert samples == list(read_samples(tmp_path / "train-000000.tar"))


def test_without_a_folder_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no folder"):
        SampleIndex(tmp_path / "none", "train")


@pytest.mark.parametrize("left", [100, 700, 5120])
def test_a_shard_that_is_cut_off_is_named(tmp_path: Path, left: int) -> None:
    write_shards(tmp_path)
    path = tmp_path / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CheckpointError, match=r"train-000001\.tar is damaged or cut off"):
        SampleIndex(tmp_path, "train")


def test_a_shard_that_is_cut_off_between_two_files_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path)
    path = tmp_path / "train-000001.tar"
    with tarfile.open(path) as archive:
        begin = archive.getmembers()[-2].offset
    path.write_bytes(path.read_bytes()[:begin])
    with pytest.raises(CheckpointError, match=r"train-000001\.tar .*its end is missing"):
        SampleIndex(tmp_path, "train")


@pytest.mark.parametrize("wrong", [b"\xff" * 200, bytes(1024)])
def test_a_shard_that_is_damaged_between_two_files_is_named(tmp_path: Path, wrong: bytes) -> None:
    write_shards(tmp_path)
    path = tmp_path / "train-000001.tar"
    with tarfile.open(path) as archive:
        begin = archive.getmembers()[5].offset
    content = bytearray(path.read_bytes())
    content[begin : begin + len(wrong)] = wrong
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"train-000001\.tar is damaged .*byte {begin} is wrong"):
        SampleIndex(tmp_path, "train")


def test_a_loose_sample_without_its_record_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, [stored_sample(0), stored_sample(1)])
    (tmp_path / "0001.json").unlink()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="The sample 0001 in .* has no json file"):
        SampleIndex(tmp_path, "train")


def _reach_outside(record: dict[str, Any], files: dict[str, bytes]) -> None:
    record["subjects"][1]["box"] = [0.5, 0.2, 1.3, 0.9]


def _reverse(record: dict[str, Any], files: dict[str, bytes]) -> None:
    record["subjects"][0]["box"] = [0.5, 0.2, 0.4, 0.9]


def _rename(record: dict[str, Any], files: dict[str, bytes]) -> None:
    record["subjects"][1]["phrase"] = "teapot"


def _move(record: dict[str, Any], files: dict[str, bytes]) -> None:
    record["subjects"][0]["phrase_span"] = [900, 910]


def _lose_target(record: dict[str, Any], files: dict[str, bytes]) -> None:
    del files["target.png"]


def _lose_reference(record: dict[str, Any], files: dict[str, bytes]) -> None:
    del files["reference1.png"]


def _lose_caption(record: dict[str, Any], files: dict[str, bytes]) -> None:
    del record["caption"]


def _lose_subjects(record: dict[str, Any], files: dict[str, bytes]) -> None:
    record["subjects"] = []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_reach_outside, "cannot be used: subject 1: A box is .* from 0 to 1"),
        (_reverse, "subject 0: The box .* has no area"),
        (_rename, "subject 1 is called 'teapot', but characters 17 to 26 of the caption are 'blue disc'"),
        (_move, "subject 0 is called 'red square', but characters 900 to 910 of the caption are ''"),
        (_lose_target, r"lacks its picture target\.png"),
        (_lose_reference, r"lacks its picture reference1\.png"),
        (_lose_caption, "a record without 'caption'"),
        (_lose_subjects, "it has no subjects"),
    ],
)
@pytest.mark.parametrize("loose", [False, True])
def test_a_sample_that_cannot_be_used_is_named(
    tmp_path: Path, spoil: Callable[[dict[str, Any], dict[str, bytes]], None], message: str, loose: bool
) -> None:
    samples = [stored_sample(1), stored_sample(4)]
    spoil(*samples[1])
    if loose:
        write_files(tmp_path, samples)
    else:
        write_shard(tmp_path / "train-000000.tar", samples)
    where = tmp_path.name if loose else r"train-000000\.tar"
    with pytest.raises(InvalidInputError, match=f"The sample 0001 in {where} .*{message}"):
        SampleIndex(tmp_path, "train")


def test_a_record_that_is_no_json_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, [stored_sample(0)])
    (tmp_path / "0000.json").write_text("{")
    with pytest.raises(InvalidInputError, match="0000 in .* no JSON"):
        SampleIndex(tmp_path, "train")


def test_a_shard_that_vanishes_during_the_training_is_named(tmp_path: Path) -> None:
    index = SampleIndex(write_shards(tmp_path), "train")
    (tmp_path / "train-000002.tar").unlink()
    with pytest.raises(CheckpointError, match=r"train-000002\.tar is damaged"):
        index.read(9)


def test_all_pictures_of_a_loose_sample_missing_is_told_too(tmp_path: Path) -> None:
    record, _ = stored_sample(0)
    (tmp_path / "0000.json").write_text(json.dumps(record))
    (tmp_path / "manifest.json").write_text(json.dumps({"samples": {}}))
    with pytest.raises(InvalidInputError, match="lacks its picture"):
        SampleIndex(tmp_path, "train")


def test_a_sets_digest_tells_it_from_any_other(tmp_path: Path) -> None:
    def digest(name: str, change: Callable[[dict[str, Any], dict[str, bytes]], object] = lambda *_: None) -> set[str]:
        samples = [stored_sample(0), stored_sample(1)]
        change(*samples[1])
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "train-000000.tar", samples)
        write_files(tmp_path / name / "files", samples)
        return {SampleIndex(folder, "train").digest() for folder in (tmp_path / name, tmp_path / name / "files")}

    first = digest("first")
    assert digest("again") == first
    assert not first & digest("renamed", lambda record, _: record.update(source="other"))
    assert not first & digest("repainted", lambda _, files: files.update({"target.png": b"longer"}))
    write_shard(tmp_path / "first" / "train-000001.tar", [stored_sample(2)], 2)
    assert SampleIndex(tmp_path / "first", "train").digest() not in first
