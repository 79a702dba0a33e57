"""The bench with painters in the model's place: what is asked of them, what is kept, and what is found in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ms_core.config import ModelCard, Preset
from ms_core.spec import GenerationSpec
from ms_lab.evaluation.bench import choose_scenes
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import (
    COLUMNS,
    COMPOSITES,
    EXCHANGED_PHRASES,
    FAST,
    MODEL,
    NO_GROUNDING,
    PASTED,
    SCALE_ZERO,
    SHUFFLED,
    THROUGH_VAE,
    WORDS,
    WRONG_ORDER,
    WRONG_PHRASES,
    PictureKey,
    Requests,
    Settings,
)
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.report.summary import summarise
from ms_lab.evaluation.run.folder import RunFolder
from ms_lab.evaluation.run.judging import judge_pictures
from ms_lab.evaluation.run.making import Maker, make_pictures, missing_pictures
from tests.ms_lab.evaluation.small_bench import Painter, draw_few
from tests.support.paths import ASSETS

COUNTS = {"headline": 2, "twins": 1, "oblong": 1, "contact": 1}
SMALL = ModelCard(name="painter")
CARD = replace(SMALL, defaults=replace(SMALL.defaults, height=128, width=128))


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS)


@pytest.fixture(scope="module")
def scenes(pack: BenchPack) -> list[BenchScene]:
    return draw_few(pack, COUNTS)


@pytest.fixture(scope="module")
def headline(scenes: list[BenchScene]) -> list[BenchScene]:
    """As many scenes as the group has in the core; they are two in turn."""
    return [replace(scenes[number % 2], number=number) for number in range(75)]


def ask(scenes: Sequence[BenchScene], full: bool = False, card: ModelCard = CARD) -> Requests:
    return Requests(scenes, full, card, Settings())


def of_group(scenes: Sequence[BenchScene], group: str) -> BenchScene:
    return next(scene for scene in scenes if scene.group == group)


def numbers(requests: Requests, column: str) -> list[int]:
    return [key.number for scene in requests.scenes for key in requests.keys(column, scene)]


def test_the_core_has_control_columns_for_the_first_scenes_only(headline: list[BenchScene]) -> None:
    requests = ask(headline)
    for column in (SCALE_ZERO, SHUFFLED, *WORDS):
        assert numbers(requests, column) == list(range(40))
    for column in (MODEL, COMPOSITES, THROUGH_VAE, PASTED):
        assert numbers(requests, column) == list(range(75))


def test_the_full_bench_has_all_control_columns(headline: list[BenchScene]) -> None:
    requests = ask([*headline, replace(headline[0], group="huge"), replace(headline[1], group="huge")], full=True)
    everywhere = [column for column in COLUMNS if column not in (FAST, *WORDS, WRONG_ORDER)]
    assert {len(numbers(requests, column)) for column in everywhere} == {77}
    assert {len(numbers(requests, column)) for column in WORDS} == {75}


def test_the_fast_column_is_there_where_the_model_has_the_preset(scenes: list[BenchScene]) -> None:
    card = replace(CARD, presets={FAST: Preset(num_inference_steps=4, guidance_scale=1.0)})
    assert numbers(ask(scenes), FAST) == []
    requests = ask(scenes, card=card)
    assert numbers(requests, FAST) == [0, 1]
    assert {request.spec.preset for request in requests if request.key.column == FAST} == {FAST}
    assert numbers(Requests(scenes, False, card, Settings(preset=FAST)), FAST) == []


def test_only_twins_are_asked_for_twice(scenes: list[BenchScene]) -> None:
    requests = ask(scenes)
    twins, usual = of_group(scenes, "twins"), of_group(scenes, "headline")
    assert [key.exchanged for key in requests.keys(MODEL, twins)] == [False, True]
    assert [key.exchanged for key in requests.keys(SCALE_ZERO, twins)] == [False]
    assert [key.exchanged for key in requests.keys(MODEL, usual)] == [False]


def test_the_exchanged_request_differs_in_its_references_only(scenes: list[BenchScene]) -> None:
    twins = of_group(scenes, "twins")
    requests = ask(scenes)
    original, exchanged = (requests.spec(key, twins) for key in requests.keys(MODEL, twins))
    assert [s.image for s in exchanged.subjects] == [s.image for s in reversed(original.subjects)]
    references = [subject.image for subject in original.subjects]
    subjects = [replace(own, image=image) for own, image in zip(exchanged.subjects, references, strict=True)]
    assert replace(exchanged, subjects=tuple(subjects)) == original


def test_twins_phrases_are_found_apart(scenes: list[BenchScene]) -> None:
    twins = of_group(scenes, "twins")
    first, second = ask(scenes).spec(PictureKey(MODEL, "twins", 0), twins).phrase_spans
    assert first is not None
    assert second is not None
    assert first[1] < second[0]


def test_the_shuffled_request_has_the_references_of_the_following_scene(scenes: list[BenchScene]) -> None:
    requests = ask(scenes)
    for number, following in ((0, 1), (1, 0)):
        own = requests.spec(PictureKey(MODEL, "headline", number), scenes[number])
        shuffled = requests.spec(PictureKey(SHUFFLED, "headline", number), scenes[number])
        assert [s.image for s in shuffled.subjects] == [s.reference for s in scenes[following].original.subjects]
        assert [(s.phrase, s.box) for s in shuffled.subjects] == [(s.phrase, s.box) for s in own.subjects]
        assert (shuffled.prompt, shuffled.seed) == (own.prompt, own.seed)


def test_words_change_and_references_stay(scenes: list[BenchScene]) -> None:
    requests = ask(scenes)
    own = requests.spec(PictureKey(MODEL, "headline", 0), scenes[0])
    made = {column: requests.spec(PictureKey(column, "headline", 0), scenes[0]) for column in WORDS}
    for spec in made.values():
        assert [(s.image, s.box) for s in spec.subjects] == [(s.image, s.box) for s in own.subjects]
        assert spec.seed == own.seed
        assert None not in spec.phrase_spans
    assert replace(made[NO_GROUNDING], grounding=True) == own
    phrases = [subject.phrase for subject in own.subjects]
    assert [subject.phrase for subject in made[EXCHANGED_PHRASES].subjects] == phrases[::-1]
    assert made[EXCHANGED_PHRASES].prompt == own.prompt
    others = [subject.phrase for subject in scenes[1].original.subjects]
    assert [subject.phrase for subject in made[WRONG_PHRASES].subjects] == others
    assert all(phrase in made[WRONG_PHRASES].prompt for phrase in others)
    assert made[WRONG_PHRASES].prompt.endswith(scenes[0].scene.background)


def test_references_are_shuffled_among_scenes_of_as_many_subjects(pack: BenchPack) -> None:
    places = draw_few(pack, {"place": 4})
    assert [len(scene.original.subjects) for scene in places] == [2, 3, 2, 3]
    requests = ask(places, full=True, card=replace(CARD, max_subjects=3))
    for scene in places:
        (key,) = requests.keys(SHUFFLED, scene)
        other = places[(scene.number + 2) % 4]
        shown = [subject.images[0].tobytes() for subject in requests.spec(key, scene).subjects]
        assert shown == [subject.reference.tobytes() for subject in other.original.subjects]


def test_a_scene_that_is_alone_of_its_kind_cannot_be_shuffled(scenes: list[BenchScene]) -> None:
    assert ask(scenes, full=True).keys(SHUFFLED, of_group(scenes, "oblong")) == []


def test_a_model_is_asked_for_pictures_of_its_own_size(scenes: list[BenchScene]) -> None:
    card = replace(CARD, defaults=replace(CARD.defaults, height=64, width=64))
    requests = ask(scenes, card=card)
    sizes = {key.group: (spec.height, spec.width) for key, spec in ((r.key, r.spec) for r in requests)}
    assert sizes == {"headline": (64, 64), "twins": (64, 64), "oblong": (48, 80), "contact": (64, 64)}


def test_in_contact_alone_the_request_says_who_is_in_front(scenes: list[BenchScene]) -> None:
    requests = ask(scenes)
    for scene in scenes:
        levels = [s.z_index for s in requests.spec(PictureKey(MODEL, scene.group, scene.number), scene).subjects]
        assert levels == ([0, 1] if scene.group == "contact" else [0, 0])
        assert bool(requests.keys(WRONG_ORDER, scene)) == (scene.group == "contact")


def test_groups_are_chosen_by_name(scenes: list[BenchScene]) -> None:
    assert {scene.group for scene in choose_scenes(scenes, ["twins", "oblong"])} == {"twins", "oblong"}


def test_a_family_of_groups_is_chosen_by_its_name(scenes: list[BenchScene]) -> None:
    several = [replace(scenes[0], group=name) for name in ("headline", "number-2", "number-8")]
    assert [scene.group for scene in choose_scenes(several, ["number"])] == ["number-2", "number-8"]


def test_a_model_is_not_asked_for_more_subjects_than_its_card_allows(scenes: list[BenchScene]) -> None:
    requests = ask(scenes, full=True, card=replace(CARD, max_subjects=1))
    assert list(requests) == []
    for scene in scenes:
        asked = {column for column in COLUMNS if requests.keys(column, scene)}
        assert {COMPOSITES, THROUGH_VAE, PASTED} <= asked
        assert not {MODEL, SCALE_ZERO, SHUFFLED, *WORDS} & asked


@pytest.fixture(scope="module")
def run(
    scenes: list[BenchScene], pack: BenchPack, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, Painter]:
    """All pictures of a perfect painter, whose VAE changes nothing."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    painter = Painter(scenes, pack)
    make_pictures(ask(scenes), folder, Maker(painter.paint, list, batch_size=4), lambda count: None)
    return folder, painter


