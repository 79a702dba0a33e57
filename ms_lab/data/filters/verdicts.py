"""Which filters would drop a detection or a pair: every filter looks at everything, so that each can be counted alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from ms_core.spec import find_phrases
from ms_lab.data.config import FilterConfig, FilterName
from ms_lab.data.filters.colours import colour_fit
from ms_lab.data.filters.edges import edge_ratios, edge_strength
from ms_lab.data.filters.measures import border_share, box_fit, covered_share, sharpness
from ms_lab.data.filters.text import text_share
from ms_lab.data.filters.tracks import track_fit
from ms_lab.data.geometry import area
from ms_lab.data.items import Clip, Detection, Frame, Mask, Pair, Pixels, Place, Reason

# In the order in which the funnel counts them.
FILTERS: tuple[FilterName, ...] = get_args(FilterName)
CAPTION, SIZE, BORDER, BLUR, OVERLAP, TEXT, UNSAFE, BOX_FIT, WEAK, ALIKE, SAME_MOMENT, DUPLICATE = FILTERS
OF_DETECTIONS = (CAPTION, SIZE, BORDER, BLUR, OVERLAP, TEXT, UNSAFE, BOX_FIT)
OF_PAIRS = (WEAK, ALIKE, SAME_MOMENT)

UnsafeScore = Callable[[Frame], float]


def is_on(name: str, config: FilterConfig) -> bool:
    """Whether a filter works in this run."""
    return config.enabled and name not in config.off and (name != UNSAFE or bool(config.unsafe_model))


def judge_frame(frame: Frame, config: FilterConfig, unsafe: UnsafeScore | None) -> list[tuple[Reason, ...]]:
    """The reasons against each detection of a frame."""
    if not frame.detections or not config.enabled:
        return [() for _ in frame.detections]
    shared: list[Reason] = []
    if is_on(TEXT, config):
        shared += _above(TEXT, text_share(frame.pixels), config.max_text)
    if unsafe is not None and is_on(UNSAFE, config):
        shared += _above(UNSAFE, unsafe(frame), config.max_unsafe)
    return [(*_judge(frame, index, config), *shared) for index in range(len(frame.detections))]


def _judge(frame: Frame, index: int, config: FilterConfig) -> list[Reason]:
    detection = frame.detections[index]
    others = [other.box for number, other in enumerate(frame.detections) if number != index]
    found: list[Reason] = []
    if find_phrases(frame.caption, [detection.phrase])[0] is None:
        found.append(Reason(CAPTION, 1.0))
    found += _outside(SIZE, area(detection.box), config.min_area, config.max_area)
    found += _above(BORDER, border_share(frame, detection), config.max_border)
    found += _blurred(frame, detection, config)
    found += _above(OVERLAP, covered_share(detection.box, others), config.max_overlap)
    return [reason for reason in found if is_on(reason.filter, config)]


def _blurred(frame: Frame, detection: Detection, config: FilterConfig) -> list[Reason]:
    """A reason against what is fainter than all around it, against what is soft, if it does not stand out, and the softly faint."""
    ratios = edge_ratios(frame, detection)
    if ratios is not None and max(ratios) < config.min_edges:
        return [Reason(BLUR, round(max(ratios), 4))]
    sharp = sharpness(*_crop(frame, detection))
    if edge_strength(frame, detection) < config.faint_edges:
        return _below(BLUR, sharp, config.min_faint_sharpness)
    stands_out = ratios is not None and ratios.inside >= config.clear_edges
    return [] if stands_out else _below(BLUR, sharp, config.min_sharpness)


def judge_box(clip: Clip, place: Place, others: Sequence[Place], config: FilterConfig) -> tuple[Reason, ...]:
    """A reason against a box that neither the boxes nor the colours of the clip's other frames confirm, nor those around it."""
    if not is_on(BOX_FIT, config) or track_fit(clip, place, others) >= config.min_track_fit:
        return ()
    against = tuple(_below(BOX_FIT, box_fit(*clip.at(place)), config.min_box_fit))
    return against if against and colour_fit(clip, place, others) < config.min_colour_fit else ()


def _crop(frame: Frame, detection: Detection) -> tuple[Pixels, Mask]:
    x_min, y_min, x_max, y_max = frame.pixel_box(detection.box)
    return frame.crop(detection.box), frame.mask_of(detection)[y_min:y_max, x_min:x_max]


def judge_pair(clip: Clip, pair: Pair, config: FilterConfig, min_gap_s: float) -> tuple[Reason, ...]:
    """The reasons against a pair, those against its detections first."""
    inherited: list[Reason] = []
    for place in (pair.one, pair.other):
        inherited += clip.reasons.get(place, ())
    found = _below(WEAK, pair.similarity, config.floor)
    too_alike = pair.alike > config.ceiling or pair.same_pixels > config.same_pixels
    found += [Reason(ALIKE, max(pair.alike, pair.same_pixels))] if too_alike else []
    one, other = clip.frames[pair.one.frame], clip.frames[pair.other.frame]
    if one.clip == other.clip:
        found += _below(SAME_MOMENT, abs(other.time_s - one.time_s), min_gap_s)
    return (*inherited, *(reason for reason in found if is_on(reason.filter, config)))


def in_order(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """The reasons in the order of the funnel."""
    return tuple(sorted(reasons, key=lambda reason: (FILTERS.index(reason.filter), reason.value)))


def _above(name: str, value: float, limit: float) -> list[Reason]:
    return [Reason(name, round(value, 4))] if value > limit else []


def _below(name: str, value: float, limit: float) -> list[Reason]:
    return [Reason(name, round(value, 4))] if value < limit else []


def _outside(name: str, value: float, low: float, high: float) -> list[Reason]:
    return [] if low <= value <= high else [Reason(name, round(value, 4))]
