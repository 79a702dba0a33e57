"""Scenes that are not as their group asks are drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from ms_lab.evaluation.questions import composing
from ms_lab.evaluation.questions.arrangements import covered_share
from ms_lab.evaluation.questions.candidates import CandidateChooser
from ms_lab.evaluation.questions.composing import try_scene
from ms_lab.evaluation.questions.groups import GROUPS
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.mini.scenes import Scene
from tests.support.paths import ASSETS


@pytest.fixture(scope="module")
def chooser() -> CandidateChooser:
    return CandidateChooser(BenchPack.read(ASSETS))


def tries(chooser: CandidateChooser, group: str, count: int = 40) -> list[Scene]:
    """Those of so many draws that are as the group asks."""
    drawn = (try_scene(np.random.default_rng(seed), chooser, GROUPS[group], 0) for seed in range(count))
    return [scene for scene, _ in filter(None, drawn)]


def test_the_overlap_is_that_of_the_boxes_with_their_margins(chooser: CandidateChooser) -> None:
    drawn = (try_scene(np.random.default_rng(seed), chooser, GROUPS["contact"], 0) for seed in range(150))
    shares = [covered_share(*(subject.box for subject in sample.subjects)) for _, sample in filter(None, drawn)]
    assert len(shares) > 10
    assert 0.1 <= min(shares) <= max(shares) <= 0.4


@pytest.mark.parametrize(("check", "left"), [("shows_subjects", False), ("shows_order", True)])
def test_a_scene_in_which_something_is_not_seen_is_drawn_again(
    chooser: CandidateChooser, monkeypatch: pytest.MonkeyPatch, check: str, left: bool
) -> None:
    """Only in contact it is asked who is in front."""
    assert tries(chooser, "contact")
    monkeypatch.setattr(composing, check, lambda *pictures: False)
    assert tries(chooser, "contact") == []
    assert bool(tries(chooser, "headline")) is left
