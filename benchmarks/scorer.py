"""What a model's scorer is worth, by the benchmark's judge, on the bench's own scenes.

All groups but ``neither`` are of artwork that neither model nor scorer was trained on.

    .venv/bin/python benchmarks/scorer.py --model models/mini --run runs/eval-mini

- calibration: the scorer's estimates for the pictures of the column ``model`` of a run of ``msd eval mini``, against what the
  judge finds in them. The error is the expected calibration error over ten equal bins, with a 95 % bootstrap over scenes.
- share of time: of scoring a picture of two subjects, in that of making it alone at the model's defaults.
- retries: pictures of two, three and four subjects, some of them tiny, huge or overlapping, with 0, 1 and 2 retries, each time
  judged. ``benchmarks/redraws.py`` compares what is drawn again.

With ``--run`` about a quarter of an hour on two free cores; every picture that a run does not hold takes a second more.

Goals: calibration errors of ``present`` and ``identity`` of at most 0.08; subjects that are missing halved with two retries; at
most a tenth of a picture's time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ms_core.sampling.events import Generation, SubjectScore
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec, Subject
from ms_lab.evaluation.judge.judge import JUDGE_VERSION, Verdict, judge_picture
from ms_lab.evaluation.questions.columns import MODEL, PictureKey, Requests, Settings
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BENCH_VERSION, BenchScene, draw_bench
from ms_lab.evaluation.report.intervals import wilson
from ms_lab.evaluation.run.folder import RunFolder
from ms_lab.mini.halves import TEST
from ms_lab.training.scorer.calibration import NUM_BINS, expected_calibration_error, ranking

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scorer.json"
GOAL_ERROR, GOAL_SHARE = 0.08, 0.1
RETRIES = 2
RETRIED_GROUPS = ("headline", "three", "four", "contact", "tiny", "huge")
BATCH_SIZE = 8
RESAMPLES = 1000
TIMED = 7


@dataclass(frozen=True, slots=True)
class Scored:
    """A picture of a scene, the scores of its drawn subjects, and what the judge finds."""

    scene: BenchScene
    scores: tuple[SubjectScore, ...]
    verdict: Verdict


class Laboratory:
    """One model with the bench's scenes."""

    def __init__(self, model: Path, assets: Path) -> None:
        self.pipeline = MSDiffusionPipeline.from_pretrained(model)
        if self.pipeline.scorer is None:
            raise SystemExit(f"{model} has no scorer; train one with: msd train scorer --model {model}")
        self.scorer = self.pipeline.scorer
        self.pack = BenchPack.read(assets, TEST)
        # A scene subject fills the picture; the bench's requests have it as any other, and nobody asks for its score.
        self.scenes = [scene for scene in draw_bench(self.pack, full=False) if scene.place is None]
        self._requests = Requests(self.scenes, False, self.pipeline.card, Settings())

    def spec(self, scene: BenchScene) -> GenerationSpec:
        """The bench's own request, with scores."""
        return replace(self._requests.spec(PictureKey(MODEL, scene.group, scene.number), scene), score=True)

    def score(self, scene: BenchScene, picture: Image.Image) -> Scored:
        """What scorer and judge say of a picture."""
        scores = self.scorer.score_spec(picture, self.spec(scene), self.see)
        known = tuple(score for score in scores if score is not None)
        return Scored(scene, known, judge_picture(picture, scene, self.pack))

    def draw(self, scenes: Sequence[BenchScene], retries: int) -> list[Generation]:
        """Every scene's picture, drawn again as often as it may be and need be."""
        specs = [replace(self.spec(scene), retries=retries) for scene in scenes]
        batches = (specs[start : start + BATCH_SIZE] for start in range(0, len(specs), BATCH_SIZE))
        return [generation for batch in batches for generation in self.pipeline.run(batch)]

    def see(self, subject: Subject) -> tuple[Image.Image, ...]:
        return tuple(seen.image for seen in self.pipeline.conditioner.reader.see(subject))


def calibration(scored: Sequence[Scored]) -> dict[str, Any]:
    """How far what is told is from how often it is so."""
    numbers = np.asarray([number for number, item in enumerate(scored) for _ in item.scores])
    told = torch.tensor([[s.present, s.identity, s.box_iou] for item in scored for s in item.scores])
    true = torch.tensor(
        [[float(v.present), float(v.identity), float(v.iou)] for item in scored for v in item.verdict.subjects]
    )
    figures: dict[str, Any] = {"pictures": len(scored), "subjects": len(told)}
    for column, name in enumerate(("present", "identity")):
        estimates, answers = told[:, column], true[:, column]
        figures[name] = {
            "share": _round(float(answers.mean())),
            "told": _round(float(estimates.mean())),
            "calibration_error": _round(expected_calibration_error(estimates, answers)),
            "interval": _interval(
                numbers, lambda rows, e=estimates, a=answers: expected_calibration_error(e[rows], a[rows])
            ),
            "auc": _round(ranking(estimates, answers)),
            "bins": list(_bins(estimates, answers)),
        }
    error = (told[:, 2] - true[:, 2]).abs()
    figures["box_iou"] = {
        "mean": _round(float(true[:, 2].mean())),
        "told": _round(float(told[:, 2].mean())),
        "mean_absolute_error": _round(float(error.mean())),
        "interval": _interval(numbers, lambda rows: float(error[rows].mean())),
        "error_of_the_mean": _round(float((true[:, 2] - true[:, 2].mean()).abs().mean())),
    }
    return figures