def test_every_picture_is_kept_as_it_was_made(scenes: list[BenchScene], run: tuple[RunFolder, Painter]) -> None:
    folder, painter = run
    requests = ask(scenes)
    assert missing_pictures(requests, folder) == []
    for request in requests:
        [made] = painter.paint([request.spec])
        assert folder.load(request.key).tobytes() == made.tobytes()
    assert folder.load(PictureKey(COMPOSITES, "headline", 0)).tobytes() == scenes[0].original.image.tobytes()
    assert folder.load(PictureKey(PASTED, "headline", 0)).tobytes() == scenes[0].pasted.tobytes()


def test_batches_are_of_one_size_and_no_larger_than_allowed(run: tuple[RunFolder, Painter]) -> None:
    batches = run[1].batches
    assert max(len(batch) for batch in batches) == 4
    assert {len({(spec.height, spec.width) for spec in batch}) for batch in batches} == {1}


def test_an_interrupted_run_goes_on_with_what_is_missing(
    scenes: list[BenchScene], pack: BenchPack, tmp_path: Path
) -> None:
    requests, folder, painter = ask(scenes), RunFolder(tmp_path), Painter(scenes, pack)

    def stop_after_two(specs: Sequence[GenerationSpec]) -> list[Image.Image]:
        if len(painter.batches) == 2:
            raise KeyboardInterrupt
        return painter.paint(specs)

    with pytest.raises(KeyboardInterrupt):
        make_pictures(requests, folder, Maker(stop_after_two, list, batch_size=2), lambda count: None)
    before = [request.key for request in requests if folder.has(request.key)]
    made: list[int] = []
    later = Painter(scenes, pack)
    make_pictures(requests, folder, Maker(later.paint, list, batch_size=2), made.append)
    assert len(before) == 4
    assert missing_pictures(requests, folder) == []
    timing = folder.timing()
    assert timing is not None
    assert timing.pictures == sum(made) == len(list(requests)) - 4


