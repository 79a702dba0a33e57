"""One stage over one batch, whatever happens to single items: a failing batch is halved until the item is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ms_core.errors import MSDiffusionError
from ms_lab.data.items import Clip

Stage = Callable[[Sequence[Clip]], list[Clip]]
OUT_OF_MEMORY, FAILED = "out_of_memory", "stage_failed"


@dataclass(frozen=True, slots=True)
class FailedClip:
    """A clip that a stage cannot do.

    Attributes:
        clip: its id.
        source: id of its source.
        stage: which stage.
        reason: ``out_of_memory`` or ``stage_failed``.
        detail: the error's own words.
    """

    clip: str
    source: str
    stage: str
    reason: str
    detail: str


def run_batch(name: str, stage: Stage, clips: Sequence[Clip]) -> tuple[list[Clip], list[FailedClip]]:
    """The clips as the stage returns them, and those on which it fails even alone.

    Raises:
        MSDiffusionError: the model or the configuration is at fault, not an item.
    """
    if not clips:
        return [], []
    try:
        return stage(clips), []
    except MSDiffusionError:
        raise
    except Exception as error:
        if len(clips) == 1:
            return [], [_failed(name, clips[0], error)]
    # Outside the handler, so that the error's frames, and the memory they hold, are gone.
    middle = len(clips) // 2
    left, right = run_batch(name, stage, clips[:middle]), run_batch(name, stage, clips[middle:])
    return left[0] + right[0], left[1] + right[1]


def _failed(name: str, clip: Clip, error: Exception) -> FailedClip:
    # torch's error for a full GPU is a RuntimeError of its own; torch need not be there.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    reason = OUT_OF_MEMORY if out_of_memory else FAILED
    words = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return FailedClip(clip.id, clip.source.id, name, reason, words)
