"""How fine the form is that arrives: the mosaic of the true picture that shows forms as well as a model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import MOSAICS
from ms_lab.evaluation.report.intervals import Estimate, Values, Weights, interval
from ms_lab.evaluation.report.metrics import METRICS, AnswerKey, design_of

CELLS = tuple(sorted(MOSAICS.values()))
_COLUMN_OF = {cells: column for column, cells in MOSAICS.items()}

# Sums of shares are equal up to this.
_ROUNDING = 1e-6

_Shares = Float[np.ndarray, "resamples mosaics"]


def equivalent_mosaic(outcomes: Mapping[str, Sequence[Outcome]], rows: Sequence[Outcome]) -> Estimate | None:
    """The number of cells a side at which a mosaic answers the form question as well as ``rows``; ``None`` if not asked.

    Args:
        outcomes: of the mosaics' columns, of one group.
        rows: of the column in question, of scenes that the mosaics have as well.
    """
    own = METRICS["form"].answers(rows)
    mosaics = [METRICS["form"].answers(outcomes.get(_COLUMN_OF[cells], ())) for cells in CELLS]
    return _equivalent(own, mosaics)


def _equivalent(own: Mapping[AnswerKey, float], mosaics: Sequence[Mapping[AnswerKey, float]]) -> Estimate | None:
    keys = [key for key in own if all(key in answers for answers in mosaics)]
    if not keys:
        return None
    values = np.asarray([own[key] for key in keys])
    curve = np.asarray([[answers[key] for answers in mosaics] for key in keys])
    design = design_of(keys)

    def cells(weights: Weights) -> Values:
        return interpolate_cells(weights @ values, weights @ curve)

    shares = np.asarray(design.shares)[None] / sum(design.shares)
    return interval(float(cells(shares)[0]), cells, design)


def interpolate_cells(shares: Values, curve: _Shares) -> Values:
    """Where a rising curve over the logarithm of the cells reaches each share, in cells; its ends where it does not.

    Args:
        shares: of right answers, one for each row of the curve.
        curve: of right answers of the mosaics, in the order of ``CELLS``; made to rise by pooling neighbours.
    """
    rising, scale = _rising(curve), np.log(CELLS)
    # The first mosaic that is as good, and the one before it.
    above = (rising < shares[:, None] - _ROUNDING).sum(1).clip(1, len(CELLS) - 1)
    rows = np.arange(len(shares))
    low, high = rising[rows, above - 1], rising[rows, above]
    share = (shares - low) / np.where(high > low, high - low, np.inf)
    return np.exp(scale[above - 1] + share.clip(0, 1) * (scale[above] - scale[above - 1]))


def _rising(curve: _Shares) -> _Shares:
    """The nearest curve that never falls (isotonic regression, by its formula of means)."""
    count = curve.shape[1]
    sums = np.concatenate([np.zeros((len(curve), 1)), np.cumsum(curve, 1)], 1)
    fitted = np.full(curve.shape, -np.inf)
    for place in range(count):
        for start in range(place + 1):
            means = [(sums[:, end + 1] - sums[:, start]) / (end + 1 - start) for end in range(place, count)]
            fitted[:, place] = np.maximum(fitted[:, place], np.min(means, axis=0))
    return fitted
