"""Made footage: its truth fits its pixels, stand-ins are as wrong as they say, the scorer counts what is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ms_core.spec import Box
from ms_lab.data.filters.verdicts import FILTERS
from ms_lab.data.geometry import box_iou, mask_box
from ms_lab.data.items import Detection, Frame, Reason
from ms_lab.data.parts import Seen
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.footage.drawing import Painter
from ms_lab.footage.generator import FilmDrawer, FilmOdds
from ms_lab.footage.scorer import has_fault, score
from ms_lab.footage.script import FAULTS, Film
from ms_lab.footage.second_generator import SecondDrawer
from ms_lab.footage.stand_ins import StandInCaptioner, StandInDetector, StandInMatcher, StandInSegmenter, subject_at
from ms_lab.footage.truth import Truth, true_frame
from tests.ms_lab.data.small_footage import run_directly, small_config, small_footage, small_pack

ODDS = FilmOdds(shots=(1, 1), duration_s=(1.0, 1.0), fault=0.0, bar=0.0, size=96)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The side file of many frames, without videos."""
    path = tmp_path_factory.mktemp("truth") / "truth.jsonl.gz"
    painter, frames = Painter(small_pack()), []
    for number, film in enumerate(FilmDrawer(small_pack(), ODDS).films(60, 3)):
        painted = list(painter.frames(film))
        frames += [true_frame(f"film {number}", number, film.shots[0], one) for one in painted]
    Truth.save(path, frames)
    return path


def frames_of(truth: Path) -> list[Frame]:
    pixels = np.zeros((96, 96, 3), np.uint8)
    return [Frame(name, "clip", own.time_s, pixels, own.caption) for name, own in Truth.load(truth).frames.items()]


def test_the_detector_is_as_wrong_as_it_says(truth: Path) -> None:
    true, frames = Truth.load(truth), frames_of(truth)
    asked = [[subject.phrase for subject in true.frames[frame.id].subjects] for frame in frames]
    found = StandInDetector(str(truth)).detect(frames, asked)
    subjects = sum(len(true.frames[frame.id].subjects) for frame in frames)
    fits = []
    for frame, own in zip(frames, found, strict=True):
        for detection in own:
            subject = subject_at(true.frames[frame.id], detection)
            fits.append(0.0 if subject is None else box_iou(true.frames[frame.id].as_box(subject), detection.box))
    assert subjects > 900
    wrong = sum(0.4 <= fit < 0.8 for fit in fits) / subjects
    missed = 1 - sum(fit >= 0.4 for fit in fits) / subjects
    false = sum(fit < 0.4 for fit in fits) / subjects
    assert missed == pytest.approx(0.04, abs=0.02)
    assert false == pytest.approx(0.03, abs=0.02)
    assert wrong == pytest.approx(0.03, abs=0.02)


def test_the_segmenter_follows_the_box_it_is_given(truth: Path) -> None:
    true, frames = Truth.load(truth), frames_of(truth)[:60]
    fits, outside = [], []
    for frame in frames:
        own = true.frames[frame.id]
        right = tuple(Detection(subject.phrase, own.as_box(subject), 1.0) for subject in own.subjects)
        masks = StandInSegmenter(str(truth)).segment([replace(frame, detections=right)])[0]
        for subject, mask in zip(own.subjects, masks, strict=True):
            whole = from_run_lengths(subject.mask, 96, 96)
            if subject_at(own, Detection(subject.phrase, own.as_box(subject), 1.0)) == subject and whole.sum() > 150:
                fits.append((mask & whole).sum() / (mask | whole).sum())
        box = right[0].box
        wrong = Box(box.x_min * 0.8, box.y_min * 0.9, box.x_max * 0.9, box.y_max * 0.95)
        (mask, *_) = StandInSegmenter(str(truth)).segment([replace(frame, detections=(replace(right[0], box=wrong),))])[
            0
        ]
        around = mask_box(mask)
        assert around is not None
        outside.append(box_iou(around, wrong))
    assert np.percentile(fits, 5) > 0.84
    assert np.percentile(fits, 95) < 0.96
    assert np.median(outside) > 0.85


def test_the_captioner_drops_and_invents(truth: Path) -> None:
    true, frames = Truth.load(truth), frames_of(truth)
    captions = StandInCaptioner(str(truth)).caption(frames)
    named = [
        (caption, s.phrase) for f, caption in zip(frames, captions, strict=True) for s in true.frames[f.id].subjects
    ]
    dropped = 1 - sum(phrase in caption for caption, phrase in named) / len(named)
    made_up = ("umbrella", "bicycle", "lamp", "ladder")
    said = [(true.frames[frame.id].caption, caption) for frame, caption in zip(frames, captions, strict=True)]
    # The artwork has umbrellas, too.
    invented = sum(word in caption and word not in own for own, caption in said for word in made_up) / len(named)
    assert dropped == pytest.approx(0.05, abs=0.02)
    assert invented == pytest.approx(0.03, abs=0.02)


