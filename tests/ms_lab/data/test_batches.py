"""A batch that fails is halved until the item is found; the others are done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ms_core.errors import ModelNotFoundError
from ms_lab.data.engine.batches import run_batch
from ms_lab.data.items import Clip
from tests.ms_lab.data.made_clips import colour_clip

CLIPS = [colour_clip(seed, num_frames=1) for seed in range(8)]


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "out_of_memory"), (OutOfMemoryError("CUDA"), "out_of_memory"), (ValueError("x"), "stage_failed")],
)
def test_only_the_item_at_fault_is_left_out(error: Exception, reason: str) -> None:
    sizes = []

    def stage(clips: Sequence[Clip]) -> list[Clip]:
        sizes.append(len(clips))
        if CLIPS[5] in clips:
            raise error
        return list(clips)

    done, failed = run_batch("masks", stage, CLIPS)
    assert done == [*CLIPS[:5], *CLIPS[6:]]
    assert [(one.clip, one.stage, one.reason) for one in failed] == [(CLIPS[5].id, "masks", reason)]
    assert sizes == [8, 4, 4, 2, 1, 1, 2]


def test_a_batch_that_is_too_large_is_done_in_halves() -> None:
    def stage(clips: Sequence[Clip]) -> list[Clip]:
        if len(clips) > 2:
            raise MemoryError
        return list(clips)

    assert run_batch("masks", stage, CLIPS) == (CLIPS, [])


def test_a_missing_model_is_no_items_fault() -> None:
    def stage(clips: Sequence[Clip]) -> list[Clip]:
        raise ModelNotFoundError("gone")

    with pytest.raises(ModelNotFoundError):
        run_batch("masks", stage, CLIPS)
