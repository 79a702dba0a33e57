"""Numbers of all scored samples, per combination type and together, each with its 95 % interval.

Values are means over samples. Intervals hold for other combinations and for other pictures: answers about one combination
are alike, and so are those about one picture (see ``ms_lab.evaluation.report.intervals``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ms_core.errors import InvalidInputError, LayoutError
from ms_lab.evaluation.msbench.measures import (
    THRESHOLDS,
    average_precision,
    collapsed,
    hits,
    placed_ious,
    product_of,
)
from ms_lab.evaluation.msbench.published import PUBLISHED
from ms_lab.evaluation.msbench.scoring import SampleScore
from ms_lab.evaluation.report.intervals import BOOTSTRAP_SEED, RESAMPLES, Design, Estimate, Weights, interval, rate
from ms_lab.evaluation.report.metrics import number

ALL = "all"
AP, COLLAPSE = "ap", "collapse"
# Every so many-th resample is taken for average precision, which takes long.
_AP_STEP = 8

# One value for each subject, ``None`` where it is not asked of it, or one that all of them share.
Values = Callable[[SampleScore], Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of the result.

    Attributes:
        title: in tables.
        about: one sentence.
        values: of one sample.
    """

    title: str
    about: str
    values: Values


def _diagonal(crops: Sequence[Sequence[float]]) -> list[float]:
    """Of each crop and its own reference."""
    return [row[index] for index, row in enumerate(crops)]


def _things(score: SampleScore) -> list[int]:
    """The subjects that are no scenes."""
    return [index for index, is_scene in enumerate(score.scenes) if not is_scene]


def _ious(score: SampleScore) -> list[float | None]:
    things = _things(score)
    found = placed_ious([score.phrases[i] for i in things], [score.boxes[i] for i in things], score.found)
    of_thing = dict(zip(things, found, strict=True))
    return [of_thing.get(index) for index in range(len(score.boxes))]


def _collapsed(score: SampleScore) -> list[float | None]:
    answers = collapsed(np.asarray(score.dino_crops), score.boxes, [not is_scene for is_scene in score.scenes])
    return [None if answer is None else float(answer) for answer in answers]


MEASURES = {
    "clip_t": Measure("CLIP-T", "cosine of picture and prompt", lambda s: [s.clip_t]),
    "clip_t_crops": Measure("CLIP-T crops", "mean cosine of crop and phrase", lambda s: s.clip_t_crops),
    "clip_i": Measure("CLIP-I", "mean cosine of the whole picture and each reference", lambda s: s.clip_i),
    "clip_i_crops": Measure(
        "CLIP-I crops", "mean cosine of crop and own reference", lambda s: _diagonal(s.clip_i_crops)
    ),
    "dino": Measure("DINO", "as CLIP-I, by DINO", lambda s: s.dino),
    "dino_crops": Measure("DINO crops", "as CLIP-I crops, by DINO", lambda s: _diagonal(s.dino_crops)),
    "m_dino": Measure("M-DINO", "product of DINO over a picture's subjects", lambda s: [product_of(s.dino)]),
    "m_dino_crops": Measure(
        "M-DINO crops",
        "product of DINO crops over a picture's subjects",
        lambda s: [product_of(_diagonal(s.dino_crops))],
    ),
    "miou": Measure("mIoU", "mean IoU of box and what is found by its phrase; scenes are not asked", _ious),
    COLLAPSE: Measure(
        "collapse",
        "share of boxes that look more like another subject's reference than like their own, by DINO; scenes and subjects "
        "of one box are not asked",
        _collapsed,
    ),
}
AP_MEASURE = Measure(
    "AP",
    f"mean average precision at IoU {THRESHOLDS[0]} to {THRESHOLDS[-1]}, all phrases in one ranking; scenes are not asked",
    _ious,
)
COLUMNS = {**MEASURES, AP: AP_MEASURE}


@dataclass(frozen=True, slots=True)
class TypeResult:
    """The numbers of one combination type.

    Attributes:
        samples: scored pictures.
        estimates: by column of ``COLUMNS``; one that is asked of no sample is left out. ``count``: combinations, for the
            collapse boxes of combinations.
    """

    samples: int
    estimates: dict[str, Estimate]


def read_scores(rows: Mapping[str, Mapping[str, Any]]) -> list[SampleScore]:
    """Scores as they were kept, in the order of their names.

    Raises:
        InvalidInputError: one is not whole.
    """
    adapter = TypeAdapter(SampleScore)
    try:
        return [adapter.validate_python(rows[name]) for name in sorted(rows)]
    except (ValidationError, LayoutError) as error:
        raise InvalidInputError("A score is damaged; delete the folder scores to score the pictures anew.") from error


def summarise(scores: Sequence[SampleScore]) -> dict[str, TypeResult]:
    """The numbers of each combination type and of all samples together, under ``ALL``."""
    types = list(dict.fromkeys(score.type for score in scores))
    groups = {name: [score for score in scores if score.type == name] for name in types}
    return {name: _summarise(own) for name, own in {**groups, ALL: list(scores)}.items()}


