"""How logits are read as probabilities, and how well that holds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ms_core.config import Calibration
from ms_lab.training.scorer.examples import KINDS, USUAL, ScorerExamples

# A calibration keeps near the plain sigmoid unless this many answers speak against it.
PRIOR_ANSWERS = 10.0
LEAST_SLOPE, NEWTON_STEPS = 0.05, 30
NUM_BINS = 10
# How often a model spoils a subject is not known before it is measured; a calibration takes it to be so often.
SPOILED_SHARE = 0.1


def ranking(logits: Float[Tensor, " n"], answers: Float[Tensor, " n"]) -> float:
    """How often a true one has the higher logit of a random pair of a true and a false one; 0.5 if there is no pair."""
    true, false = logits[answers > 0.5], logits[answers <= 0.5]
    if not len(true) or not len(false):
        return 0.5
    higher = (true[:, None] > false[None]).float() + 0.5 * (true[:, None] == false[None]).float()
    return float(higher.mean())


def identity_auc(logits: Float[Tensor, " n"], examples: ScorerExamples) -> dict[str, float]:
    """For each kind of examples that there is, how often a usual one that is right has the higher logit of identity than one of
    this kind that is wrong."""
    answers = examples.answers[:, 1]
    right = examples.is_kind(USUAL) & (answers > 0.5)
    found: dict[str, float] = {}
    for kind in KINDS:
        wrong = examples.is_kind(kind) & (answers <= 0.5)
        if bool(right.any()) and bool(wrong.any()):
            compared = right | wrong
            found[kind] = ranking(logits[compared], answers[compared])
    return found


def calibration_weights(examples: ScorerExamples) -> Float[Tensor, " n"]:
    """How much each example counts: those spoiled on purpose together ``SPOILED_SHARE`` of all; mean 1."""
    usual = examples.is_kind(USUAL)
    num_usual, num_spoiled = int(usual.sum()), int((~usual).sum())
    if not num_usual or not num_spoiled:
        return torch.ones(len(examples))
    count = len(examples)
    return torch.where(usual, (1 - SPOILED_SHARE) * count / num_usual, SPOILED_SHARE * count / num_spoiled)


def calibrate(
    logits: Float[Tensor, " n"], answers: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
) -> Calibration:
    """Slope and offset for which the sigmoid fits best how often the answer is yes, each answer as often as its weight says.

    Maximum likelihood with a normal prior around the plain sigmoid, by Newton's method; the slope stays positive, so that
    the order of pictures does not turn around.
    """
    design = np.stack([logits.double().numpy(), np.ones(len(logits))], 1)
    truth = answers.double().numpy()
    counts = np.ones(len(truth)) if weights is None else weights.double().numpy()
    prior = PRIOR_ANSWERS / 4 * np.eye(2)
    plain = np.asarray([1.0, 0.0])
    found = plain
    for _ in range(NEWTON_STEPS):
        rate = (1 + np.tanh(design @ found / 2)) / 2
        gradient = design.T @ (counts * (rate - truth)) + prior @ (found - plain)
        curvature = (design * (counts * rate * (1 - rate))[:, None]).T @ design + prior
        step = np.linalg.solve(curvature, gradient)
        # Far from the end the curvature is flat, and a whole step would lead further away.
        found = found - step / max(1.0, float(np.linalg.norm(step)))
    slope, offset = (round(float(value), 4) for value in found)
    return Calibration(max(slope, LEAST_SLOPE), offset)


def expected_calibration_error(
    estimates: Float[Tensor, " n"], answers: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None = None
) -> float:
    """Mean difference of what is told and how often it is so, over ten equal bins of estimates, by their filling."""
    bins = (estimates * NUM_BINS).long().clamp(0, NUM_BINS - 1)
    counts = torch.ones(len(estimates)) if weights is None else weights
    differences = counts * (estimates - answers.float())
    # A bin's filling times the difference of its means.
    errors = [differences[bins == number].sum().abs() for number in range(NUM_BINS)]
    return float(torch.stack(errors).sum() / counts.sum())
