"""The bench's scenes: fixed, and each group as it says."""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from ms_core.spec import WHOLE_PICTURE, Box, GenerationSpec, Subject
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.questions.arrangements import covered_share
from ms_lab.evaluation.questions.candidates import NUM_CANDIDATES
from ms_lab.evaluation.questions.groups import FULL, NUMBER_GROUPS
from ms_lab.evaluation.questions.packs import BOTH, CONCEPT, BenchPack
from ms_lab.evaluation.questions.scenes import (
    GROUPS,
    NUM_BACKDROPS,
    BenchScene,
    candidate_picture,
    draw_bench,
    fingerprint,
)
from ms_lab.evaluation.questions.visibility import shows_treatment
from ms_lab.evaluation.run.folder import digest_model
from ms_lab.mini.artwork import HELD_OUT_SET
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.halves import TEST, VALIDATION
from ms_lab.mini.painting import LIGHTS, PLAIN, TREATMENTS, box_around, cut_centre, light, paint_backdrop, paint_sprite
from ms_lab.mini.scenes import PLACE
from tests.support.paths import ASSETS, MINI, ROOT

# Whoever has to change these lines raises BENCH_VERSION: numbers measured before are void.
FINGERPRINTS = {
    TEST: "cb012ca78108ff24e8642f28b1a4955a86862dc0f6f3794ac19c5c451634ca42",
    VALIDATION: "72d22aad53eb1395443739ba6d082b96bb9f7e93959010e204ca46c245dac683",
}


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS, TEST)


# To draw the whole core takes minutes.
FIRST_FINGERPRINT = "ec41d3be2dce6246355fc6ffaa6c212e823385e560722bcefc2afb1dc8b21d0d"
FEW = {name: 12 if group.treatments == TREATMENTS else 6 for name, group in GROUPS.items()}


@pytest.fixture(scope="module")
def core(pack: BenchPack) -> list[BenchScene]:
    """The first scenes of each group of the core."""
    with pytest.MonkeyPatch.context() as patch:
        few = {name: replace(group, core=FEW[name]) for name, group in GROUPS.items()}
        patch.setattr("ms_lab.evaluation.questions.scenes.GROUPS", few)
        return draw_bench(pack, full=False)


@pytest.fixture(scope="module")
def group(core: list[BenchScene]) -> Callable[[str], list[BenchScene]]:
    return lambda name: [scene for scene in core if scene.group == name]


def _sizes(scene: BenchScene) -> list[float]:
    """Longer sides of the silhouettes' boxes, as shares of the picture's shorter side, ascending."""
    height, width = scene.scene.height, scene.scene.width
    boxes = [subject.silhouette_box for subject in scene.subjects]
    longer = [max((b.x_max - b.x_min) * width, (b.y_max - b.y_min) * height) for b in boxes]
    return sorted(side / min(height, width) for side in longer)


def _overlaps(scene: BenchScene) -> list[float]:
    boxes = [subject.box for subject in scene.original.subjects if subject.phrase != PLACE]
    return [covered_share(first, second) for first, second in itertools.combinations(boxes, 2)]


def test_first_scenes_are_the_ones_that_were_committed(core: list[BenchScene], pack: BenchPack) -> None:
    assert fingerprint(core, pack) == FIRST_FINGERPRINT


@pytest.mark.faults
@pytest.mark.parametrize("half", [TEST, VALIDATION])
def test_core_is_the_one_that_was_committed(half: str) -> None:
    pack = BenchPack.read(ASSETS, half)
    assert fingerprint(draw_bench(pack, full=False), pack) == FINGERPRINTS[half]


def measured(version: int) -> dict[str, str]:
    """The record of a run of the bench that the documents tell."""
    results = json.loads((ROOT / "benchmarks" / "results" / f"eval-mini-{version}.json").read_text(encoding="utf-8"))
    return results["run"]


def test_both_versions_of_the_model_were_measured_with_these_scenes() -> None:
    assert [measured(version)["scenes_fingerprint"] for version in (4, 5)] == 2 * [FINGERPRINTS[TEST]]


def test_the_bundled_weights_are_those_that_were_measured() -> None:
    assert measured(5)["model_digest"] == digest_model(MINI)


