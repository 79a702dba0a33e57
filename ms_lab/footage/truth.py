"""The side file: what every frame of a film truly shows. Only stand-ins and the scorer read it."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ms_core.errors import ModelNotFoundError
from ms_core.spec import Box
from ms_lab.data.geometry import mask_box
from ms_lab.data.items import content_id, microseconds
from ms_lab.data.run_lengths import run_lengths
from ms_lab.footage.drawing import Appearance, Painted
from ms_lab.footage.script import Shot
from ms_lab.mini.scenes import caption_of

LEAST_VISIBLE, MOST_CUT, LEAST_TURN, LEAST_GROWTH = 0.5, 0.06, 4.0, 0.04


@dataclass(frozen=True, slots=True)
class TrueSubject:
    """What a frame truly shows of one actor.

    Attributes:
        actor: its number in the shot.
        identity: equal for what looks the same.
        phrase: what it is called.
        box: of what can be seen, normalised xyxy.
        mask: run lengths of that.
        visible, cut: shares of the drawing.
        blurred: whether it is.
        named: whether the true caption names it.
        pose: x, y, side, degrees.
        fault: what is planted in it, or in its shot.
    """

    actor: int
    identity: str
    phrase: str
    box: tuple[float, float, float, float]
    mask: tuple[int, ...]
    visible: float
    cut: float
    blurred: bool
    named: bool
    pose: tuple[float, float, float, float]
    fault: str

    @property
    def is_usable(self) -> bool:
        """Visible by half, sharp, and not cut by the border."""
        return self.visible >= LEAST_VISIBLE and not self.blurred and self.cut <= MOST_CUT

    def moved_from(self, other: TrueSubject) -> bool:
        """Whether both are different moments: turned or grown, not only shifted."""
        grown = abs(self.pose[2] / other.pose[2] - 1)
        return abs(self.pose[3] - other.pose[3]) >= LEAST_TURN or grown >= LEAST_GROWTH


@dataclass(frozen=True, slots=True)
class TrueFrame:
    """What one frame truly shows."""

    id: str
    shot: str
    time_s: float
    caption: str
    subjects: tuple[TrueSubject, ...]

    def as_box(self, subject: TrueSubject) -> Box:
        """A subject's box."""
        return Box(*subject.box)


class Truth:
    """All true frames by their ids."""

    def __init__(self, frames: dict[str, TrueFrame]) -> None:
        self.frames = frames

    @classmethod
    def load(cls, path: str | Path) -> Truth:
        """Read a side file.

        Raises:
            ModelNotFoundError: there is none.
        """
        if not Path(path).is_file():
            raise ModelNotFoundError(f"There is no side file {Path(path).name}.")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return cls({row["id"]: _frame(row) for row in rows})

    @staticmethod
    def save(path: Path, frames: list[TrueFrame]) -> None:
        """Write a side file."""
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
            file.writelines(json.dumps(_row(frame)) + "\n" for frame in frames)


def true_frame(content: str, film: int, shot: Shot, painted: Painted, fault: str = "") -> TrueFrame:
    """What a painted frame of a film with this SHA-256 shows."""
    named = [actor.phrase for actor in shot.actors if actor.named]
    caption = caption_of(named, shot.background, "")[0] if named else f"a view {shot.background}"
    subjects = [
        subject
        for number, seen in enumerate(painted.seen)
        if (subject := _subject(number, seen, fault or shot.fault)) is not None
    ]
    frame_id = content_id("frame", content, microseconds(painted.time_s))
    return TrueFrame(frame_id, f"{film}/{painted.shot}", painted.time_s, caption, tuple(subjects))


def _subject(number: int, seen: Appearance, fault: str) -> TrueSubject | None:
    box = mask_box(seen.mask)
    if box is None:
        return None
    return TrueSubject(
        actor=number,
        identity=seen.look.identity,
        phrase=seen.actor.phrase,
        box=box.as_tuple(),
        mask=run_lengths(seen.mask),
        visible=round(seen.visible, 4),
        cut=round(seen.cut, 4),
        blurred=seen.actor.blur > 0,
        named=seen.actor.named,
        pose=(seen.pose.x, seen.pose.y, seen.pose.side, seen.pose.degrees),
        fault=seen.actor.fault or fault,
    )


def _row(frame: TrueFrame) -> dict[str, Any]:
    # Not ``asdict``: it would copy every run of every mask.
    row = {name.name: getattr(frame, name.name) for name in fields(frame)}
    row["subjects"] = [{name.name: getattr(own, name.name) for name in fields(own)} for own in frame.subjects]
    return row


def _frame(row: dict[str, Any]) -> TrueFrame:
    subjects: list[TrueSubject] = []
    for own in row.pop("subjects"):
        tuples: dict[str, Any] = {name: tuple(own[name]) for name in ("box", "mask", "pose")}
        subjects.append(TrueSubject(**{**own, **tuples}))
    return TrueFrame(**row, subjects=tuple(subjects))