def test_the_matcher_is_wrong_both_ways(truth: Path) -> None:
    true, frames = Truth.load(truth), frames_of(truth)
    same, other = [], []
    for start in range(0, len(frames), 8):
        seen = [
            Seen(frame, Detection(subject.phrase, true.frames[frame.id].as_box(subject), 1.0))
            for frame in frames[start : start + 8 : 4]
            for subject in true.frames[frame.id].subjects
        ]
        names = [true.frames[own.frame.id].subjects[0].identity for own in seen]
        identities = [
            found.identity if (found := subject_at(true.frames[own.frame.id], own.detection)) is not None else name
            for own, name in zip(seen, names, strict=True)
        ]
        similar = StandInMatcher(str(truth)).compare([seen])[0]
        assert np.array_equal(similar, similar.T)
        for row in range(len(seen)):
            for column in range(row):
                (same if identities[row] == identities[column] else other).append(similar[row, column])
    assert np.mean(np.asarray(other) > 0.62) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.asarray(same) < 0.62) == pytest.approx(0.05, abs=0.05)


@pytest.mark.parametrize("drawer", [FilmDrawer, SecondDrawer])
def test_the_truth_is_where_the_pixels_changed(drawer: type[FilmDrawer]) -> None:
    odds = FilmOdds(shots=(1, 1), duration_s=(1.0, 1.0), fault=0.0, bar=0.0, size=96, subjects=(1.0,))
    film = next(drawer(small_pack(), odds).films(1, 8))
    shot = replace(film.shots[0], light=0.0)
    with_actor = next(Painter(small_pack()).frames(replace(film, shots=(shot,))))
    without = next(Painter(small_pack()).frames(replace(film, shots=(replace(shot, actors=()),))))
    moved = np.abs(with_actor.pixels.astype(int) - without.pixels).sum(-1) > 30
    mask = with_actor.seen[0].mask
    assert (moved & mask).sum() / (moved | mask).sum() > 0.8
    assert with_actor.seen[0].visible > 0.9
    assert with_actor.seen[0].cut < 0.06


@pytest.mark.parametrize("drawer", [FilmDrawer, SecondDrawer])
def test_a_copy_shows_what_it_copies_at_its_size(drawer: type[FilmDrawer]) -> None:
    odds = FilmOdds(shots=(1, 1), duration_s=(1.0, 1.0), fault=0.0, copies=1.0)
    films = list(drawer(small_pack(), odds).films(8, 4))
    for number in range(0, 8, 2):
        film, copy = films[number], films[number + 1]
        assert copy == replace(film, copy_of=number, brightness=copy.brightness)


@pytest.mark.parametrize("drawer", [FilmDrawer, SecondDrawer])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_can_be_planted(drawer: type[FilmDrawer], fault: str) -> None:
    odds = FilmOdds(shots=(1, 1), duration_s=(1.0, 1.0), fault=1.0, faults=(fault,), size=96, copies=0.0)
    film: Film = next(drawer(small_pack(), odds).films(1, 4))
    painted = list(Painter(small_pack()).frames(film))
    true = [true_frame("x", 0, film.shots[0], one) for one in painted]
    assert fault in {subject.fault for frame in true for subject in frame.subjects}
    assert fault in FILTERS


def test_the_scorer_tells_right_from_wrong(tmp_path: Path) -> None:
    footage = small_footage(tmp_path / "footage", films=2, seed=6)
    perfect = {"errors": False, "truth": str(footage / "truth.jsonl.gz")}
    names = {"caption": "Captioner", "grounding": "Detector", "masks": "Segmenter", "match": "Matcher"}
    parts = {
        name: {"use": f"ms_lab.footage.stand_ins:StandIn{kind}", "options": perfect} for name, kind in names.items()
    }
    config = small_config(footage, **parts, filters={"enabled": False})
    clips = run_directly(footage, tmp_path / "out", config)
    truth = Truth.load(footage / "truth.jsonl.gz")
    counted = score(clips, truth, 0.0, 0.0)
    assert counted.true > 20
    assert counted.found == counted.kept == counted.true
    assert counted.right >= counted.kept
    assert set(counted.wrong) <= {"same moment"}

    dropped = [
        replace(clip, pairs=tuple(replace(p, reasons=(Reason("blur", 0.1),)) for p in clip.pairs)) for clip in clips
    ]
    assert score(dropped, truth, 0.0, 0.0).kept == 0
    strange = [
        replace(clip, pairs=tuple(replace(p, other=p.other._replace(detection=0)) for p in clip.pairs))
        for clip in clips
    ]
    assert score(strange, truth, 0.0, 0.0).wrong["identity"] > 0


def test_only_faults_that_a_filter_can_see_count_as_planted() -> None:
    odds = replace(ODDS, fault=1.0, faults=("overlap",), copies=0.0)
    film = next(FilmDrawer(small_pack(), odds).films(1, 4))
    true = true_frame("x", 0, film.shots[0], next(Painter(small_pack()).frames(film)))
    cover = next(subject for subject in true.subjects if subject.fault == "overlap")
    behind = true.subjects[0]
    both = [Detection(own.phrase, true.as_box(own), 1.0) for own in (behind, cover)]
    assert has_fault(cover, true, both, 0.0)
    assert not has_fault(cover, true, both[1:], 0.0)

    small, (x_min, y_min, x_max, y_max) = replace(cover, fault="size"), cover.box
    own_area = (x_max - x_min) * (y_max - y_min)
    assert has_fault(small, true, both, own_area * 1.01)
    assert not has_fault(small, true, both, own_area * 0.99)


def test_things_turn_as_fast_as_the_odds_say() -> None:
    films = FilmDrawer(small_pack(), replace(ODDS, turns=(3.0, 10.0))).films(20, 3)
    turns = [actor.motion.turn for film in films for shot in film.shots for actor in shot.actors]
    assert all(3 <= abs(turn) <= 10 for turn in turns)
    assert min(turns) < 0 < max(turns)
