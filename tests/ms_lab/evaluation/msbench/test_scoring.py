"""A right picture, an exchanged pair and a lost subject, by judges that see colours: each measure tells what it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.spec.plain_pictures import plain
from ms_lab.evaluation.msbench.results import ALL, COLUMNS, build_results, build_tables, summarise
from ms_lab.evaluation.msbench.samples import Sample, read_benchmark
from ms_lab.evaluation.msbench.scoring import References, SampleScore, read_pixels, score_batch
from tests.ms_lab.evaluation.msbench.colour_judges import colour_judges, painted
from tests.support.sent_pictures import DATA
from tests.support.small_msbench import write_checkout

JUDGES = colour_judges()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return read_benchmark(write_checkout(tmp_path_factory.mktemp("checkout"))).samples


def scored(samples: Sequence[Sample], shown: Callable[[Sample], Sequence[int] | None]) -> list[SampleScore]:
    pictures = [np.asarray(painted(sample, shown(sample))) for sample in samples]
    return score_batch(samples, pictures, References(samples, JUDGES), JUDGES)


def values(scores: Sequence[SampleScore], kind: str = ALL) -> dict[str, float]:
    return {key: estimate.value for key, estimate in summarise(scores)[kind].estimates.items()}


def pairs(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.type == "living_object"]


def test_right_pictures_are_right_by_every_measure(samples: tuple[Sample, ...]) -> None:
    right = values(scored(pairs(samples), lambda _: None))
    assert right["clip_i_crops"] == pytest.approx(1, abs=0.02)
    assert right["dino_crops"] == pytest.approx(1, abs=0.02)
    assert right["m_dino_crops"] == pytest.approx(1, abs=0.02)
    assert right["clip_t_crops"] == pytest.approx(1, abs=0.02)
    assert (right["miou"], right["ap"], right["collapse"]) == (pytest.approx(1), pytest.approx(1), 0)


def test_an_exchanged_pair_is_told_from_a_right_one(samples: tuple[Sample, ...]) -> None:
    right = values(scored(pairs(samples), lambda _: None))
    swapped = values(scored(pairs(samples), lambda _: (1, 0)))
    for key in ("clip_t_crops", "clip_i_crops", "dino_crops", "m_dino_crops"):
        assert swapped[key] < right[key] - 0.1, key
    assert (swapped["miou"], swapped["ap"], swapped["collapse"]) == (0, 0, 1)
    # That is why there are crops: whole pictures cannot tell.
    for key in ("clip_t", "clip_i", "dino", "m_dino"):
        assert swapped[key] == pytest.approx(right[key], abs=1e-3), key


def test_a_lost_subject_costs_m_dino_most(samples: tuple[Sample, ...]) -> None:
    right = values(scored(pairs(samples), lambda _: None))
    lost = values(scored(pairs(samples), lambda _: (0, -1)))
    assert lost["m_dino"] / right["m_dino"] < lost["dino"] / right["dino"] < 1
    assert lost["m_dino_crops"] == 0
    assert lost["miou"] == pytest.approx(0.5)
    assert lost["ap"] == pytest.approx(0.5)


def test_whole_pictures_crops_and_texts_are_compared_each_with_its_own(samples: tuple[Sample, ...]) -> None:
    sample = next(sample for sample in samples if sample.name == "living_object_scene/otter+kettle+harbour-0")
    (score,) = scored([sample], lambda _: None)
    whole = np.asarray(painted(sample))
    parts = [whole, whole[20:80, :50], whole[20:80, 50:], whole]
    own = [read_pixels(subject.path) for subject in sample.subjects]
    by_clip = JUDGES.clip.pictures(parts) @ JUDGES.clip.pictures(own).T
    by_dino = JUDGES.dino.pictures(parts) @ JUDGES.dino.pictures(own).T
    assert np.allclose(score.clip_i, by_clip[0], atol=1e-4)
    assert np.allclose(score.clip_i_crops, by_clip[1:], atol=1e-4)
    assert np.allclose(score.dino, by_dino[0], atol=1e-4)
    assert np.allclose(score.dino_crops, by_dino[1:], atol=1e-4)
    assert not np.allclose(score.clip_i, score.dino, atol=1e-2)
    texts = JUDGES.clip.texts([sample.prompt, "otter", "kettle", "harbour"])
    told = (JUDGES.clip.pictures(parts) * texts).sum(1)
    assert np.allclose([score.clip_t, *score.clip_t_crops], told, atol=1e-4)
    # A scene fills the picture: it is neither looked for nor asked whether it collapsed.
    assert {found.phrase for found in score.found} == {"otter", "kettle"}
    assert score.scenes == (False, False, True)


def test_types_are_told_apart_and_samples_count_alike(samples: tuple[Sample, ...]) -> None:
    exchanged = {"living_object": (1, 0), "living_upwearing": (1, 0)}
    scores = scored(samples, lambda sample: exchanged.get(sample.type))
    results = summarise(scores)
    assert list(results)[-1] == ALL
    assert results["living_object"].estimates["collapse"].value == 1
    assert results["object_object"].estimates["collapse"].value == 0
    whole = results[ALL].estimates
    # 36 boxes that are no scenes; of 8 + 4 samples both are wrong.
    assert whole["collapse"].value == pytest.approx(24 / sum(len(s.boxes) - sum(s.scenes) for s in scores))
    assert whole["dino_crops"].value == pytest.approx(
        np.mean([np.mean([row[i] for i, row in enumerate(score.dino_crops)]) for score in scores])
    )
    for result in results.values():
        for estimate in result.estimates.values():
            assert estimate.low <= estimate.value <= estimate.high
    assert whole["miou"].low < whole["miou"].value < whole["miou"].high
    assert whole["ap"].low < whole["ap"].value < whole["ap"].high


def test_detections_of_one_thing_are_one(samples: tuple[Sample, ...]) -> None:
    class Twice:
        def detect(self, frames: Sequence[object], phrases: Sequence[Sequence[str]]) -> list[list[object]]:
            answers = JUDGES.detector.detect(frames, phrases)  # pyright: ignore[reportArgumentType]
            return [[*answer, *answer] for answer in answers]

    judges = colour_judges()
    object.__setattr__(judges, "detector", Twice())
    batch = pairs(samples)[:1]
    pictures = [np.asarray(painted(batch[0]))]
    (score,) = score_batch(batch, pictures, References(batch, judges), judges)
    assert sorted(found.phrase for found in score.found) == ["kettle", "otter"]


def test_the_result_file_says_everything_and_the_tables_show_it(samples: tuple[Sample, ...]) -> None:
    results = build_results(scored(samples, lambda _: None), {"seed": 3}, {"model": "tiny"}, {"clip": "c"})
    assert (results["run"], results["service"], results["harness"]) == ({"seed": 3}, {"model": "tiny"}, {"clip": "c"})
    assert set(results["measures"]) == set(COLUMNS)
    assert all(row["source"] and row["harness"] for row in results["published"])
    paper = next(row for row in results["published"] if row["method"] == "MS-Diffusion")
    assert paper["numbers"] == {"clip_i": 0.698, "dino": 0.425, "m_dino": 0.108, "clip_t": 0.341}
    own, published = build_tables(results)
    assert own.row_count == len(results["types"])
    assert published.row_count == len(results["published"])


def test_transparent_parts_are_white_and_what_is_no_picture_is_named(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_pixels(tmp_path / "a.png") == 255).all()
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match=r"b\.png cannot be read"):
        read_pixels(tmp_path / "b.png")


def test_a_picture_is_seen_as_the_service_sees_it(tmp_path: Path) -> None:
    # Pillow alone would clip it to white.
    Image.fromarray(np.full((4, 4), 100 * 257, np.uint16)).save(tmp_path / "grey.png")
    assert (read_pixels(tmp_path / "grey.png") == 100).all()
    with Image.open(DATA / "photo-p3.jpg") as photo:
        profile = photo.info["icc_profile"]
    colour = Image.new("RGB", (4, 4), (234, 99, 77))
    colour.save(tmp_path / "wide.png", icc_profile=profile)
    (seen,) = {tuple(map(int, pixel)) for row in read_pixels(tmp_path / "wide.png") for pixel in row}
    assert seen == plain(Image.open(tmp_path / "wide.png")).getpixel((0, 0)) != (234, 99, 77)
