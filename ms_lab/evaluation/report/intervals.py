"""Quantities with 95 % intervals: a bootstrap over scenes, and Wilson's interval where there is nothing to resample.

A scene is drawn with everything that belongs to it, so subjects of one scene never count as independent, and two
columns are compared scene by scene. Where all scenes agree a bootstrap sees no spread at all; Wilson's score interval
then stands in for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

RESAMPLES, BOOTSTRAP_SEED = 10_000, 1
_Z_95 = 1.959964

Values = Float[np.ndarray, " scenes"]


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


def wilson(share: float, count: int) -> Estimate:
    """Wilson's score interval for a share of successes in ``count`` trials."""
    spread = _Z_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # Rounding must not leave the share itself outside.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), count)


def bootstrap(values: Values) -> Estimate:
    """The mean over scenes of values from 0 to 1."""
    mean = float(values.mean())
    if values.min() == values.max():
        return wilson(mean, len(values))
    return _around(mean, _resampled_means(values), len(values))


def bootstrap_ratio(numerators: Values, denominators: Values, power: int = 1) -> Estimate | None:
    """The mean of one quantity over the mean of another, taken to a power; ``None`` where that is 0.

    Args:
        numerators, denominators: from 0 to 1, of the same scenes in the same order.
        power: of the denominators' mean.
    """
    divisor = float(denominators.mean()) ** power
    if divisor == 0:
        return None
    value = float(numerators.mean()) / divisor
    if numerators.min() == numerators.max():
        agreed = bootstrap(numerators)
        return Estimate(value, agreed.low / divisor, agreed.high / divisor, len(numerators))
    below = _resampled_means(denominators) ** power
    # A draw without any denominator says nothing of the ratio.
    return _around(value, (_resampled_means(numerators) / np.where(below > 0, below, np.nan)), len(numerators))


def paired_difference(first: Values, second: Values) -> Estimate:
    """Mean of the first minus mean of the second, both from 0 to 1, of the same scenes in the same order."""
    differences = first - second
    if differences.min() == differences.max():
        return _newcombe(bootstrap(first), bootstrap(second))
    return _around(float(differences.mean()), _resampled_means(differences), len(differences))


def unpaired_difference(first: Values, second: Values) -> Estimate:
    """Mean of the first minus mean of the second, both from 0 to 1, of different scenes."""
    if min(np.ptp(first), np.ptp(second)) == 0:
        return _newcombe(bootstrap(first), bootstrap(second))
    means = _resampled_means(first) - _resampled_means(second, stream=1)
    return _around(float(first.mean() - second.mean()), means, min(len(first), len(second)))


def _newcombe(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two estimates from their own intervals (Newcombe's method)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, min(first.count, second.count))


def _around(value: float, resampled: Float[np.ndarray, " resamples"], count: int) -> Estimate:
    low, high = (float(end) for end in np.nanquantile(resampled, (0.025, 0.975)))
    return Estimate(value, min(low, value), max(high, value), count)


def _resampled_means(values: Values, stream: int = 0) -> Float[np.ndarray, " resamples"]:
    """Means over scenes drawn with replacement; the same draws for equally many scenes of one stream."""
    return _draws(len(values), stream) @ values


@lru_cache(maxsize=16)
def _draws(count: int, stream: int) -> Float[np.ndarray, "resamples scenes"]:
    """How often each scene is drawn in each resample, as a share of all draws."""
    rng = np.random.default_rng((BOOTSTRAP_SEED, stream))
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
