"""Quantities with 95 % intervals that hold for other scenes and for other drawings.

An answer is about one drawing in one scene, and answers about the same drawing, or in the same scene, are alike. So three
bootstraps are taken: over scenes, over drawings, and over single answers. The two-way variance is that of the first two minus
that of the third (Cameron, Gelbach and Miller, 2011, "Robust inference with multiway clustering"). The interval is the
percentiles of the wider of the first two, its ends moved away from the value by the ratio of the deviations.

Where all answers agree a bootstrap sees no spread at all; Wilson's score interval then stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

RESAMPLES, BOOTSTRAP_SEED = 4000, 1
_Z_95 = 1.959964

Values = Float[np.ndarray, " answers"]
Weights = Float[np.ndarray, "resamples answers"]
# A quantity under each row of weights, which add up to 1.
Statistic = Callable[[Weights], Float[np.ndarray, " resamples"]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity with its 95 % interval.

    Attributes:
        value: of the sample.
        low, high: ends of the interval; the value lies in it.
        count: how many scenes (for rates: subjects) it comes from.
    """

    value: float
    low: float
    high: float
    count: int

    def to_power(self, exponent: int) -> Estimate:
        """The quantity, which is not negative, to a power; its interval follows."""
        return Estimate(self.value**exponent, self.low**exponent, self.high**exponent, self.count)


@dataclass(frozen=True, slots=True)
class Design:
    """Where a list of answers comes from.

    Attributes:
        scenes, drawings: number of each answer's scene and of its drawing, each counted from 0 without gaps.
        shares: how much each answer counts.
    """

    scenes: tuple[int, ...]
    drawings: tuple[int, ...]
    shares: tuple[float, ...]

    @classmethod
    def of_scenes(cls, count: int) -> Design:
        """One answer in each scene, each about a drawing that is nowhere else."""
        return cls(tuple(range(count)), tuple(range(count)), (1.0,) * count)

    @property
    def num_scenes(self) -> int:
        """Different scenes."""
        return len(set(self.scenes))

    def mean(self, values: Values) -> float:
        """The mean of the answers' values, as they count."""
        return float(np.average(values, weights=self.shares))


def wilson(share: float, count: int) -> Estimate:
    """Wilson's score interval for a share of successes in ``count`` trials."""
    spread = _Z_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # Rounding must not leave the share itself outside.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), count)


def bootstrap(values: Values, design: Design) -> Estimate:
    """The mean of values from 0 to 1."""
    mean = design.mean(values)
    if values.min() == values.max():
        return wilson(float(values[0]), design.num_scenes)
    estimate = interval(mean, lambda weights: weights @ values, design)
    if estimate.low == estimate.high:
        return wilson(mean, design.num_scenes)
    return Estimate(mean, max(0.0, estimate.low), min(1.0, estimate.high), estimate.count)


def rate(values: Values, design: Design) -> Estimate:
    """The share of rare events: the outer ends of Wilson's interval over answers and of the bootstrap's."""
    score = wilson(design.mean(values), len(values))
    if values.min() == values.max():
        return score
    resampled = bootstrap(values, design)
    return Estimate(score.value, min(score.low, resampled.low), max(score.high, resampled.high), len(values))


def bootstrap_ratio(numerators: Values, denominators: Values, design: Design, power: int = 1) -> Estimate | None:
    """The mean of one quantity over the mean of another, taken to a power; ``None`` where that is 0.

    Args:
        numerators, denominators: from 0 to 1, of the same answers in the same order.
        design: of the answers.
        power: of the denominators' mean.
    """
    divisor = design.mean(denominators) ** power
    if divisor == 0:
        return None
    value = design.mean(numerators) / divisor
    if numerators.min() == numerators.max():
        agreed = bootstrap(numerators, design)
        return Estimate(value, agreed.low / divisor, agreed.high / divisor, agreed.count)

    def ratio(weights: Weights) -> Float[np.ndarray, " resamples"]:
        below = (weights @ denominators) ** power
        # A draw without any denominator says nothing of the ratio.
        return (weights @ numerators) / np.where(below > 0, below, np.nan)

    return interval(value, ratio, design)


def paired_difference(first: Values, second: Values, design: Design) -> Estimate:
    """Mean of the first minus mean of the second, both from 0 to 1, of the same answers in the same order."""
    differences = first - second
    if differences.min() == differences.max():
        return unpaired_difference(bootstrap(first, design), bootstrap(second, design))
    return interval(design.mean(differences), lambda weights: weights @ differences, design)


def interval(value: float, statistic: Statistic, design: Design) -> Estimate:
    """A quantity of the sample with the interval of its two-way variance.

    Args:
        value: of the sample.
        statistic: the quantity under resampled weights; may be NaN in some resamples.
        design: of the answers that are weighed.
    """
    by_scene, by_drawing, by_answer = (statistic(weights) for weights in _resampled_weights(design))
    spreads = [float(np.nanvar(each)) for each in (by_scene, by_drawing, by_answer)]
    wider = by_scene if spreads[0] >= spreads[1] else by_drawing
    if max(spreads[:2]) == 0:
        return Estimate(value, value, value, design.num_scenes)
    factor = math.sqrt(max(1.0, (spreads[0] + spreads[1] - spreads[2]) / max(spreads[:2])))
    low, high = (value + factor * (float(end) - value) for end in np.nanquantile(wider, (0.025, 0.975)))
    return Estimate(value, min(low, value), max(high, value), design.num_scenes)


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two estimates from their own intervals (Newcombe's method)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, min(first.count, second.count))


@lru_cache(maxsize=8)
def _resampled_weights(design: Design) -> tuple[Weights, Weights, Weights]:
    """How much each answer counts when scenes, drawings, or answers are drawn with replacement."""
    shares = np.asarray(design.shares, np.float32)
    clusters = (design.scenes, design.drawings, range(len(shares)))
    first, second, third = (_draw(np.asarray(numbers), shares, stream) for stream, numbers in enumerate(clusters))
    return first, second, third


def _draw(numbers: np.ndarray, shares: Float[np.ndarray, " answers"], stream: int) -> Weights:
    count = int(numbers.max()) + 1
    rng = np.random.default_rng((BOOTSTRAP_SEED, stream))
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    weights = drawn[:, numbers].astype(np.float32) * shares
    return weights / weights.sum(1, keepdims=True)