@pytest.fixture(scope="module")
def outcomes(scenes: list[BenchScene], pack: BenchPack, run: tuple[RunFolder, Painter]) -> dict[str, list[Outcome]]:
    return judge_pictures(ask(scenes), run[0], pack, 1, lambda count: None)


def test_what_obeys_is_found_right(outcomes: dict[str, list[Outcome]]) -> None:
    groups = summarise(outcomes, dict.fromkeys(COUNTS, "both"))
    for column in (MODEL, COMPOSITES, THROUGH_VAE):
        for group in COUNTS:
            estimates = groups[group].columns[column]
            assert estimates["identity"].value == estimates["background"].value == 1.0
        assert groups["twins"].columns[column]["swap"].value == 1.0


def test_where_nothing_is_drawn_nothing_is_found(outcomes: dict[str, list[Outcome]]) -> None:
    groups = summarise(outcomes, dict.fromkeys(COUNTS, "both"))
    estimates = groups["headline"].columns[SCALE_ZERO]
    assert estimates["neglect"].value == 1.0
    assert estimates["layout_iou"].value == estimates["both_right"].value == 0.0
    assert estimates["background"].value == 1.0
    assert groups["twins"].columns[SCALE_ZERO]["swap"].value == 0.0


def test_other_scenes_references_are_wrong(outcomes: dict[str, list[Outcome]]) -> None:
    estimates = summarise(outcomes, dict.fromkeys(COUNTS, "both"))["headline"].columns[SHUFFLED]
    assert estimates["identity_easy"].value <= 0.25
