"""Stand-ins' answers on record, and parts that only play them back: proof that no stage sees the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ms_core.spec import Box
from ms_lab.data.items import Detection, Frame, Mask
from ms_lab.data.parts import Seen
from ms_lab.data.run_lengths import from_run_lengths, run_lengths
from ms_lab.footage.stand_ins import StandInCaptioner, StandInDetector, StandInMatcher, StandInSegmenter


class _Tape:
    """Answers by what was asked, one JSON line each."""

    def __init__(self, path: str, name: str) -> None:
        self.path = Path(path) / f"{name}.jsonl"

    def add(self, asked: Any, answer: Any) -> None:
        """Put an answer on record."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([asked, answer]) + "\n")

    def find(self, asked: Any) -> Any:
        """The recorded answer."""
        return _answers(str(self.path))[json.dumps(asked)]


@lru_cache(maxsize=8)
def _answers(path: str) -> dict[str, Any]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {json.dumps(asked): answer for asked, answer in map(json.loads, lines)}


class RecordedParts:
    """All four parts in one class: with a truth they ask the stand-ins and record, without one they play back."""

    def __init__(self, tape: str, truth: str = "") -> None:
        self.tapes = {name: _Tape(tape, name) for name in ("caption", "detect", "segment", "compare")}
        self.truth = truth

    def caption(self, frames: Sequence[Frame]) -> list[str]:
        """As a ``Captioner``."""
        return [
            self._answer("caption", frame.id, lambda own=frame: StandInCaptioner(self.truth).caption([own])[0])
            for frame in frames
        ]

    def detect(self, frames: Sequence[Frame], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """As a ``Detector``."""
        found: list[list[Detection]] = []
        for frame, own in zip(frames, phrases, strict=True):
            rows = self._answer("detect", [frame.id, list(own)], lambda f=frame, p=own: self._detected(f, p))
            found.append([Detection(phrase, Box(*box), score) for phrase, box, score in rows])
        return found

    def segment(self, frames: Sequence[Frame]) -> list[list[Mask]]:
        """As a ``Segmenter``."""
        found: list[list[Mask]] = []
        for frame in frames:
            asked = [frame.id, [list(own.box.as_tuple()) for own in frame.detections]]
            rows = self._answer("segment", asked, lambda f=frame: self._segmented(f))
            found.append([from_run_lengths(row, frame.height, frame.width) for row in rows])
        return found

    def compare(self, groups: Sequence[Sequence[Seen]]) -> list[Float[np.ndarray, "n n"]]:
        """As a ``Matcher``."""
        return [self._compared(group) for group in groups]

    def _compared(self, group: Sequence[Seen]) -> Float[np.ndarray, "n n"]:
        asked = [[seen.frame.id, list(seen.detection.box.as_tuple())] for seen in group]
        answer = self._answer("compare", asked, lambda: StandInMatcher(self.truth).compare([group])[0].tolist())
        return np.asarray(answer)

    def _detected(self, frame: Frame, phrases: Sequence[str]) -> list[Any]:
        found = StandInDetector(self.truth).detect([frame], [phrases])[0]
        return [[own.phrase, list(own.box.as_tuple()), own.score] for own in found]

    def _segmented(self, frame: Frame) -> list[Any]:
        return [list(run_lengths(mask)) for mask in StandInSegmenter(self.truth).segment([frame])[0]]

    def _answer(self, name: str, asked: Any, ask: Callable[[], Any]) -> Any:
        if not self.truth:
            return self.tapes[name].find(asked)
        answer = ask()
        self.tapes[name].add(asked, answer)
        return answer
