"""Which moment a reference comes from."""

from __future__ import annotations

from tests.ms_lab.data.made_clips import config_without_models, judged_clip

FRAMES, SQUARE = 4, 0


def moments(reference: str) -> dict[int, set[int]]:
    """The frames of the references of each target frame, for a square that grows from frame to frame."""
    config = config_without_models(
        choose={"samples_per_clip": FRAMES, "reference": reference}, filters={"off": ["blur"]}
    )
    samples = judged_clip(config, num_frames=FRAMES).samples
    return {
        sample.target: {own.reference.frame for own in sample.subjects if own.target.detection == SQUARE}
        for sample in samples
    }


def test_the_largest_reference_is_taken() -> None:
    assert moments("largest") == {0: {3}, 1: {3}, 2: {3}, 3: {2}}


def test_the_reference_of_the_nearest_moment_is_taken() -> None:
    found = moments("nearest")
    assert set(found) == set(range(FRAMES))
    assert all(abs(target - frame) == 1 for target, frames in found.items() for frame in frames)


def test_references_are_of_the_nearest_moment_unless_asked_otherwise() -> None:
    assert config_without_models().choose.reference == "nearest"
