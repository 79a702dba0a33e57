"""What more training would reach: the headline's numbers over the pictures that the base has seen, and where a goal lies.

    .venv/bin/msd eval mini --model runs/mini/model --out runs/curve/66000 --group headline   # for several checkpoints
    .venv/bin/python benchmarks/learning_curve.py runs/curve/*

``msd train mini --minutes`` writes the model as far as it has come, so that each piece of a run can be measured. The share of wrong
answers is taken to fall as a power of the pictures. The range of an extrapolation comes from fits to redrawn values: each
measured value is drawn anew from a normal distribution of its own interval. It knows nothing of the error of the power
law itself, and intervals of one bench's scenes move together, so read it as an order of magnitude.
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
METRICS, GAIN = ("identity_easy", "identity", "both_right_easy", "layout_iou"), "reference_gain_"
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
    curve = {
        "command": "python benchmarks/learning_curve.py",
        "points": [point(result) for result in results],
        "extrapolated": [extrapolate(results, goal) for goal in missed(results[-1])],
    }
    arguments.out.write_text(json.dumps(curve, indent=1) + "\n")
    print(json.dumps(curve, indent=1))


def seen(result: dict[str, Any]) -> int:
    """Pictures that the base had seen."""
    return result["training"]["base"]["pictures"]


def headline(result: dict[str, Any]) -> dict[str, Any]:
    """The model's numbers on the headline."""
    return result["groups"]["headline"]["columns"]["model"]


def point(result: dict[str, Any]) -> dict[str, Any]:
    """One checkpoint: what it had seen, how far it read its references, and what the bench says."""
    base = result["training"]["base"]
    gains = {key: base[key] for key in base if key.startswith(GAIN)}
    return {"pictures": seen(result), "minutes": base["minutes"]} | gains | {m: headline(result)[m] for m in METRICS}


def missed(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The headline's missed goals that are a share of right answers, of those that stand in the curve."""
    goals = [row["goal"] for row in result["goals"] if row["outcome"] == "missed"]
    return [goal for goal in goals if goal["group"] == "headline" and goal["metric"] in METRICS]


def extrapolate(results: Sequence[dict[str, Any]], goal: dict[str, Any]) -> dict[str, Any]:
    """The pictures at which the fitted power law meets the goal, and the middle 95 % of its redrawn fits."""
    estimates = [headline(result)[goal["metric"]] for result in results]
    pictures = np.array([seen(result) for result in results], np.float64)
    values = np.array([estimate["value"] for estimate in estimates])
    spread = np.array([(estimate["high"] - estimate["low"]) / 3.92 for estimate in estimates])
    redrawn = np.random.default_rng(SEED).normal(values, spread, (REDRAWN, len(values)))
    needed = [pictures_needed(pictures, row, goal["threshold"]) for row in redrawn]
    low, high = np.quantile(needed, (0.025, 0.975))
    return {
        "title": goal["title"],
        "goal": goal["threshold"],
        "pictures": shown(pictures_needed(pictures, values, goal["threshold"])),
        "low": shown(float(low)),
        "high": shown(float(high)),
    }


def pictures_needed(pictures: np.ndarray, right: np.ndarray, goal: float) -> float:
    """Where the power law through the shares of wrong answers comes down to the goal's."""
    wrong = np.log(np.clip(1 - right, 1e-3, 1.0))
    slope, offset = np.polyfit(np.log(pictures), wrong, 1)
    return FAR if slope >= 0 else float(np.exp(min((np.log(1 - goal) - offset) / slope, np.log(FAR))))


def shown(pictures: float) -> int | None:
    """Rounded to two digits, or ``None`` where it is too far to mean anything."""
    return None if pictures >= FAR else int(float(f"{pictures:.1e}"))


if __name__ == "__main__":
    main()