def build_results(
    scores: Sequence[SampleScore], run: Mapping[str, Any], service: Mapping[str, Any], harness: Mapping[str, Any]
) -> dict[str, Any]:
    """The result file: numbers, everything that was chosen, and what others report.

    Args:
        scores: of all samples.
        run, service, harness: what the folder was begun with.
    """
    return {
        "run": run,
        "service": service,
        "harness": harness,
        "measures": {key: measure.about for key, measure in COLUMNS.items()},
        "intervals": {
            "share": 0.95,
            "over": "combinations and pictures",
            "resamples": RESAMPLES,
            "resamples_ap": RESAMPLES // _AP_STEP,
            "seed": BOOTSTRAP_SEED,
        },
        "types": {name: asdict(result) for name, result in summarise(scores).items()},
        "published": [asdict(row) for row in PUBLISHED],
    }


def build_tables(results: Mapping[str, Any]) -> list[Table]:
    """The numbers of a result file, and what others report."""
    own = _table("MS-Bench", ["type", "n"])
    for name, result in results["types"].items():
        estimates = result["estimates"]
        own.add_row(name.replace("_", "\n"), str(result["samples"]), *(_cell(estimates.get(key)) for key in COLUMNS))
    published = _table("Published, each by its own harness", ["method", "harness"])
    for row in results["published"]:
        numbers = (row["numbers"].get(key) for key in COLUMNS)
        published.add_row(
            row["method"], row["harness"], *("" if value is None else f"{value:.3f}" for value in numbers)
        )
    return [own, published]


def _table(title: str, first: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in (*first, *(measure.title.replace(" ", "\n") for measure in COLUMNS.values())):
        table.add_column(heading)
    return table


def _cell(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate['value']:.3f}\n{estimate['low']:.2f}-{estimate['high']:.2f}"


def _summarise(scores: Sequence[SampleScore]) -> TypeResult:
    estimates = {key: _estimate(scores, measure, key == COLLAPSE) for key, measure in MEASURES.items()}
    estimates[AP] = _estimate_ap(scores)
    return TypeResult(len(scores), {key: each for key, each in estimates.items() if each is not None})


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Means over the prompts of a combination, one for each of its subjects that is asked about.

    Attributes:
        values: of the answers.
        combinations: name of each one's combination.
        design: where they come from.
    """

    values: Float[np.ndarray, " answers"]
    combinations: tuple[str, ...]
    design: Design


def _answers(scores: Sequence[SampleScore], values: Values, is_rate: bool) -> _Answers | None:
    """Every sample counts once, or, for a rate, every answer; ``None`` without any."""
    sums: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        own = values(score)
        asked = [
            (picture, value)
            for picture, value in zip(
                score.pictures, own if len(own) > 1 else list(own) * len(score.pictures), strict=True
            )
            if value is not None
        ]
        for picture, value in asked:
            share = 1.0 if is_rate else 1.0 / len(asked)
            cell = sums.setdefault((score.combination, picture), [0.0, 0.0])
            cell[0], cell[1] = cell[0] + share * value, cell[1] + share
    if not sums:
        return None
    ordered = dict(sorted(sums.items()))
    combinations, pictures = zip(*ordered, strict=True)
    design = Design(number(combinations), number(pictures), tuple(share for _, share in ordered.values()))
    return _Answers(np.asarray([total / share for total, share in ordered.values()]), combinations, design)


def _estimate(scores: Sequence[SampleScore], measure: Measure, is_rate: bool) -> Estimate | None:
    answers = _answers(scores, measure.values, is_rate)
    if answers is None:
        return None
    if is_rate:
        return rate(answers.values, answers.design)
    return interval(answers.design.mean(answers.values), lambda weights: weights @ answers.values, answers.design)


def _estimate_ap(scores: Sequence[SampleScore]) -> Estimate | None:
    """Average precision; where a combination is drawn several times, its boxes and detections count so often."""
    answers = _answers(scores, _ious, is_rate=True)
    if answers is None:
        return None
    ranking = _Ranking.of([score for score in scores if _things(score)], answers.combinations)
    shares = np.asarray(answers.design.shares) / sum(answers.design.shares)
    starts = np.flatnonzero(
        [True, *(a != b for a, b in zip(answers.combinations, answers.combinations[1:], strict=False))]
    )
    boxes_of = np.add.reduceat(np.asarray(answers.design.shares), starts)

    def statistic(weights: Weights) -> Float[np.ndarray, " resamples"]:
        drawn = np.add.reduceat(weights[::_AP_STEP], starts, axis=1) / np.add.reduceat(shares, starts)
        return np.asarray([ranking.precision(row, boxes_of) for row in drawn])

    return interval(ranking.precision(np.ones(len(starts)), boxes_of), statistic, answers.design)


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """All detections of some samples, and which of them hit a box."""

    scores: Float[np.ndarray, " detections"]
    told: Any
    combinations: Any

    @classmethod
    def of(cls, scores: Sequence[SampleScore], combinations: Sequence[str]) -> _Ranking:
        """``combinations``: of the answers; those of the samples are among them."""
        places = {name: place for place, name in enumerate(dict.fromkeys(combinations))}
        told = [hits([s.phrases[i] for i in _things(s)], [s.boxes[i] for i in _things(s)], s.found) for s in scores]
        return cls(
            np.asarray([found.score for score in scores for found in score.found]),
            np.concatenate(told, axis=1),
            np.asarray([places[score.combination] for score in scores for _ in score.found], int),
        )

    def precision(
        self, drawn: Float[np.ndarray, " combinations"], boxes_of: Float[np.ndarray, " combinations"]
    ) -> float:
        """Average precision if each combination counts so often."""
        return average_precision(self.scores, self.told, drawn[self.combinations], float(drawn @ boxes_of))
