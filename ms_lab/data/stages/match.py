"""The same entity at other moments: similarities, made firm by the clip's other frames, then one to one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import cv2
import lap
import numpy as np
from jaxtyping import Float

from ms_lab.data.config import PipelineConfig
from ms_lab.data.items import Clip, Pair, Pixels
from ms_lab.data.parts import Matcher, Seen, load_part
from ms_lab.data.stages.entities import head_noun

Similarities = Float[np.ndarray, "n n"]
# Side at which two crops are compared pixel by pixel.
_SIDE = 24
_OTHER_THINGS = -1.0


class MatchStage:
    """Pairs every clip's detections between its frames."""

    def __init__(self, config: PipelineConfig) -> None:
        self.matcher: Matcher = load_part(config.match, "match")
        self.floor = config.filters.floor

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        groups = [[Seen(*clip.at(place)) for place in clip.places()] for clip in clips]
        asked = [index for index, clip in enumerate(clips) if len(clip.frames) > 1 and groups[index]]
        answers = self.matcher.compare([groups[index] for index in asked]) if asked else []
        similar = dict(zip(asked, answers, strict=True))
        return [
            replace(clip, pairs=_pairs(clip, groups[index], similar[index], self.floor)) if index in similar else clip
            for index, clip in enumerate(clips)
        ]


def _pairs(clip: Clip, seen: Sequence[Seen], similar: Similarities, floor: float) -> tuple[Pair, ...]:
    places = clip.places()
    names = [head_noun(item.detection.phrase) for item in seen]
    named_alike = np.asarray([[one == other for other in names] for one in names])
    similar = np.where(named_alike, similar, _OTHER_THINGS)
    frames = np.asarray([place.frame for place in places])
    firm = consensus(similar, frames, floor)
    small = [_small(item.crop) for item in seen]
    found: list[Pair] = []
    for one, other in itertools.combinations(sorted(set(frames.tolist())), 2):
        rows, columns = np.flatnonzero(frames == one), np.flatnonzero(frames == other)
        for row, column in one_to_one(firm[np.ix_(rows, columns)]):
            a, b = int(rows[row]), int(columns[column])
            if named_alike[a, b]:
                alike = float(max(similar[a, b], firm[a, b]))
                pixels = _correlation(small[a], small[b])
                found.append(Pair(places[a], places[b], _short(firm[a, b]), _short(alike), _short(pixels)))
    return tuple(found)


def _short(value: float) -> float:
    return round(float(value), 4)


def consensus(similar: Similarities, frames: np.ndarray, floor: float) -> Similarities:
    """Median of the direct similarity of two detections and of what each other frame says of them.

    A third frame says of them what its best detection is to both: the lower of its two similarities. A frame in which nothing is
    like either of them, by ``floor``, says nothing. So a single wrong similarity neither joins two things nor parts one.
    """
    said = [similar]
    for number in np.unique(frames).tolist():
        mine = similar[:, frames == number]
        hops = np.minimum(mine[:, None, :], mine[None, :, :]).max(2)
        best = mine.max(1)
        silent = np.maximum(best[:, None], best[None, :]) < floor
        # Nor does a frame say anything of its own detections, which have their direct similarity alone.
        silent |= (frames == number)[:, None] | (frames == number)[None, :]
        said.append(np.where(silent, np.nan, hops))
    return np.nanmedian(np.stack(said), 0)


def one_to_one(similar: Float[np.ndarray, "rows columns"]) -> list[tuple[int, int]]:
    """The assignment with the highest sum, in the order of the rows."""
    rows, columns = lap.lapjvx(-similar, extend_cost=True, return_cost=False)
    return sorted(zip(rows.tolist(), columns.tolist(), strict=True))


def _small(crop: Pixels) -> np.ndarray:
    small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small - small.mean()


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norm if norm else 1.0
