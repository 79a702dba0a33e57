"""What is compared, and when an order counts.

The full method must first beat the same model at a scale of 0 in identity, beyond the paired interval of every seed; else the
budget is too small, and nothing is said of any order. An order counts where the paired 95 % interval of full method minus variant
excludes zero on the same side on every seed, two of them at least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ms_lab.ablation.variants import NO_GROUNDING, NO_MASKS
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.report.intervals import Estimate, paired_difference
from ms_lab.evaluation.report.metrics import METRICS, Metric, paired_values

APPEARS, REVERSED, NOT_SHOWN = "appears", "reversed", "not shown"
TOO_SMALL, ONE_SEED, NOT_MEASURED = "budget too small", "needs two seeds", "not measured"
LEAST_SEEDS = 2
IDENTITY, TEXT, CONFLICT = "identity", "text", "conflict"


def _text(outcome: Outcome) -> tuple[float, ...]:
    verdict = outcome.verdict
    asked = [float(answer) for answer in (verdict.background, verdict.treatment) if answer is not None]
    return (sum(asked) / len(asked),)


# What is measured; a lower value is better where ``is_rate``.
MEASURED = {
    IDENTITY: METRICS["identity"],
    "identity_easy": METRICS["identity_easy"],
    "form": METRICS["form"],
    TEXT: Metric(
        "text", "what the caption names is found: the background, and the treatment where it names one", _text
    ),
    "background": METRICS["background"],
    "treatment": METRICS["treatment"],
    CONFLICT: METRICS["conflict"],
    "neglect": METRICS["neglect"],
    "layout_iou": METRICS["layout_iou"],
}
# What the paper found: the variant is worse in this metric.
PAPER = ((NO_MASKS, TEXT), (NO_MASKS, CONFLICT), (NO_GROUNDING, IDENTITY))

# Estimates by metric, and these by seed.
Estimates = dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Order:
    """One order that the paper reports.

    Attributes:
        variant: that should be worse.
        metric: in what; a key of ``MEASURED``.
        verdict: whether it is so here.
    """

    variant: str
    metric: str
    verdict: str


def estimate(outcomes: Sequence[Outcome]) -> Estimates:
    """Every metric of one column."""
    found = {name: metric.estimate(outcomes) for name, metric in MEASURED.items()}
    return {name: each for name, each in found.items() if each is not None}


def differences(first: Sequence[Outcome], second: Sequence[Outcome]) -> Estimates:
    """First column minus second, answer by answer, in every metric that both have; counted as ``estimate`` does."""
    found: Estimates = {}
    for name, metric in MEASURED.items():
        pairs = paired_values(metric.answers(first), metric.answers(second), metric.is_rate)
        if pairs is not None:
            found[name] = paired_difference(*pairs)
    return found


def side_of(name: str, by_seed: Sequence[Estimate]) -> str:
    """On which side of zero the full method stands on every seed: ahead (``APPEARS``), behind, or neither.

    Args:
        name: of the metric.
        by_seed: full method minus variant.
    """
    better = -1 if MEASURED[name].is_rate else 1
    if by_seed and all(_side(each) == better for each in by_seed):
        return APPEARS
    if by_seed and all(_side(each) == -better for each in by_seed):
        return REVERSED
    return NOT_SHOWN


def is_enough(against_scale_zero: Mapping[int, Estimates]) -> bool:
    """Whether the full method beats a scale of 0 in identity on every seed."""
    return side_of(IDENTITY, [each[IDENTITY] for each in against_scale_zero.values()]) == APPEARS


def judge_orders(found: Mapping[str, Mapping[int, Estimates]], enough: bool) -> tuple[Order, ...]:
    """What became of the paper's orders.

    Args:
        found: full method minus variant, by variant and seed.
        enough: whether the budget is.
    """
    return tuple(Order(variant, name, _verdict(name, found.get(variant, {}), enough)) for variant, name in PAPER)


def _verdict(name: str, by_seed: Mapping[int, Estimates], enough: bool) -> str:
    if not by_seed:
        return NOT_MEASURED
    if not enough:
        return TOO_SMALL
    if len(by_seed) < LEAST_SEEDS:
        return ONE_SEED
    return side_of(name, [each[name] for each in by_seed.values()])


def _side(difference: Estimate) -> int:
    """The side of zero on which an interval lies; 0 where it holds zero."""
    return int(difference.low > 0) - int(difference.high < 0)