def retries(laboratory: Laboratory, scenes: Sequence[BenchScene], most: int) -> dict[str, Any]:
    """What the judge finds with each number of retries."""
    return {str(number): _outcome(laboratory, scenes, laboratory.draw(scenes, number)) for number in range(most + 1)}


def share_of_time(laboratory: Laboratory, scene: BenchScene) -> dict[str, float]:
    """Medians over several pictures, after one that does not count."""
    spec = laboratory.spec(scene)
    plain = replace(spec, score=False)
    picture = laboratory.pipeline.run(plain)[0].image
    making = _seconds(lambda: laboratory.pipeline.run(plain))
    scoring = _seconds(lambda: laboratory.scorer.score_spec(picture, spec, laboratory.see))
    return {"making_s": _round(making), "scoring_s": _round(scoring), "share": _round(scoring / making)}


def _outcome(laboratory: Laboratory, scenes: Sequence[BenchScene], kept: Sequence[Generation]) -> dict[str, Any]:
    verdicts = [judge_picture(item.image, scene, laboratory.pack) for scene, item in zip(scenes, kept, strict=True)]
    subjects = [subject for verdict in verdicts for subject in verdict.subjects]
    missing = wilson(statistics.fmean(not subject.present for subject in subjects), len(subjects))
    return {
        "pictures": len(scenes),
        "subjects": len(subjects),
        "draws_per_picture": _round(statistics.fmean(item.draws for item in kept)),
        "missing": _round(missing.value),
        "missing_interval": [_round(missing.low), _round(missing.high)],
        "identity": _round(statistics.fmean(subject.identity for subject in subjects)),
        "all_right": _round(statistics.fmean(all(s.identity for s in verdict.subjects) for verdict in verdicts)),
        "box_iou": _round(statistics.fmean(float(subject.iou) for subject in subjects)),
    }


def _bins(estimates: torch.Tensor, answers: torch.Tensor) -> Iterator[dict[str, float]]:
    places = (estimates * NUM_BINS).long().clamp(0, NUM_BINS - 1)
    for number in range(NUM_BINS):
        inside = places == number
        if inside.any():
            told, share = float(estimates[inside].mean()), float(answers[inside].mean())
            yield {"subjects": int(inside.sum()), "told": _round(told), "share": _round(share)}


def _interval(numbers: np.ndarray, measure: Callable[[torch.Tensor], float]) -> list[float]:
    """95 % bootstrap over scenes."""
    rng = np.random.default_rng(1)
    rows_of = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    values = [
        measure(
            torch.as_tensor(np.concatenate([rows_of[place] for place in rng.integers(len(rows_of), size=len(rows_of))]))
        )
        for _ in range(RESAMPLES)
    ]
    return [_round(float(value)) for value in np.quantile(values, (0.025, 0.975))]


def _seconds(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(TIMED + 1):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def _round(value: float) -> float:
    return round(value, 4)


def circumstances() -> dict[str, Any]:
    """Hardware, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "hardware": {"cores": len(os.sched_getaffinity(0)), "load_after": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "judge_version": JUDGE_VERSION,
        "bench_version": BENCH_VERSION,
        "commit": commit.strip(),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "mini")
    parser.add_argument("--run", type=Path, help="of msd eval mini with this model; without it the pictures are made")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--scenes", type=int, help="at most so many of each group: to see that it runs")
    options = parser.parse_args()
    laboratory = Laboratory(options.model, ROOT / "assets")
    scenes = [scene for scene in laboratory.scenes if options.scenes is None or scene.number < options.scenes]
    scored = [laboratory.score(scene, picture) for scene, picture in pictures(laboratory, scenes, options.run)]
    headline = [item for item in scored if item.scene.group == "headline"]
    figures = {
        "calibration": {"all": calibration(scored), "headline": calibration(headline)},
        "retries": retries(laboratory, [s for s in scenes if s.group in RETRIED_GROUPS], RETRIES),
        "time": share_of_time(laboratory, headline[0].scene),
    }
    results = {
        "command": f"python benchmarks/scorer.py --model {options.model.name}" + (" --run RUN" if options.run else ""),
        "model": laboratory.pipeline.card.name,
        "goals": goals(figures),
        **figures,
        **circumstances(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({name: results[name] for name in ("goals", "retries", "time")}, indent=2))


def goals(figures: dict[str, Any]) -> dict[str, bool | None]:
    """Which are met; ``None`` where nothing is missing that could be halved."""
    told, drawn = figures["calibration"]["all"], figures["retries"]
    missing = drawn["0"]["missing"]
    return {
        "calibration_of_present": told["present"]["calibration_error"] <= GOAL_ERROR,
        "calibration_of_identity": told["identity"]["calibration_error"] <= GOAL_ERROR,
        "missing_halved_with_two_retries": drawn[str(RETRIES)]["missing"] <= missing / 2 if missing else None,
        "at_most_a_tenth_of_the_time": figures["time"]["share"] <= GOAL_SHARE,
    }


def pictures(
    laboratory: Laboratory, scenes: Sequence[BenchScene], run: Path | None
) -> Iterator[tuple[BenchScene, Image.Image]]:
    """The pictures of the column ``model``: of a run of ``msd eval mini``, or made here."""
    if run is not None:
        folder = RunFolder(run)
        yield from ((scene, folder.load(PictureKey(MODEL, scene.group, scene.number))) for scene in scenes)
        return
    for scene in scenes:
        yield scene, laboratory.draw([scene], 0)[0].image


if __name__ == "__main__":
    main()