def test_every_group_has_its_number_of_scenes(core: list[BenchScene]) -> None:
    assert {name: group.core for name, group in GROUPS.items()} == {
        "headline": 75,
        "twins": 32,
        "artist": 16,
        "concept": 16,
        "neither": 16,
        "one": 16,
        "three": 16,
        "four": 16,
        "contact": 12,
        "tiny": 12,
        "huge": 12,
        "oblong": 12,
        "place": 12,
        "treatment": 48,
        "number-2": 12,
        "number-3": 12,
        "number-4": 12,
        "number-6": 12,
        "number-8": 12,
    }
    assert min(group.core for group in GROUPS.values()) * FULL >= 48
    for name in GROUPS:
        assert [scene.number for scene in core if scene.group == name] == list(range(FEW[name]))


def test_full_bench_begins_each_group_with_the_cores(
    core: list[BenchScene], pack: BenchPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: replace(GROUPS[name], core=1) for name in ("twins", "place")}
    monkeypatch.setattr("ms_lab.evaluation.questions.scenes.GROUPS", few)
    full = draw_bench(pack, full=True)
    assert [(scene.group, scene.number) for scene in full] == [(name, number) for name in few for number in range(4)]
    same = [scene for scene in core if scene.group in few and scene.number < 4]
    assert fingerprint(full, pack) == fingerprint(same, pack)


def test_fingerprint_sees_a_changed_picture_and_a_changed_question(core: list[BenchScene], pack: BenchPack) -> None:
    scene = core[0]
    before = fingerprint([scene], pack)
    brighter = scene.original.image.point(lambda level: min(255, level + 8))
    assert fingerprint([replace(scene, original=replace(scene.original, image=brighter))], pack) != before
    assert fingerprint([replace(scene, pasted=brighter)], pack) != before
    assert fingerprint([replace(scene, reordered=brighter)], pack) != before
    subject = scene.subjects[0]
    other = replace(subject, easy=replace(subject.easy, true=(subject.easy.true + 1) % NUM_CANDIDATES))
    assert fingerprint([replace(scene, subjects=(other, *scene.subjects[1:]))], pack) != before
    assert fingerprint([scene], pack) == before


def test_requests_are_accepted_and_find_every_phrase_at_its_own_place(core: list[BenchScene]) -> None:
    for scene in core:
        for sample in filter(None, (scene.original, scene.exchanged)):
            spec = GenerationSpec(
                sample.caption,
                tuple(Subject(s.phrase, s.reference, s.box, scene=s.phrase == PLACE) for s in sample.subjects),
                height=sample.height,
                width=sample.width,
                seed=scene.scene.seed,
            )
            assert spec.phrase_spans == tuple(subject.phrase_span for subject in sample.subjects)
            assert len(set(spec.phrase_spans)) == len(sample.subjects)


def test_subjects_are_of_the_scenes_cell(core: list[BenchScene], pack: BenchPack) -> None:
    for scene in core:
        cells = [pack.cell_of(subject.drawing.sprite) for subject in scene.subjects]
        if scene.group == "twins":
            assert sorted(cells) == [BOTH, CONCEPT]
            assert scene.cell == CONCEPT
        else:
            assert set(cells) == {scene.cell}
        assert scene.cell == (
            scene.group if scene.group in ("artist", "concept", "neither", BOTH) else GROUPS[scene.group].cell
        )


def test_no_subject_is_mirrored_and_half_of_them_are_turned(core: list[BenchScene]) -> None:
    placements = [placement for scene in core for placement in scene.scene.placements]
    assert not any(placement.mirrored for placement in placements)
    assert 0.4 < np.mean([placement.colour_turn != 0 for placement in placements]) < 0.6


def test_subjects_are_what_stands_in_the_scene(core: list[BenchScene], pack: BenchPack) -> None:
    for scene in core:
        for subject, placement, record in zip(
            scene.subjects, scene.scene.placements, scene.original.subjects, strict=False
        ):
            sprite = pack.sprites[subject.drawing.sprite]
            assert (placement.sprite, placement.colour_turn) == (subject.drawing.sprite, subject.drawing.colour_turn)
            assert record.reference_source == f"{sprite.artist}/{sprite.name}"
            for question in (subject.hard, subject.easy):
                assert question.candidates[question.true] == subject.drawing


def test_only_treatment_scenes_are_treated_and_only_place_scenes_have_a_scene_subject(core: list[BenchScene]) -> None:
    for scene in core:
        assert (scene.scene.treatment != PLAIN) == (scene.group == "treatment")
        assert (scene.place is not None) == (scene.group == "place")
        assert (scene.exchanged is not None) == (scene.group == "twins")
        assert (scene.reordered is not None) == (scene.group == "contact")
        assert len(scene.original.subjects) == len(scene.subjects) + (scene.group == "place")


