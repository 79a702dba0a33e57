"""The measures by hand-made similarities and detections whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from ms_core.spec import Box
from ms_lab.evaluation.msbench.measures import (
    THRESHOLDS,
    Found,
    average_precision,
    collapsed,
    hits,
    placed_ious,
    product_of,
)

LEFT, RIGHT = Box(0.0, 0.0, 0.5, 1.0), Box(0.5, 0.0, 1.0, 1.0)
OWN, EXCHANGED = np.asarray([[0.9, 0.2], [0.3, 0.8]]), np.asarray([[0.2, 0.9], [0.8, 0.3]])


def test_one_lost_subject_costs_the_whole_product() -> None:
    assert product_of([0.5, 0.4]) == pytest.approx(0.2)
    assert product_of([0.9, -0.1, 0.9]) == 0
    # Two negative ones are not good together.
    assert product_of([-0.5, -0.5]) == 0


def test_a_box_that_looks_more_like_another_subject_has_collapsed() -> None:
    assert collapsed(OWN, [LEFT, RIGHT], [True, True]) == [False, False]
    assert collapsed(EXCHANGED, [LEFT, RIGHT], [True, True]) == [True, True]
    both_the_first = np.asarray([[0.9, 0.2], [0.9, 0.2]])
    assert collapsed(both_the_first, [LEFT, RIGHT], [True, True]) == [False, True]


def test_what_cannot_be_decided_is_not_asked() -> None:
    assert collapsed(EXCHANGED, [LEFT, LEFT], [True, True]) == [None, None]
    assert collapsed(EXCHANGED, [LEFT, RIGHT], [True, False]) == [True, None]


def test_iou_is_of_what_is_found_by_the_own_phrase() -> None:
    right = [Found("cat", LEFT, 0.9), Found("dog", RIGHT, 0.8)]
    assert placed_ious(["cat", "dog"], [LEFT, RIGHT], right) == [1.0, 1.0]
    assert placed_ious(["dog", "cat"], [LEFT, RIGHT], right) == [0.0, 0.0]
    assert placed_ious(["cat", "dog"], [LEFT, RIGHT], right[:1]) == [1.0, 0.0]
    assert placed_ious(["cat", "dog"], [LEFT, RIGHT], []) == [0.0, 0.0]
    half = [Found("cat", Box(0.0, 0.0, 0.5, 0.5), 0.9)]
    assert placed_ious(["cat"], [LEFT], half) == [0.5]


def test_subjects_of_one_phrase_share_no_detection() -> None:
    # The first one lies in both boxes and a little more in the right one.
    between = Found("cat", Box(0.2, 0.0, 0.9, 1.0), 0.9)
    ious = placed_ious(["cat", "cat"], [LEFT, RIGHT], [between])
    assert ious == [0.0, pytest.approx(0.5)]
    both = placed_ious(["cat", "cat"], [LEFT, RIGHT], [between, Found("cat", RIGHT, 0.2)])
    assert both == [pytest.approx(3 / 9), 1.0]


def precision(phrases: list[str], boxes: list[Box], found: list[Found]) -> float:
    scores = np.asarray([each.score for each in found])
    return average_precision(scores, hits(phrases, boxes, found), np.ones(len(found)), len(boxes))


def test_average_precision_of_right_exchanged_and_shifted_boxes() -> None:
    right = [Found("cat", LEFT, 0.9), Found("dog", RIGHT, 0.8)]
    assert precision(["cat", "dog"], [LEFT, RIGHT], right) == pytest.approx(1)
    assert precision(["dog", "cat"], [LEFT, RIGHT], right) == 0
    assert precision(["cat", "dog"], [LEFT, RIGHT], []) == 0
    # An IoU of 0.72 reaches five of ten thresholds.
    shifted = [Found("cat", Box(0.0, 0.0, 0.5, 0.72), 0.9)]
    assert precision(["cat"], [LEFT], shifted) == pytest.approx(0.5)
    assert len(THRESHOLDS) == 10


def test_a_false_detection_costs_by_its_rank() -> None:
    right, wrong = Found("cat", LEFT, 0.5), Box(0.6, 0.6, 0.9, 0.9)
    assert precision(["cat"], [LEFT], [right, Found("cat", wrong, 0.1)]) == pytest.approx(1)
    assert precision(["cat"], [LEFT], [right, Found("cat", wrong, 0.9)]) == pytest.approx(0.5)
    # A second one of the same thing is false as well.
    assert precision(["cat"], [LEFT], [right, Found("cat", LEFT, 0.9)]) == pytest.approx(1)
    assert precision(["cat"], [LEFT, RIGHT][:1], [Found("cat", LEFT, 0.9), right]) == pytest.approx(1)
    # Half of the boxes are found, before and after a false one.
    assert precision(["cat", "cat"], [LEFT, RIGHT], [right]) == pytest.approx(0.5)
    falsely = [Found("cat", wrong, 0.7), right, Found("cat", RIGHT, 0.3)]
    assert precision(["cat", "cat"], [LEFT, RIGHT], falsely) == pytest.approx(2 / 3)


def test_what_is_drawn_twice_counts_twice() -> None:
    scores = np.asarray([0.9, 0.5])
    told = np.asarray([[False, True]] * len(THRESHOLDS))
    assert average_precision(scores, told, np.ones(2), 1) == pytest.approx(0.5)
    assert average_precision(scores, told, np.asarray([1.0, 2.0]), 2) == pytest.approx(2 / 3)
    assert average_precision(scores, told, np.asarray([0.0, 1.0]), 1) == pytest.approx(1)
