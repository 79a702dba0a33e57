"""Parts and shards: the same clips give the same bytes, finished shards stay, damage is mended, sources go whole."""

from __future__ import annotations

import errno
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from webdataset import tariterators

from ms_core.errors import CheckpointError, InvalidInputError, StartupError, StorageFullError
from ms_lab.data.config import PipelineConfig
from ms_lab.data.engine.footage_jobs import all_faults, key_of, open_jobs
from ms_lab.data.engine.run import finish
from ms_lab.data.sources import Footage
from ms_lab.data.writing import files
from ms_lab.data.writing.erase import erase_source
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.manifest import build_manifest, write_drops
from ms_lab.data.writing.members import PartError
from ms_lab.data.writing.parts import read_index, write_part
from ms_lab.data.writing.reading import read_samples, shards_of
from ms_lab.data.writing.shards import HELDOUT, TRAIN, split_of
from tests.ms_lab.data.made_clips import config_without_models, judged_clip

CONFIG = config_without_models(write={"samples_per_shard": 3, "heldout_share": 0.4})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return filled(tmp_path / "out")


def filled(path: Path, config: PipelineConfig = CONFIG, order: int = 1) -> RunFolder:
    folder = RunFolder(path)
    for seed in list(range(12))[::order]:
        write_part(folder.parts, judged_clip(config, seed, source=f"{seed % 6}" * 24), config.write)
    finish(folder, (), config)
    return folder


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.shards.glob("*.tar"))}


def test_the_order_of_the_work_does_not_show(folder: RunFolder, tmp_path: Path) -> None:
    other = filled(tmp_path / "other", order=-1)
    assert contents(folder) == contents(other)
    assert folder.manifest.read_bytes() == other.manifest.read_bytes()
    assert folder.dropped.read_bytes() == other.dropped.read_bytes()


def test_tar_files_hold_no_times_and_no_owners(folder: RunFolder) -> None:
    for path in (*folder.shards.glob("*.tar"), *folder.all_parts()):
        with tarfile.open(path) as archive:
            assert {(member.mtime, member.uname, member.gname) for member in archive} == {(0, "", "")}


def test_samples_are_in_the_order_of_their_ids_and_read_back(folder: RunFolder) -> None:
    samples: list[dict[str, Any]] = []
    for path in shards_of(folder.path, TRAIN):
        # Not ``WebDataset``, which leaves its files open.
        with path.open("rb") as file:
            opened: Any = file
            members = ({**member, "__url__": str(path)} for member in tariterators.tar_file_iterator(opened))
            samples += tariterators.group_by_keys(members)
    keys = [item["__key__"] for item in samples]
    assert keys == sorted(keys)
    record = json.loads(samples[0]["json"])
    assert {"target.jpg", "reference0.jpg", "reference1.jpg"} <= samples[0].keys()
    for subject in record["subjects"]:
        assert record["caption"][slice(*subject["phrase_span"])] == subject["phrase"]


def test_trainers_read_samples_with_cut_out_references(folder: RunFolder) -> None:
    sample = next(read_samples(shards_of(folder.path, TRAIN)[0]))
    assert (sample.height, sample.width) == sample.image.size[::-1] == (96, 96)
    disc = next(subject for subject in sample.subjects if subject.phrase == "blue disc")
    assert disc.reference.getpixel((0, 0)) == (255, 255, 255)
    assert disc.mask is not None
    assert sum(disc.mask) == 96 * 96
    assert sample.licence == "CC0-1.0"


def test_no_source_is_in_both_splits(folder: RunFolder) -> None:
    found = {split: set() for split in (TRAIN, HELDOUT)}
    for split, sources in found.items():
        for path in shards_of(folder.path, split):
            sources.update(sample.source for sample in read_samples(path))
    assert found[TRAIN]
    assert found[HELDOUT]
    assert not found[TRAIN] & found[HELDOUT]
    assert {split_of(source, CONFIG.write) for source in found[HELDOUT]} == {HELDOUT}


def test_whole_shards_are_not_touched_and_damaged_ones_are_mended(folder: RunFolder) -> None:
    before = contents(folder)
    first, second, *_ = sorted(folder.shards.glob("*.tar"))
    stamp = first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:700])
    with pytest.raises(CheckpointError, match="Run msd data run again"):
        list(read_samples(second))
    finish(folder, (), CONFIG)
    assert contents(folder) == before
    assert first.stat().st_mtime_ns == stamp


def test_a_damaged_part_is_made_again(folder: RunFolder) -> None:
    part = next(folder.all_parts())
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(PartError):
        read_index(part)
    open_jobs(folder, [])
    assert not part.exists()


