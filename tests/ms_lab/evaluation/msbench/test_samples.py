"""Every combination comes once, in every prompt of its type."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.msbench.run import count_sentence
from ms_lab.evaluation.msbench.samples import read_benchmark
from tests.support.small_msbench import NUM_COMBINATIONS, NUM_SAMPLES, write_checkout

# As many pictures of each type as the authors have, and their 13 types.
COUNTS = {"living": 10, "object": 10, "scene": 4, "upwearing": 5, "midwearing": 6, "wholewearing": 2, "downwearing": 3}
TYPES = [
    "living_living",
    "living_object",
    "object_object",
    "living_upwearing",
    "living_midwearing",
    "living_wholewearing",
    "midwearing_downwearing",
    "living_scene",
    "object_scene",
    "living_living_living",
    "object_object_object",
    "living_object_scene",
    "upwearing_midwearing_downwearing",
]


def write_whole(folder: Path) -> Path:
    """Empty pictures and plain prompts, as many as the authors have."""
    names = [f"{kind}{number}" for kind, count in COUNTS.items() for number in range(count)]
    tables = {
        "data_class_dict": {name: name.rstrip("0123456789") for name in names},
        "two_subject_combinations": TYPES[:9],
        "three_subject_combinations": TYPES[9:],
        "subject_combination_boxes": {kind: [[0.0, 0.0, 0.5, 1.0]] * (kind.count("_") + 1) for kind in TYPES},
        "subject_combination_prompts": {
            kind: [f"{number} " + " ".join(f"{{{place}}}" for place in range(kind.count("_") + 1))
                   for number in range(1 if kind.endswith("scene") else 6)]
            for kind in TYPES
        },
    }  # fmt: skip
    prompts = folder / "msdiffusion" / "dataset" / "prompts" / "msbench.py"
    prompts.parent.mkdir(parents=True)
    prompts.write_text("\n".join(f"{name} = {value!r}" for name, value in tables.items()))
    for kind, count in COUNTS.items():
        (folder / "msbench" / kind).mkdir(parents=True)
        for number in range(count):
            (folder / "msbench" / kind / f"{kind}{number}.jpg").touch()
    return folder


def test_the_count_is_the_authors_and_a_missing_picture_is_named(tmp_path: Path) -> None:
    write_whole(tmp_path)
    whole = read_benchmark(tmp_path)
    assert (whole.num_combinations, len(whole.samples)) == (1148, 4488)
    assert whole.is_whole
    assert len({sample.type for sample in whole.samples}) == 13
    assert "as the authors count" in count_sentence(whole)
    (tmp_path / "msbench" / "living" / "living1.jpg").unlink()
    lacking = read_benchmark(tmp_path)
    assert (lacking.num_combinations, len(lacking.samples)) == (1036, 4036)
    assert not lacking.is_whole
    assert "missing: living/living1. The authors have 1148 and 4488" in count_sentence(lacking)


def test_each_sample_says_what_stands_where(tmp_path: Path) -> None:
    benchmark = read_benchmark(write_checkout(tmp_path) / "msbench")
    assert (benchmark.num_combinations, len(benchmark.samples)) == (NUM_COMBINATIONS, NUM_SAMPLES)
    assert benchmark.missing == ()
    samples = {sample.name: sample for sample in benchmark.samples}
    assert len(samples) == NUM_SAMPLES
    assert "living_living/heron+otter-0" not in samples
    sample = samples["living_object_scene/heron+lamp_1+harbour-0"]
    assert sample.prompt == "a heron and a desk lamp in front of a harbour"
    assert [subject.phrase for subject in sample.subjects] == ["heron", "desk lamp", "harbour"]
    assert [subject.is_scene for subject in sample.subjects] == [False, False, True]
    assert sample.subjects[1].path == tmp_path / "msbench" / "object" / "lamp_1.png"
    assert samples["living_living/otter+heron-1"].prompt == "a otter beside a heron on the moon"


def test_every_sample_has_a_seed_of_its_own(tmp_path: Path) -> None:
    samples = read_benchmark(write_checkout(tmp_path)).samples
    assert len({sample.seed(0) for sample in samples}) == NUM_SAMPLES
    assert all(sample.seed(0) != sample.seed(1) for sample in samples)


def test_few_takes_some_combinations_of_each_type(tmp_path: Path) -> None:
    few = read_benchmark(write_checkout(tmp_path)).few(2)
    names = {sample.combination for sample in few.samples if sample.type == "living_object"}
    # Spread over all four, each with both prompts.
    assert names == {"living_object/otter+kettle", "living_object/heron+kettle"}
    assert sum(sample.type == "living_object" for sample in few.samples) == 4
    assert {sample.type for sample in few.samples} == {s.type for s in read_benchmark(tmp_path).samples}


def test_the_digest_follows_pictures_and_prompts(tmp_path: Path) -> None:
    first = read_benchmark(write_checkout(tmp_path)).digest
    assert read_benchmark(tmp_path).digest == first
    picture = tmp_path / "msbench" / "living" / "otter.png"
    picture.write_bytes(picture.read_bytes() + b" ")
    changed = read_benchmark(tmp_path).digest
    assert changed != first
    prompts = tmp_path / "msdiffusion" / "dataset" / "prompts" / "msbench.py"
    prompts.write_text(prompts.read_text().replace("moon", "sea"))
    assert read_benchmark(tmp_path).digest not in (first, changed)


def test_what_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="git clone"):
        read_benchmark(tmp_path / "nothing")
    write_checkout(tmp_path)
    prompts = tmp_path / "msdiffusion" / "dataset" / "prompts" / "msbench.py"
    elsewhere = prompts.rename(tmp_path / "prompts.py")
    with pytest.raises(InvalidInputError, match="--prompts"):
        read_benchmark(tmp_path)
    assert len(read_benchmark(tmp_path, elsewhere).samples) == NUM_SAMPLES
    (tmp_path / "msbench" / "object" / "otter.jpg").touch()
    with pytest.raises(InvalidInputError, match="have one name"):
        read_benchmark(tmp_path, elsewhere)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="make no combination"):
        read_benchmark(tmp_path / "empty", elsewhere)
