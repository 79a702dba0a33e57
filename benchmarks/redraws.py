"""Redrawing the place of the weakest subject against drawing the whole picture again, at equal time, by the bench's judge.

Pictures of two, three and four subjects that fail their score are drawn again: as ``ms_core.sampling.redraws`` does it, and
always whole. The scorer decides what is drawn again and what is kept; the judge of the bench, which has no part in that, says
which pictures are all right: every subject is the one that was asked for.

    .venv/bin/python benchmarks/redraws.py --model models/mini

A draw of a place takes as long as one of a picture, so time is counted in draws, and seconds of the processor are told as well.
What drawing whole pictures gives in the same time is interpolated between its numbers of retries. Intervals are 95 %
bootstraps over scenes, the same for both ways. About an hour on two free cores.

Goal: with two retries at least 90 % of the pictures are all right.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.scorer import RETRIED_GROUPS, ROOT, Laboratory, circumstances
from ms_core.spec import MAX_RETRIES
from ms_lab.evaluation.judge.judge import judge_picture
from ms_lab.evaluation.questions.scenes import BenchScene

RESULTS = ROOT / "benchmarks" / "results" / "redraws.json"
WEAKEST, WHOLE = "weakest", "whole"
RETRIES = 2
GOAL = 0.9
RESAMPLES = 2000
_SEED = 14


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way gave with one number of retries.

    Attributes:
        right: of each scene, whether all its subjects are right.
        draws: of each scene, how often it was drawn.
        seconds: of the processor, for all scenes.
        places: redraws of one subject's place, in all scenes.
    """

    right: np.ndarray
    draws: np.ndarray
    seconds: float
    places: int


def measure(laboratory: Laboratory, scenes: Sequence[BenchScene], way: str, retries: int) -> Outcome:
    """Draw every scene in one way, and have the judge look."""
    always_whole = patch("ms_core.sampling.redraws.subject_to_redraw", return_value=None)
    begun = time.process_time()
    with always_whole if way == WHOLE else nullcontext():
        made = laboratory.draw(scenes, retries)
    seconds = time.process_time() - begun
    verdicts = [judge_picture(item.image, scene, laboratory.pack) for scene, item in zip(scenes, made, strict=True)]
    return Outcome(
        np.asarray([all(subject.identity for subject in verdict.subjects) for verdict in verdicts], float),
        np.asarray([item.draws for item in made], float),
        seconds,
        sum(redraw.subject is not None for item in made for redraw in item.redraws),
    )


def at_equal_time(weakest: Outcome, whole: Sequence[Outcome]) -> dict[str, Any]:
    """What is all right with redraws of places, what with redraws of pictures in as many draws, and the difference.

    Args:
        weakest: with redraws of places.
        whole: with redraws of pictures; none, one and more retries, of the same scenes.
    """
    rng = np.random.default_rng(_SEED)
    count = len(weakest.right)

    def shares(rows: np.ndarray) -> tuple[float, float]:
        draws = [outcome.draws[rows].mean() for outcome in whole]
        right = [outcome.right[rows].mean() for outcome in whole]
        return float(weakest.right[rows].mean()), float(np.interp(weakest.draws[rows].mean(), draws, right))

    resampled = np.asarray([shares(rng.integers(count, size=count)) for _ in range(RESAMPLES)])
    own, other = shares(np.arange(count))
    return {
        WEAKEST: _round(own),
        "weakest_interval": _interval(resampled[:, 0]),
        WHOLE: _round(other),
        "whole_interval": _interval(resampled[:, 1]),
        "difference": _round(own - other),
        "difference_interval": _interval(resampled[:, 0] - resampled[:, 1]),
    }


def figures_of(outcome: Outcome) -> dict[str, float]:
    """The figures of one way with one number of retries."""
    return {
        "all_right": _round(float(outcome.right.mean())),
        "draws_per_picture": _round(float(outcome.draws.mean())),
        "cpu_seconds_per_picture": _round(outcome.seconds / len(outcome.right)),
        "redraws_of_places": outcome.places,
    }


def _interval(values: np.ndarray) -> list[float]:
    return [_round(float(value)) for value in np.quantile(values, (0.025, 0.975))]


def _round(value: float) -> float:
    return round(value, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "mini")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--scenes", type=int, help="at most so many of each group: to see that it runs")
    options = parser.parse_args()
    laboratory = Laboratory(options.model, ROOT / "assets")
    scenes = [
        scene
        for scene in laboratory.scenes
        if scene.group in RETRIED_GROUPS and (options.scenes is None or scene.number < options.scenes)
    ]
    whole = [measure(laboratory, scenes, WHOLE, retries) for retries in range(MAX_RETRIES + 1)]
    weakest = [whole[0], *(measure(laboratory, scenes, WEAKEST, retries) for retries in range(1, RETRIES + 1))]
    equal = at_equal_time(weakest[RETRIES], whole)
    results = {
        "command": f"python benchmarks/redraws.py --model {options.model.name}",
        "model": laboratory.pipeline.card.name,
        "pictures": len(scenes),
        "goals": {"all_right_with_two_retries": equal[WEAKEST] >= GOAL},
        "at_equal_time": equal,
        WHOLE: {str(retries): figures_of(outcome) for retries, outcome in enumerate(whole)},
        WEAKEST: {str(retries): figures_of(outcome) for retries, outcome in enumerate(weakest)},
        **circumstances(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({name: results[name] for name in ("goals", "at_equal_time", WHOLE, WEAKEST)}, indent=2))


if __name__ == "__main__":
    main()