def test_boxes_exceed_silhouettes_by_at_most_six_percent(core: list[BenchScene]) -> None:
    for scene in core:
        for subject, record in zip(scene.subjects, scene.original.subjects, strict=False):
            inner, outer = subject.silhouette_box, record.box
            width, height = inner.x_max - inner.x_min, inner.y_max - inner.y_min
            assert 0 <= inner.x_min - outer.x_min <= 0.06 * width + 1e-9
            assert 0 <= inner.y_min - outer.y_min <= 0.06 * height + 1e-9
            assert 0 <= outer.x_max - inner.x_max <= 0.06 * width + 1e-9
            assert 0 <= outer.y_max - inner.y_max <= 0.06 * height + 1e-9


def test_silhouettes_box_is_where_the_composite_differs_from_its_background(
    group: Callable[[str], list[BenchScene]],
) -> None:
    for scene in group("one"):
        (subject,) = scene.subjects
        found = box_around(_changed(scene.original.image, _background(scene)))
        # Edges too soft to count as opaque may be a pixel or two wide.
        for a, b in zip(found.as_tuple(), subject.silhouette_box.as_tuple(), strict=True):
            assert a == pytest.approx(b, abs=3 / 128)


def _background(scene: BenchScene) -> Image.Image:
    kind, seed, height, width = scene.scene.background, scene.scene.seed, scene.scene.height, scene.scene.width
    square = paint_backdrop(kind, np.random.default_rng(seed), max(height, width))
    return light(cut_centre(square, height, width), scene.scene.treatment)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("headline", 2),
        ("one", 1),
        ("three", 3),
        ("four", 4),
        ("twins", 2),
        ("oblong", 2),
        *((name, count) for count, name in NUMBER_GROUPS.items()),
    ],
)
def test_usual_scenes_have_their_number_of_subjects_that_hardly_overlap(
    group: Callable[[str], list[BenchScene]], name: str, count: int
) -> None:
    for scene in group(name):
        assert len(scene.subjects) == count
        assert all(share <= 0.1 for share in _overlaps(scene))


def test_scenes_of_fewer_subjects_are_those_of_more_without_the_last_ones(
    group: Callable[[str], list[BenchScene]],
) -> None:
    for count, name in NUMBER_GROUPS.items():
        for fewer, most in zip(group(name), group("number-8"), strict=True):
            assert fewer.subjects == most.subjects[:count]
            assert fewer.scene == replace(most.scene, placements=most.scene.placements[:count])
            for own, other in zip(fewer.original.subjects, most.original.subjects, strict=False):
                assert (own.box, own.phrase, own.mask) == (other.box, other.phrase, other.mask)
                assert own.reference.tobytes() == other.reference.tobytes()
            assert len({subject.drawing.sprite for subject in most.subjects}) == 8


def test_subjects_of_the_number_scenes_are_a_fifth_to_three_tenths_of_the_side(
    group: Callable[[str], list[BenchScene]],
) -> None:
    for scene in group("number-8"):
        assert 0.18 <= _sizes(scene)[0] <= _sizes(scene)[-1] <= 0.31


