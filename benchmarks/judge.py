"""How often the bench's judge is right, on composed pictures of which everything is known.

    .venv/bin/python benchmarks/judge.py

Scenes are drawn like the bench's, from another seed and the validation half of the artwork: no scene of the bench is
looked at, and the judge may be tuned on these. Every composite is judged as it is (``sharp``), through the VAE of a model, blurred, and recoloured (hue, saturation
and brightness of the whole picture). Beside them stand pictures in which the answers are other ones: with a subject left
out, with the two subjects exchanged, and what copy and paste gives. ``all`` joins all groups but ``treatment``. Of mosaics and
the blur of the true composite, forms are asked: a form question is ready when they climb from near chance to the composite.
Seconds are those of one thread, for all questions about a sharp picture of the headline.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, ImageFilter

from ms_core.mini.vae import MiniVAE
from ms_lab.evaluation.judge.forms import judge_forms
from ms_lab.evaluation.judge.judge import JUDGE_VERSION, Verdict, judge_picture, judge_swap
from ms_lab.evaluation.questions import scenes as bench
from ms_lab.evaluation.questions.columns import BLUR, MOSAICS, PictureKey, composed_picture
from ms_lab.evaluation.questions.composing import exchange_references
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BENCH_VERSION, BenchScene
from ms_lab.mini.halves import VALIDATION
from ms_lab.mini.scenes import SceneComposer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "judge-3.json"
SEED = 777
# Scenes of each group; of the others so many.
COUNTS, OTHERS = {"headline": 240, "twins": 64, "treatment": 96}, 24
HUE_DEGREES, LEVEL_SHARE = 12.0, 0.15
SHARP, VAE, RECOLOURED = "sharp", "through VAE", "recoloured"
BLURS = {"blurred 1.5": 1.5, "blurred 2.5": 2.5}
LEFT_OUT, EXCHANGED, PASTED = "left out", "exchanged", "pasted"

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
# Group, kind of picture, question, and 1 for right; or a share.
Answer = tuple[str, str, str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """What one scene gave: its answers, and how long the judge took for the sharp composite."""

    answers: list[Answer]
    seconds: float


def main() -> None:
    """Judge everything and write the shares of right answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "mini", help="whose VAE is used")
    parser.add_argument("--part", type=float, default=1.0, help="share of the scenes, for a quick look")
    parser.add_argument("--only-forms", action="store_true", help="ask nothing but forms, of the headline alone")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    scenes = draw_scenes(arguments.part)
    if arguments.only_forms:
        scenes = [scene for scene in scenes if scene.group == "headline"]
    cases = [(scene, arguments.model, arguments.only_forms) for scene in scenes]
    with ProcessPoolExecutor(arguments.processes, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        judged = list(executor.map(judge_case, cases, chunksize=4))
    results = summarise(scenes, judged, arguments.model)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print_table(results["right"])


def draw_scenes(part: float) -> list[BenchScene]:
    """The first scenes of every group, from this benchmark's own seed."""
    taken: defaultdict[str, int] = defaultdict(int)
    with patch.object(bench, "BENCH_SEED", SEED):
        drawn = bench.draw_bench(read_pack(), full=True)
    kept: list[BenchScene] = []
    for scene in drawn:
        taken[scene.group] += 1
        if taken[scene.group] <= max(1, round(part * COUNTS.get(scene.group, OTHERS))):
            kept.append(scene)
    return kept


@lru_cache(maxsize=1)
def read_pack() -> BenchPack:
    """The drawings, once in each process."""
    return BenchPack.read(ROOT / "assets", VALIDATION)


@lru_cache(maxsize=1)
def load_vae(model: Path) -> MiniVAE:
    """The VAE in float32, once in each process."""
    return MiniVAE.from_pretrained(model / "vae").float().eval()


def judge_case(case: tuple[BenchScene, Path, bool]) -> Judged:
    """Everything about one scene, or its forms alone."""
    scene, model, only_forms = case
    forms = [] if scene.scene.treatment else [(scene.group, *answer) for answer in judge_shapes(scene, model)]
    if only_forms:
        return Judged(forms, 0.0)
    started = time.perf_counter()
    judge_picture(scene.original.image, scene, read_pack())
    seconds = time.perf_counter() - started
    answers = [(scene.group, kind, question, value) for kind, question, value in judge_kinds(scene, model)]
    return Judged([*answers, *forms], seconds)


def judge_shapes(scene: BenchScene, model: Path) -> Iterator[tuple[str, str, float]]:
    """Kind of picture, question and answer, for the forms in all changes of the composite and in what makes it coarse."""
    rng = np.random.default_rng((SEED, scene.number))
    pictures = {kind: change(scene.original.image, rng) for kind, change in changes(model).items()}
    for column in (*MOSAICS, BLUR):
        pictures[column] = composed_picture(PictureKey(column, scene.group, scene.number), scene)
    for kind, shapes in zip(pictures, judge_forms([*pictures.values()], scene, read_pack()), strict=True):
        for shape in shapes:
            for question in ("form", "upright", "outline"):
                value = getattr(shape, question)
                if value is not None:
                    yield kind, question, float(value)


def judge_kinds(scene: BenchScene, model: Path) -> Iterator[tuple[str, str, float]]:
    """Kind of picture, question and answer, for all changes of a scene's pictures."""
    pack = read_pack()
    pair = with_exchanged(scene)
    for kind, change in changes(model).items():
        rng = np.random.default_rng((SEED, scene.number))
        picture = change(scene.original.image, rng)
        for question, value in list_answers(judge_picture(picture, scene, pack)):
            yield kind, question, value
        if pair.exchanged is not None:
            other = change(pair.exchanged.image, rng)
            yield kind, "swap", float(judge_swap(picture, other, pair, pack))
            for subject in judge_picture(other, scene, pack).subjects:
                yield kind, f"intruded, {EXCHANGED}", float(subject.intruded)
        if scene.scene.treatment:
            pasted = judge_picture(change(scene.pasted, rng), scene, pack)
            yield kind, f"treatment, {PASTED}", float(bool(pasted.treatment))
        else:
            index = scene.number % len(scene.subjects)
            rest = judge_picture(change(without_subject(scene, index), rng), scene, pack)
            yield kind, f"absent, {LEFT_OUT}", float(not rest.subjects[index].present)


def list_answers(verdict: Verdict) -> Iterator[tuple[str, float]]:
    """What is right in a true composite's verdict, question by question."""
    for subject in verdict.subjects:
        yield "identity", float(subject.identity)
        yield "identity_easy", float(subject.identity_easy)
        yield "present", float(subject.present)
        yield "not intruded", float(not subject.intruded)
        yield "iou", subject.iou
    yield "background", float(verdict.background)
    yield "inside", verdict.inside
    if verdict.place is not None:
        yield "place", float(verdict.place)
    if verdict.treatment is not None:
        yield "treatment", float(verdict.treatment)


def with_exchanged(scene: BenchScene) -> BenchScene:
    """The scene with an exchanged composite, if two subjects alone can be exchanged."""
    if scene.exchanged is not None or scene.scene.treatment or len(scene.original.subjects) != 2 or scene.place:
        return scene
    return replace(scene, exchanged=exchange_references(read_pack(), scene.scene, scene.original))


def without_subject(scene: BenchScene, index: int) -> Image.Image:
    """The composite with one subject left out."""
    rest = tuple(place for number, place in enumerate(scene.scene.placements) if number != index)
    return SceneComposer(read_pack()).sample(replace(scene.scene, placements=rest)).image


def changes(model: Path) -> dict[str, Change]:
    """Every way in which pictures are changed before they are judged."""
    return {
        SHARP: lambda picture, _: picture,
        VAE: lambda picture, _: through_vae(picture, load_vae(model)),
        RECOLOURED: recolour,
        **{name: blur(sigma) for name, sigma in BLURS.items()},
    }


@torch.no_grad()
def through_vae(picture: Image.Image, vae: MiniVAE) -> Image.Image:
    """A picture encoded and decoded again."""
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode(), return_dict=False)[0][0]
    levels = (decoded.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5
    return Image.fromarray(levels.round().to(torch.uint8).numpy())


def recolour(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture with hue, saturation and brightness changed at random, everywhere alike."""
    hue, saturation, value = (np.asarray(band, np.float32) for band in picture.convert("HSV").split())
    turn = rng.uniform(-HUE_DEGREES, HUE_DEGREES) / 360 * 256
    factors = rng.uniform(1 - LEVEL_SHARE, 1 + LEVEL_SHARE, 2)
    bands = (hue + turn) % 256, np.clip(saturation * factors[0], 0, 255), np.clip(value * factors[1], 0, 255)
    return Image.merge("HSV", [Image.fromarray(band.astype(np.uint8)) for band in bands]).convert("RGB")


def blur(sigma: float) -> Change:
    """A Gaussian blur, in pixels."""
    return lambda picture, _: picture.filter(ImageFilter.GaussianBlur(sigma))


def summarise(scenes: list[BenchScene], judged: list[Judged], model: Path) -> dict[str, Any]:
    """The file of results: shares by kind of picture, group and question, with the numbers behind them."""
    values: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for group, kind, question, value in (answer for one in judged for answer in one.answers):
        values[kind, group, question].append(value)
        if group != "treatment":
            values[kind, "all", question].append(value)
    right: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for (kind, group, question), found in values.items():
        row = right.setdefault(kind, {}).setdefault(group, {})
        row[question] = {"share": round(statistics.fmean(found), 4), "count": len(found)}
    times = [one.seconds for scene, one in zip(scenes, judged, strict=True) if scene.group == "headline"]
    return {
        "command": "python benchmarks/judge.py",
        "judge_version": JUDGE_VERSION,
        "bench_version": BENCH_VERSION,
        "seed": SEED,
        "vae": model.name,
        "scenes": len(scenes),
        "seconds_for_two_subjects": {"median": round(statistics.median(times), 3), "count": len(times)},
        "right": right,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("numpy", "opencv-python-headless", "pillow", "torch")},
        "commit": run_git("rev-parse", "--short", "HEAD"),
    }


def run_git(*arguments: str) -> str:
    """What git answers."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def print_table(right: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    """One line for each kind of picture and group."""
    for kind, groups in right.items():
        for group, questions in groups.items():
            shares = ", ".join(f"{question} {entry['share']:.3f}" for question, entry in questions.items())
            print(f"{kind} | {group}: {shares}")


if __name__ == "__main__":
    main()
