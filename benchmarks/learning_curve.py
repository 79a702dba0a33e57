"""What more training would reach: the goals' numbers over the pictures that the base has seen, and where a goal lies.

    .venv/bin/msd eval mini --model runs/mini/model --out runs/curve/66000 --group headline --group treatment
    .venv/bin/python benchmarks/learning_curve.py runs/curve/*

``msd train mini --minutes`` writes the model as far as it has come, so that each piece of a run can be measured. What is
missing to a number's best (wrong answers, a loss) is taken to fall as a power of the pictures. The range of an
extrapolation comes from fits to redrawn values: each measured value is redrawn from its own normal distribution
interval. It knows nothing of the error of the power law itself, and intervals of one bench's scenes move together, so read
it as an order of magnitude.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "learning-curve.json"
# Numbers that more training can move; a share of a square or a time is none.
METRICS = (
    "identity",
    "identity_easy",
    "swap",
    "treatment",
    "conflict",
    "neglect",
    "identity_loss",
    "identity_easy_loss",
)
GAIN, MISSED = "reference_gain_", "missed"
REDRAWN, SEED = 2000, 0
# Beyond this many pictures an extrapolation says no more than "not by training longer".
FAR = 10**8


def main() -> None:
    """Read the runs, print and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of msd eval mini, one for each checkpoint")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = sorted((json.loads((run / "results.json").read_text()) for run in arguments.runs), key=seen)
    rows = [row for row in moved_by_training(results[-1]) if row["outcome"] == MISSED]
    curve = {
        "command": "python benchmarks/learning_curve.py",
        "points": [point(result) for result in results],
        "extrapolated": [extrapolate(results, row["goal"]) for row in rows],
    }
    arguments.out.write_text(json.dumps(curve, indent=1) + "\n")
    print(json.dumps(curve, indent=1))


def seen(result: dict[str, Any]) -> int:
    """Pictures that the base had seen."""
    return result["training"]["base"]["pictures"]


def moved_by_training(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The goals of the curve that this run has an answer to."""
    return [row for row in result["goals"] if row["goal"]["metric"] in METRICS and row["estimate"] is not None]


def point(result: dict[str, Any]) -> dict[str, Any]:
    """One checkpoint: what it had seen, how far it read its references, and what the bench says."""
    base = result["training"]["base"]
    gains = {key: base[key] for key in base if key.startswith(GAIN)}
    numbers = {row["goal"]["title"]: row["estimate"] for row in moved_by_training(result)}
    return {"pictures": seen(result), "minutes": base["minutes"]} | gains | numbers


def extrapolate(results: Sequence[dict[str, Any]], goal: dict[str, Any]) -> dict[str, Any]:
    """The pictures at which the fitted power law meets the goal, and the middle 95 % of its redrawn fits."""
    points = [
        (seen(result), row["estimate"])
        for result in results
        for row in moved_by_training(result)
        if row["goal"] == goal
    ]
    pictures = np.array([number for number, _ in points], np.float64)
    values = np.array([lacking(estimate[goal["bound"]], goal) for _, estimate in points])
    spread = np.array([(estimate["high"] - estimate["low"]) / 3.92 for _, estimate in points])
    redrawn = np.random.default_rng(SEED).normal(values, spread, (REDRAWN, len(values)))
    limit = lacking(goal["threshold"], goal)
    low, high = np.quantile([pictures_needed(pictures, row, limit) for row in redrawn], (0.025, 0.975))
    return {
        "title": goal["title"],
        "goal": goal["threshold"],
        "checkpoints": len(points),
        "pictures": shown(pictures_needed(pictures, values, limit)),
        "low": shown(float(low)),
        "high": shown(float(high)),
    }


def lacking(value: float, goal: dict[str, Any]) -> float:
    """How far from its best a number is that shall be large, or small."""
    return 1 - value if goal["at_least"] else value


def pictures_needed(pictures: np.ndarray, lacks: np.ndarray, limit: float) -> float:
    """Where the power law through what is lacking comes down to the limit."""
    slope, offset = np.polyfit(np.log(pictures), np.log(np.clip(lacks, 1e-3, 1.0)), 1)
    return FAR if slope >= 0 else float(np.exp(min((np.log(limit) - offset) / slope, np.log(FAR))))


def shown(pictures: float) -> int | None:
    """Rounded to two digits, or ``None`` where it is too far to mean anything."""
    return None if pictures >= FAR else int(float(f"{pictures:.1e}"))


if __name__ == "__main__":
    main()
