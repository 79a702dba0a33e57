"""Pairs between frames: one to one, by more than one similarity."""

from __future__ import annotations

import numpy as np

from ms_lab.data.stages.match import consensus, one_to_one
from tests.ms_lab.data.made_clips import config_without_models, judged_clip


def two_things(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of two things in so many frames, and the frame of each row."""
    kinds = np.tile([0, 1], num_frames)
    return np.where(kinds[:, None] == kinds[None], 0.8, 0.4), np.repeat(np.arange(num_frames), 2)


def test_one_wrong_similarity_parts_nothing_and_joins_nothing() -> None:
    similar, frames = two_things(5)
    similar[0, 4] = similar[4, 0] = 0.3
    similar[0, 7] = similar[7, 0] = 0.9
    firm = consensus(similar, frames, 0.6)
    assert firm[0, 4] == 0.8
    assert firm[0, 7] == 0.4


def test_a_frame_without_the_thing_says_nothing_of_it() -> None:
    similar, frames = two_things(5)
    # The first thing is missing in three frames.
    seen = np.asarray([0, 1, 2, 3, 5, 7, 9])
    firm = consensus(similar[np.ix_(seen, seen)], frames[seen], 0.6)
    assert firm[0, 2] == 0.8


def test_with_two_frames_the_direct_similarity_counts() -> None:
    similar, frames = two_things(2)
    assert np.array_equal(consensus(similar, frames, 0.6), similar)


def test_nothing_is_paired_twice() -> None:
    assert one_to_one(np.asarray([[0.9, 0.8], [0.85, 0.1]])) == [(0, 1), (1, 0)]


def test_what_has_no_partner_stays_alone() -> None:
    similar = np.asarray([[0.1, 0.2], [0.9, 0.3], [0.8, 0.7]])
    assert one_to_one(similar) == [(1, 0), (2, 1)]
    assert one_to_one(similar.T) == [(0, 1), (1, 2)]


def test_things_of_other_names_are_no_pair() -> None:
    clip = judged_clip(config_without_models())
    named = {(clip.at(pair.one)[1].phrase, clip.at(pair.other)[1].phrase) for pair in clip.pairs}
    assert named == {("red square", "red square"), ("blue disc", "blue disc")}
    assert len(clip.pairs) == 6
