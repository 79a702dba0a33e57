"""How long jobs take, as learned from those that succeeded."""

from __future__ import annotations

import pytest

from ms_core.spec import StartPicture
from ms_jobs.pace import REMEMBERED_JOBS, Estimates, Pace, Shape
from tests.support.job_helpers import PICTURE, Desk

FULL = {"height": 1024, "width": 512, "num_inference_steps": 20, "guidance_scale": 5.0}


def shape(steps: int = 20, images: int = 1) -> str:
    return str(Shape(steps, images, 1000, 1000, False, 1, 0))


def test_a_shape_tells_what_decides_how_long_a_request_takes(desk: Desk) -> None:
    request = desk.request(**FULL, num_images=3)
    assert Shape.of(request) == Shape(20, 3, 1024, 512, True, 1, 0)


def test_a_request_without_all_values_has_no_shape(desk: Desk) -> None:
    assert Shape.of(desk.request(**FULL | {"num_inference_steps": None})) is None


def test_a_start_picture_saves_steps(desk: Desk) -> None:
    start = StartPicture(PICTURE, 0.5)
    found = Shape.of(desk.request(**FULL, start=start))
    assert found is not None
    assert found.steps == 10


def test_heun_does_nearly_twice_the_steps(desk: Desk) -> None:
    found = Shape.of(desk.request(**FULL, scheduler="heun"))
    assert found is not None
    assert found.steps == 39


def test_guidance_is_twice_the_work() -> None:
    assert Shape(20, 2, 1000, 500, True, 1, 0).work == 2 * Shape(20, 2, 1000, 500, False, 1, 0).work == 40


def test_a_shape_survives_its_text() -> None:
    for original in (Shape(20, 3, 1024, 512, True, 4, 1), Shape(20, 3, 1024, 512, True, 4, 1, redraws=2)):
        assert Shape.parse(str(original)) == original


def test_a_shape_without_retries_is_written_as_before_there_were_any() -> None:
    assert str(Shape(20, 3, 1024, 512, True, 4, 1)) == "20-3-1024-512-1-4-1"


@pytest.mark.parametrize("text", ["20-3-1024-512-1-4", "20-3-1024-512-1-4-x"])
def test_other_text_is_no_shape(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a shape|invalid literal"):
        Shape.parse(text)


def test_jobs_with_retries_are_a_shape_of_their_own_and_bend_no_line(desk: Desk) -> None:
    found = Shape.of(desk.request(**FULL, score=True, retries=2))
    assert found == Shape(20, 1, 1024, 512, True, 1, 0, redraws=2)
    retried = [(f"{shape(steps)}-2", 3 + steps) for steps in (10, 20, 40)]
    known = [(shape(steps), 1 + steps / 10) for steps in (10, 20, 40)]
    estimates = Estimates(known + retried * 2)
    assert estimates.seconds(shape(30)) == pytest.approx(4.0)
    assert estimates.seconds(f"{shape(20)}-2") == 23


def test_nothing_is_said_before_the_first_job() -> None:
    assert Estimates([]).seconds(shape()) is None


def test_a_known_shape_takes_what_its_newest_jobs_took() -> None:
    old = [(shape(), 9.0)] * 50
    assert Estimates([(shape(), 2.0)] * 9 + old).seconds(shape()) == 2.0


def test_the_slow_first_job_of_a_worker_does_not_count() -> None:
    assert Estimates([(shape(), 2.1), (shape(), 2.0), (shape(), 30.0)]).seconds(shape()) == 2.1


def test_an_unknown_shape_is_judged_by_its_work() -> None:
    # One second for each job, and a tenth for each step.
    known = [(shape(steps), 1 + steps / 10) for steps in (10, 10, 20, 20, 40, 40)]
    assert Estimates(known).seconds(shape(30)) == pytest.approx(4.0)


def test_one_odd_shape_does_not_bend_the_line() -> None:
    known = [(shape(steps), 1 + steps / 10) for steps in (10, 20, 30, 40, 50)] + [(shape(25), 500.0)]
    assert Estimates(known).seconds(shape(60)) == pytest.approx(7.0, rel=0.05)


def test_with_one_shape_known_another_takes_in_proportion() -> None:
    assert Estimates([(shape(10), 2.0)] * 2).seconds(shape(30)) == pytest.approx(6.0)


def test_a_job_without_a_shape_takes_what_is_usual() -> None:
    assert Estimates([(shape(10), 1.0), (shape(20), 2.0), (shape(40), 4.0)]).seconds("") == 2.0


def test_jobs_without_a_shape_count_for_what_is_usual() -> None:
    assert Estimates([("", 3.0)]).seconds(shape()) == 3.0


def test_what_was_learned_is_read_back(desk: Desk) -> None:
    pace = Pace(desk.client, desk.model)
    for seconds in (2.0, 2.5, 3.0):
        pace.learn(shape(), seconds)
    assert pace.estimates().seconds(shape()) == 2.5


def test_only_the_newest_jobs_are_kept(desk: Desk) -> None:
    pace = Pace(desk.client, desk.model)
    for _ in range(REMEMBERED_JOBS + 5):
        pace.learn(shape(), 1.0)
    assert desk.client.llen(pace.key) == REMEMBERED_JOBS


def test_the_pace_of_a_model_nobody_uses_is_forgotten(desk: Desk) -> None:
    pace = Pace(desk.client, desk.model)
    pace.learn(shape(), 1.0)
    assert desk.client.ttl(pace.key) > 0
