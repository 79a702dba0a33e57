"""How logits are read as probabilities, and how well that holds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ms_core.config import Calibration

# A calibration keeps near the plain sigmoid unless this many answers speak against it.
PRIOR_ANSWERS = 10.0
LEAST_SLOPE, NEWTON_STEPS = 0.05, 30
NUM_BINS = 10


def ranking(logits: Float[Tensor, " n"], answers: Float[Tensor, " n"]) -> float:
    """How often a true one has the higher logit of a random pair of a true and a false one; 0.5 if there is no pair."""
    true, false = logits[answers > 0.5], logits[answers <= 0.5]
    if not len(true) or not len(false):
        return 0.5
    higher = (true[:, None] > false[None]).float() + 0.5 * (true[:, None] == false[None]).float()
    return float(higher.mean())


def calibrate(logits: Float[Tensor, " n"], answers: Float[Tensor, " n"]) -> Calibration:
    """Slope and offset for which the sigmoid fits best how often the answer is yes.

    Maximum likelihood with a normal prior around the plain sigmoid, by Newton's method; the slope stays positive, so that
    the order of pictures does not turn around.
    """
    design = np.stack([logits.double().numpy(), np.ones(len(logits))], 1)
    truth = answers.double().numpy()
    prior = PRIOR_ANSWERS / 4 * np.eye(2)
    plain = np.asarray([1.0, 0.0])
    found = plain
    for _ in range(NEWTON_STEPS):
        rate = (1 + np.tanh(design @ found / 2)) / 2
        gradient = design.T @ (rate - truth) + prior @ (found - plain)
        curvature = (design * (rate * (1 - rate))[:, None]).T @ design + prior
        step = np.linalg.solve(curvature, gradient)
        # Far from the end the curvature is flat, and a whole step would lead further away.
        found = found - step / max(1.0, float(np.linalg.norm(step)))
    slope, offset = (round(float(value), 4) for value in found)
    return Calibration(max(slope, LEAST_SLOPE), offset)


def expected_calibration_error(estimates: Float[Tensor, " n"], answers: Float[Tensor, " n"]) -> float:
    """Mean difference of what is told and how often it is so, over ten equal bins of estimates, by their filling."""
    bins = (estimates * NUM_BINS).long().clamp(0, NUM_BINS - 1)
    error = 0.0
    for number in range(NUM_BINS):
        inside = bins == number
        if bool(inside.any()):
            error += float(inside.float().mean() * (estimates[inside].mean() - answers[inside].float().mean()).abs())
    return error
