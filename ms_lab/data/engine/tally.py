"""What the stages have done so far: items, seconds and drops of each, gathered from all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ms_lab.data.config import STAGES
from ms_lab.data.items import Clip

READ, WRITE = "clips", "write"
ALL_STAGES = (READ, *STAGES, WRITE)


@dataclass(slots=True)
class StageCount:
    """Of one stage: clips that left it, seconds it worked, clips it failed on, and what it found or dropped."""

    clips: int = 0
    seconds: float = 0.0
    failed: int = 0
    facts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Counted:
    """What one stage did with a batch; attributes as of ``StageCount``."""

    name: str
    clips: int
    seconds: float
    failed: int
    facts: dict[str, int]


class Tally:
    """Counts of all stages; in a cluster it is an actor."""

    def __init__(self) -> None:
        self.stages = {name: StageCount() for name in ALL_STAGES}

    def add(self, batches: Sequence[Counted]) -> None:
        """Count what a step did."""
        for own in batches:
            count = self.stages[own.name]
            count.clips += own.clips
            count.seconds += own.seconds
            count.failed += own.failed
            for fact, number in own.facts.items():
                count.facts[fact] = count.facts.get(fact, 0) + number

    def read(self) -> dict[str, StageCount]:
        """The counts so far."""
        return self.stages


def facts_of(name: str, clips: list[Clip]) -> dict[str, int]:
    """What a stage found or dropped, in a few words."""
    if name == READ:
        return {"frames": sum(len(clip.frames) for clip in clips)}
    if name == "entities":
        return {"phrases": sum(len(frame.entities) for clip in clips for frame in clip.frames)}
    if name in ("grounding", "masks"):
        return {"detections": sum(len(frame.detections) for clip in clips for frame in clip.frames)}
    if name == "match":
        return {"pairs": sum(len(clip.pairs) for clip in clips)}
    if name == "filter":
        pairs = [pair for clip in clips for pair in clip.pairs]
        dropped = sum(bool(pair.reasons) for pair in pairs)
        return {"kept pairs": len(pairs) - dropped, "dropped pairs": dropped}
    if name == "choose":
        return {"samples": sum(len(clip.samples) for clip in clips)}
    return {}
