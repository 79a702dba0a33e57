"""The benchmarks of the data pipeline count what they say, and their intervals are those of films."""

from __future__ import annotations

import pytest

from benchmarks.data_faults import measure, planted_films
from benchmarks.data_pairs import interval
from ms_lab.data.filters.verdicts import DUPLICATE
from ms_lab.footage.script import FAULTS
from tests.ms_lab.data.small_footage import small_pack


@pytest.mark.parametrize("generator", ["first", "second"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_scene_has_the_fault_that_is_asked_for(generator: str, fault: str) -> None:
    for film in planted_films(generator, fault, 3, 5, small_pack()):
        (shot,) = film.shots
        assert fault in {shot.fault, *(actor.fault for actor in shot.actors)}


@pytest.mark.parametrize("fault", ["text", DUPLICATE])
def test_a_planted_scene_goes_through_all_stages_and_is_counted(fault: str) -> None:
    figures = measure("first", fault, 1, 3)
    assert figures["scenes"] == 1
    assert figures["caught"] == figures["planted"] > 0


def test_the_interval_is_of_films_and_not_of_pairs() -> None:
    low, high = interval([10, 0, 10, 0], [10, 10, 10, 10])
    assert low < 0.1
    assert high > 0.9
    low, high = interval([10, 0] * 200, [10, 10] * 200)
    assert 0.44 < low < 0.48
    assert 0.52 < high < 0.56


def test_films_that_all_agree_leave_room_for_others() -> None:
    low, high = interval([5, 6] * 15, [5, 6] * 15)
    assert low == pytest.approx(0.886, abs=0.001)
    assert high == 1.0