def test_boxes_in_contact_cover_a_tenth_to_two_fifths_of_the_smaller(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("contact"):
        (share,) = _overlaps(scene)
        assert 0.1 <= share <= 0.4


def test_in_contact_the_order_is_seen_where_both_subjects_lie(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("contact"):
        assert scene.reordered is not None
        first, second = (from_run_lengths(record.mask or (), 128, 128) for record in scene.original.subjects)
        common = first & second
        change = np.abs(np.asarray(scene.original.image, float) - np.asarray(scene.reordered, float)).mean(-1)
        assert common.sum() >= 64
        assert change[common].mean() >= 20
        # Soft edges reach a pixel or two beyond the silhouettes.
        assert not (change[~dilate(common)] > 8).any()


def test_the_later_subject_is_in_front(group: Callable[[str], list[BenchScene]], pack: BenchPack) -> None:
    for scene in group("contact"):
        front = scene.scene.placements[1]
        alone = _background(scene)
        silhouette = paint_sprite(alone, candidate_picture(pack, scene.subjects[1].drawing), front.centre, front.size)
        change = np.abs(np.asarray(scene.original.image, int) - np.asarray(alone, int)).max(-1)
        assert np.median(change[silhouette]) == 0


def dilate(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0


def test_no_subject_is_hidden_for_the_most_part(core: list[BenchScene]) -> None:
    for scene in core:
        shape = scene.scene.height, scene.scene.width
        records = scene.original.subjects[: len(scene.subjects)]
        silhouettes = [from_run_lengths(record.mask or (), *shape) for record in records]
        for index, silhouette in enumerate(silhouettes):
            in_front = np.logical_or.reduce([np.zeros(shape, bool), *silhouettes[index + 1 :]])
            assert (silhouette & in_front).sum() <= 0.4 * silhouette.sum()


def test_one_subject_is_tiny_beside_a_usual_one(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("tiny"):
        small, usual = _sizes(scene)
        assert 0.15 <= small <= 0.23
        assert 0.27 <= usual <= 0.66


def test_one_subject_is_huge_beside_a_small_one(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("huge"):
        small, huge = _sizes(scene)
        assert 0.17 <= small <= 0.29
        assert 0.73 <= huge <= 0.96
        assert _overlaps(scene)[0] <= 0.25


def test_oblong_pictures_lie_and_stand(group: Callable[[str], list[BenchScene]]) -> None:
    assert Counter(scene.original.image.size for scene in group("oblong")) == {(160, 96): 3, (96, 160): 3}


def test_twins_are_one_thing_by_two_artists(group: Callable[[str], list[BenchScene]], pack: BenchPack) -> None:
    for scene in group("twins"):
        first, second = (pack.sprites[subject.drawing.sprite] for subject in scene.subjects)
        assert first.concept == second.concept
        assert first.concept in pack.held_out
        assert first.phrase == second.phrase
        assert HELD_OUT_SET in {first.artist, second.artist}
        assert first.artist != second.artist


def test_exchanged_request_differs_in_its_references_alone(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("twins"):
        assert scene.exchanged is not None
        own, exchanged = scene.original, scene.exchanged
        assert own.caption == exchanged.caption
        assert [(s.phrase, s.phrase_span, s.box) for s in own.subjects] == [
            (s.phrase, s.phrase_span, s.box) for s in exchanged.subjects
        ]
        assert [s.reference.tobytes() for s in own.subjects] == [
            s.reference.tobytes() for s in exchanged.subjects[::-1]
        ]
        assert own.subjects[0].reference.tobytes() != own.subjects[1].reference.tobytes()


def test_exchanged_composite_has_each_drawing_in_the_others_box(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("twins"):
        assert scene.exchanged is not None
        for record in scene.exchanged.subjects:
            silhouette = box_around(from_run_lengths(record.mask or (), 128, 128))
            assert _within(silhouette, record.box, 2 / 128)
            assert _fills(silhouette, record.box, 3 / 128)
        changed = _changed(scene.exchanged.image, _background(scene))
        assert not changed[~_covered(scene)].any()


def _within(inner: Box, outer: Box, tolerance: float) -> bool:
    return (
        inner.x_min >= outer.x_min - tolerance
        and inner.y_min >= outer.y_min - tolerance
        and inner.x_max <= outer.x_max + tolerance
        and inner.y_max <= outer.y_max + tolerance
    )


def _fills(inner: Box, outer: Box, tolerance: float) -> bool:
    """Whether one box is as wide or as high as the other."""
    width = (outer.x_max - outer.x_min) - (inner.x_max - inner.x_min)
    height = (outer.y_max - outer.y_min) - (inner.y_max - inner.y_min)
    return min(width, height) <= tolerance


def _changed(picture: Image.Image, background: Image.Image) -> np.ndarray:
    """True where a picture differs from its background by more than a drawing's faintest edges do."""
    return np.abs(np.asarray(picture, int) - np.asarray(background, int)).max(-1) > 3


def _covered(scene: BenchScene) -> np.ndarray:
    """True in the boxes and two pixels around, for soft edges and rounding."""
    height, width = scene.scene.height, scene.scene.width
    mask = np.zeros((height, width), bool)
    for subject in scene.original.subjects:
        box = subject.box
        rows = slice(max(0, int(box.y_min * height) - 2), int(np.ceil(box.y_max * height)) + 2)
        columns = slice(max(0, int(box.x_min * width) - 2), int(np.ceil(box.x_max * width)) + 2)
        mask[rows, columns] = True
    return mask


def test_pasted_drawings_fill_their_boxes_before_the_right_background(core: list[BenchScene], pack: BenchPack) -> None:
    for scene in core:
        changed = _changed(scene.pasted, _background(scene))
        assert not changed[~_covered(scene)].any()
        for subject in scene.subjects:
            assert changed[_inner_rows_and_columns(scene, subject.silhouette_box)].mean() > 0.15


def _inner_rows_and_columns(scene: BenchScene, box: Box) -> tuple[slice, slice]:
    height, width = scene.scene.height, scene.scene.width
    return (
        slice(int(box.y_min * height), int(np.ceil(box.y_max * height))),
        slice(int(box.x_min * width), int(np.ceil(box.x_max * width))),
    )


def test_pasted_drawings_keep_their_colours_where_the_light_changes(
    group: Callable[[str], list[BenchScene]],
) -> None:
    for scene in group("treatment"):
        if scene.scene.treatment != "in black and white":
            continue
        coloured = np.ptp(np.asarray(scene.pasted).astype(int), axis=-1) > 20
        assert coloured.any()
        assert not coloured[~_covered(scene)].any()
        assert np.ptp(np.asarray(scene.original.image).astype(int), axis=-1).max() == 0


def test_every_treatment_is_named_equally_often_and_shows_on_every_subject(
    group: Callable[[str], list[BenchScene]], pack: BenchPack
) -> None:
    scenes = group("treatment")
    assert Counter(scene.scene.treatment for scene in scenes) == dict.fromkeys(TREATMENTS, 2)
    assert Counter(len(scene.subjects) for scene in scenes) == {1: 6, 2: 6}
    for scene in scenes:
        assert scene.original.caption.endswith(f", {scene.scene.treatment}")
        for subject in scene.subjects:
            assert shows_treatment(candidate_picture(pack, subject.drawing), scene.scene.treatment)


def test_references_are_upright_and_untreated_on_white(core: list[BenchScene], pack: BenchPack) -> None:
    for scene in core:
        for subject, record in zip(scene.subjects, scene.original.subjects, strict=False):
            reference = record.reference
            assert reference.size == (64, 64)
            shown = np.asarray(reference, np.float32)
            assert (shown[0] == 255).all()
            assert (shown[:, 0] == 255).all()
            side = int(np.max(np.ptp(np.argwhere((shown < 250).any(-1)), axis=0))) + 1
            assert 0.66 * 64 <= side <= 0.97 * 64
            drawing = candidate_picture(pack, subject.drawing).resize((side, side), Image.Resampling.BILINEAR)
            expected = Image.new("RGB", (64, 64), "white")
            expected.paste(drawing, ((64 - side) // 2, (64 - side) // 2), drawing)
            difference = np.abs(shown - np.asarray(expected, np.float32)).mean()
            mirrored = np.abs(shown[:, ::-1] - np.asarray(expected, np.float32)).mean()
            assert difference < 20
            assert difference <= mirrored + 2


def test_place_is_the_last_subject_and_its_reference_the_bare_background(
    group: Callable[[str], list[BenchScene]],
) -> None:
    scenes = group("place")
    assert Counter(len(scene.subjects) for scene in scenes) == {1: 3, 2: 3}
    for scene in scenes:
        place = scene.original.subjects[-1]
        assert (place.phrase, place.box) == (PLACE, WHOLE_PICTURE)
        assert scene.original.caption.endswith(" in this place")
        background = _background(scene).resize((64, 64), Image.Resampling.BOX)
        assert np.abs(np.asarray(place.reference, int) - np.asarray(background, int)).max() <= 1


def test_place_is_asked_among_draws_of_its_kind_and_other_kinds(group: Callable[[str], list[BenchScene]]) -> None:
    for scene in group("place"):
        assert scene.place is not None
        kinds = [kind for kind, _ in scene.place.backdrops]
        assert scene.place.backdrops[scene.place.true] == (scene.scene.background, scene.scene.seed)
        assert len(set(scene.place.backdrops)) == NUM_BACKDROPS
        assert kinds.count(scene.scene.background) == 4
        assert len(set(kinds)) == 7
        assert set(kinds) <= set(BACKGROUNDS)


def test_every_kind_of_background_is_there(core: list[BenchScene]) -> None:
    assert {scene.scene.background for scene in core} == set(BACKGROUNDS)
    assert {scene.scene.treatment for scene in core} >= set(LIGHTS)


def test_true_candidates_stand_anywhere(core: list[BenchScene]) -> None:
    subjects = [subject for scene in core for subject in scene.subjects]
    for places in ([s.hard.true for s in subjects], [s.easy.true for s in subjects]):
        assert set(places) == set(range(NUM_CANDIDATES))
        assert max(Counter(places).values()) < 2 * len(places) / NUM_CANDIDATES


def test_groups_draw_apart(core: list[BenchScene]) -> None:
    assert len({zlib.crc32(name.encode()) for name in GROUPS}) == len(GROUPS)
    apart = [scene for scene in core if scene.group not in NUMBER_GROUPS.values() or scene.group == "number-8"]
    assert len({scene.scene.seed for scene in apart}) == len(apart)
