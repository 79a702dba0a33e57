"""What is measured in one scene's two pictures, and what that says about all scenes.

- identity: the judge picks the true drawing among ten; chance is 1/10 (4/10 for one of the same name).
- swap: in the original both boxes hold their own subject rather than the other's, and in the exchanged picture both
  hold the other's; chance is 1/16.
- layout: of what differs from the fitted background, the share that lies in the boxes, half a latent cell around them
  included. Where nothing differs it is 0. Boxes are large, so those of another scene already hold some 57 % of the
  true subjects: compare with the column ``scale 0``, which knows no boxes.
- background: the fitted background is of the kind that the prompt names; chance is 1/11.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from ms_core.evaluation.backdrops import Backdrop, Opponent, box_mask, difference, fit_backdrop, to_opponent
from ms_core.evaluation.judge import compare
from ms_core.evaluation.scenes import EvaluationScene, candidate_picture
from ms_core.mini.sprites import SpritePack
from ms_core.spec import Box

METRICS = ("identity", "same_name", "swap", "layout", "background")
RESAMPLES, BOOTSTRAP_SEED = 10_000, 1
_Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """What was found in one scene.

    Attributes:
        identity: share of the two boxes whose true drawing was picked.
        same_name: share of the two boxes where the picked drawing has at least the true name.
        swap: whether both boxes flipped, 0 or 1.
        layout: share of what differs from the background that lies in the boxes.
        background: whether the named background was recognised, 0 or 1.
        recognised: the recognised background.
    """

    identity: float
    same_name: float
    swap: float
    layout: float
    background: float
    recognised: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over scenes with its 95 % interval."""

    value: float
    low: float
    high: float
    scenes: int

    def clearly_above(self, other: Estimate) -> bool:
        """Whether this interval lies above the other one and does not touch it."""
        return self.low > other.high


def judge_scene(
    scene: EvaluationScene, pack: SpritePack, original: Image.Image, exchanged: Image.Image
) -> SceneOutcome:
    """Everything that is measured in a scene's original and exchanged pictures (RGB, any size)."""
    seen = to_opponent(original)
    backdrop = fit_backdrop(seen, scene.boxes)
    with _one_thread():
        identity, same_name, own = _identify(scene, pack, original, backdrop)
        swapped = own and _holds_the_others(scene, pack, exchanged)
    return SceneOutcome(
        identity=identity,
        same_name=same_name,
        swap=float(swapped),
        layout=layout_share(seen, backdrop, scene.boxes),
        background=float(backdrop.name == scene.scene.background),
        recognised=backdrop.name,
    )


def layout_share(picture: Opponent, backdrop: Backdrop, boxes: Sequence[Box]) -> float:
    """Share of what differs from the background, beyond its texture, that lies in the boxes; 0 if nothing differs."""
    excess = np.maximum(difference(picture, backdrop.canvas) - backdrop.tolerance, 0)
    total = float(excess.sum())
    return float(excess[box_mask(boxes)].sum()) / total if total > 0 else 0.0


def summarise(outcomes: Sequence[SceneOutcome]) -> dict[str, Estimate]:
    """Every metric over all scenes: Wilson's interval where a scene is right or wrong, else a bootstrap over scenes."""
    estimates: dict[str, Estimate] = {}
    for name in METRICS:
        values = np.asarray([getattr(outcome, name) for outcome in outcomes], np.float64)
        estimates[name] = wilson(values) if name in ("swap", "background") else bootstrap(values)
    return estimates


def wilson(values: Float[np.ndarray, " scenes"]) -> Estimate:
    """Wilson's score interval for a share of successes."""
    count, share = len(values), float(values.mean())
    spread = _Z_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # Rounding must not leave the share itself outside.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), count)


def bootstrap(values: Float[np.ndarray, " scenes"]) -> Estimate:
    """Percentile bootstrap of the mean over scenes.

    Where all scenes are equal a bootstrap sees no spread at all; Wilson's interval stands in for it.
    """
    if values.min() == values.max():
        return wilson(values)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high), len(values))


@contextmanager
def _one_thread() -> Generator[None]:
    """The judge's tensors are small: beside other programs, threads that wait for each other cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _identify(
    scene: EvaluationScene, pack: SpritePack, picture: Image.Image, backdrop: Backdrop
) -> tuple[float, float, bool]:
    """Share of true drawings picked, share of true names picked, and whether both boxes hold their own subject."""
    right, named, own = 0, 0, True
    for place, question in enumerate(scene.questions):
        drawings = [candidate_picture(pack, candidate) for candidate in question.candidates]
        scores = compare(picture, backdrop, scene.boxes, place, drawings)
        picked = int(scores.argmax())
        right += picked == question.true
        concepts = [pack.sprites[question.candidates[index].sprite].concept for index in (picked, question.true)]
        named += concepts[0] == concepts[1]
        own &= bool(scores[question.true] > scores[question.other])
    return right / 2, named / 2, own


def _holds_the_others(scene: EvaluationScene, pack: SpritePack, picture: Image.Image) -> bool:
    """Whether each box of the exchanged picture holds the other subject rather than its own."""
    backdrop = fit_backdrop(to_opponent(picture), scene.boxes)
    for place, question in enumerate(scene.questions):
        drawings = [candidate_picture(pack, question.candidates[i]) for i in (question.true, question.other)]
        own, other = compare(picture, backdrop, scene.boxes, place, drawings)
        if other <= own:
            return False
    return True
