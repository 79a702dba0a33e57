"""Held-out artwork in two halves that never touch."""

from __future__ import annotations

import pytest

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.questions.packs import ARTIST, BOTH, CONCEPT, NEITHER, BenchPack
from ms_lab.mini.halves import HALVES, TEST, VALIDATION, half_of, take_half
from ms_lab.mini.sprites import Sprite, SpritePack
from ms_lab.training.mini import load_artwork
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def packs() -> dict[str, BenchPack]:
    return {half: BenchPack.read(ASSETS, half) for half in HALVES}


def test_a_thing_is_in_the_same_half_on_every_machine_and_in_every_process() -> None:
    assert [half_of(name) for name in ("teapot", "cat", "book", "rose")] == [TEST, TEST, VALIDATION, TEST]


def unseen(pack: BenchPack) -> list[Sprite]:
    return [sprite for index, sprite in enumerate(pack.sprites) if pack.cell_of(index) != NEITHER]


def test_the_halves_share_no_thing_and_no_name_and_leave_nothing_out(packs: dict[str, BenchPack]) -> None:
    validation, test = (unseen(pack) for pack in packs.values())
    for shown in ("concept", "phrase", "sha256"):
        assert not {getattr(sprite, shown) for sprite in validation} & {getattr(sprite, shown) for sprite in test}
    assert len(validation) + len(test) == len(unseen(BenchPack.read(ASSETS)))


def test_what_was_trained_on_is_whole_and_every_other_cell_is_halved(packs: dict[str, BenchPack]) -> None:
    assert packs[TEST].by_cell[NEITHER].keys() == packs[VALIDATION].by_cell[NEITHER].keys()
    for cell in (BOTH, ARTIST, CONCEPT):
        counts = [len(pack.by_cell[cell]) for pack in packs.values()]
        assert min(counts) >= 0.45 * sum(counts)


def test_telemetry_of_training_sees_the_validation_half_only() -> None:
    _, held_out = load_artwork(ASSETS, [], ASSETS, smoke=True)
    assert {half_of(sprite.phrase) for sprite in held_out.sprites} == {VALIDATION}


def test_an_unknown_half_is_told() -> None:
    with pytest.raises(InvalidInputError, match="validation and test"):
        take_half(SpritePack([], []), "both")