def test_a_full_disk_leaves_whole_shards(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    last = sorted(folder.shards.glob("*.tar"))[-1]
    last.unlink()
    called = []

    def full(descriptor: int) -> None:
        called.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageFullError, match="What is whole stays"):
        finish(folder, (), CONFIG)
    assert called
    assert contents(folder) == {name: data for name, data in before.items() if name != last.name}
    assert not list(folder.path.rglob("*.tmp"))
    monkeypatch.undo()
    finish(folder, (), CONFIG)
    assert contents(folder) == before


def test_an_erased_source_is_gone_from_everything(folder: RunFolder) -> None:
    manifest = json.loads(folder.manifest.read_text())
    gone = next(name for name, facts in manifest["sources"].items() if facts["samples"])
    before = contents(folder)
    removed = erase_source(folder, gone).samples
    assert removed == manifest["sources"][gone]["samples"]
    records = [sample for path in folder.shards.glob("*.tar") for sample in read_samples(path)]
    assert gone not in {sample.source for sample in records}
    assert gone.encode() not in b"".join(path.read_bytes() for path in folder.path.rglob("*.tar"))
    after = json.loads(folder.manifest.read_text())
    assert gone not in after["sources"]
    assert after["erased"] == [gone]
    assert sum(after["samples"].values()) == sum(manifest["samples"].values()) - removed == len(records)
    untouched = {name for name, data in contents(folder).items() if before[name] == data}
    assert untouched
    with pytest.raises(InvalidInputError, match="There is no source 'x'"):
        erase_source(folder, "x")


def test_a_near_duplicate_is_dropped_with_its_source(folder: RunFolder) -> None:
    parts = [read_index(path) for path in folder.all_parts()]
    for part in parts:
        write_drops(folder, parts, {part.index["samples"][0]["id"]: "another"})
        line = json.loads(folder.dropped.read_text().splitlines()[-1])
        assert (line["like"], line["source"]) == ("another", part.index["source"]["id"])


def test_what_clips_failed_on_is_named_by_their_footage_and_only_by_that_of_this_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    films = [Footage(tmp_path / f"{name}.mp4", "video") for name in ("mine", "of another run")]
    for number, film in enumerate(films):
        film.path.write_bytes(b"film")
        clip = f"{number:024x}"
        write_json(folder.listings / f"{key_of(film)}.json", {"clips": [clip, "e" * 24], "faults": []})
        write_json(
            folder.faults / f"{clip}.json", {"clip": clip, "stage": "masks", "reason": "stage_failed", "detail": "x"}
        )
    (fault,) = all_faults(folder, films[:1])
    assert (fault.path, fault.reason) == (str(films[0].path), "stage_failed")
    assert fault.detail == f"clip {0:024x}, masks: x"


def test_the_manifest_says_what_lacks_a_caption_and_that_nothing_is_held_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    config = config_without_models(write={"heldout_share": 0.01})
    for seed in range(3):
        clip = judged_clip(config, seed)
        write_part(folder.parts, replace(clip, notes=("no_entities",)) if seed else clip, config.write)
    remarks = "\n".join(finish(folder, (), config)["remarks"])
    assert f"2 clips have no caption, or one that names no thing; of sources {'s' * 24}." in remarks
    assert "No sample is held out" in remarks
    assert not any(
        "caption" in own or "held out" in own for own in build_manifest([], [], [], {}, (), [], config)["remarks"]
    )


def test_a_second_run_in_one_folder_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    with folder.locked(), pytest.raises(StartupError, match="Another run works"), folder.locked():
        pass
    with folder.locked():
        pass


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(CONFIG)
    folder.begin(CONFIG)
    with pytest.raises(InvalidInputError, match=r"another configuration: write\.quality"):
        folder.begin(config_without_models(write={"samples_per_shard": 3, "heldout_share": 0.4, "quality": 80}))


def test_copies_are_left_out_and_said(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    clip = judged_clip(CONFIG, 1)
    write_part(folder.parts, clip, CONFIG.write)
    copy = judged_clip(CONFIG, 1, source="c" * 24)
    copied = replace(copy, id="f" * 24, samples=tuple(replace(sample, id="f" * 24) for sample in copy.samples))
    write_part(folder.parts, copied, CONFIG.write)
    manifest = finish(folder, (), CONFIG)
    assert manifest["funnel"]["samples"] == {"found": 2, "kept": 1, "dropped": {"near_duplicate": 1}}
    assert json.loads(folder.dropped.read_text().splitlines()[-1])["like"] == clip.id
