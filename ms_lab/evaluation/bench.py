"""mini-bench from a model directory to its numbers: scenes are drawn, pictures made and kept, then judged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.evaluation.questions.columns import Requests, Settings
from ms_lab.evaluation.questions.groups import FAMILIES
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BENCH_SEED, BENCH_VERSION, GROUPS, BenchScene, draw_bench, fingerprint
from ms_lab.evaluation.report.results import Results, build_results, build_rows, write_results
from ms_lab.evaluation.run.folder import Run, RunFolder, digest_model
from ms_lab.evaluation.run.judging import judge_pictures
from ms_lab.evaluation.run.making import Maker, make_pictures, missing_pictures
from ms_lab.evaluation.run.processes import generate_in_processes
from ms_lab.mini.halves import TEST
from ms_lab.mini.sprites import SpritePack

_FEW_SCENES = 8

# Called when a phase begins, with its name and how many steps it has; the answer is called with steps that are done.
Begin = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured, and how.

    Attributes:
        half: of the held-out artwork, one of ``HALVES``.
        full: all scenes, or the core.
        groups: keys of ``GROUPS`` or ``FAMILIES``; none: all.
        settings: of the model.
        batch_size: most pictures made at once.
        processes: that make pictures or judge at once.
        force: throw away what is in the folder.
    """

    half: str = TEST
    full: bool = False
    groups: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    batch_size: int = 8
    processes: int = os.cpu_count() or 1
    force: bool = False


def run_bench(model: Path, assets: Path, out: Path, options: BenchOptions, begin: Begin) -> Results:
    """Measure a model, or go on where an interrupted run stopped.

    Args:
        model: its directory.
        assets: folder with the bench's packs.
        out: folder for pictures and numbers.
        options: see there.
        begin: told of each phase.

    Raises:
        InvalidInputError: there is no such half or group, or ``out`` has pictures of another run.
        UnknownNameError: the model has no such preset.
        ModelNotFoundError, CheckpointError: the model cannot be loaded.
    """
    card = ModelCard.load(model)
    pack = BenchPack.read(assets, options.half)
    drawn = draw_bench(pack, options.full)
    scenes = choose_scenes(drawn, options.groups)
    requests = Requests(scenes, options.full, card, options.settings)
    folder = RunFolder(out)
    run = describe_run(model, options.half, requests, fingerprint(drawn, pack))
    folder.begin(run, scenes, options.force)
    missing = missing_pictures(requests, folder)
    # To start processes takes as long as a few scenes.
    processes = options.processes if len(scenes) > _FEW_SCENES else 1
    if missing:
        maker = _maker(model, options.batch_size, processes)
        make_pictures(requests, folder, maker, begin("Pictures", len(missing)))
    return judge_run(requests, folder, run, pack, processes, begin)


def _maker(model: Path, batch_size: int, processes: int) -> Maker:
    pipeline = MSDiffusionPipeline.from_pretrained(model)
    maker = Maker.of_pipeline(pipeline, batch_size)
    # A small model leaves the other cores free.
    spread = processes > 1 and pipeline.threads == 1
    return replace(maker, generate_all=partial(generate_in_processes, model, processes)) if spread else maker


def judge_run(
    requests: Requests, folder: RunFolder, run: Run, pack: SpritePack, processes: int, begin: Begin
) -> Results:
    """Judge all pictures of a run, which are there, and write its results beside them.

    Args:
        requests, folder, run: of the run.
        pack: the drawings that the scenes' candidates point into.
        processes: that judge at once.
        begin: told that judging begins.
    """
    started = time.monotonic()
    outcomes = judge_pictures(requests, folder, pack, processes, begin("Judging", len(requests.scenes)))
    rows = build_rows(requests.scenes, outcomes)
    results = build_results(folder, run, requests.card.training, rows, time.monotonic() - started)
    write_results(folder.directory, results, rows)
    return results


def choose_scenes(scenes: Sequence[BenchScene], groups: Sequence[str]) -> list[BenchScene]:
    """The scenes of these groups and families of groups, or all without any.

    Raises:
        InvalidInputError: there is no such group.
    """
    for name in groups:
        if name not in GROUPS | FAMILIES:
            known = ", ".join([*GROUPS, *FAMILIES])
            raise InvalidInputError(f"There is no group {name!r} of scenes; there are {known}.")
    chosen = {member for name in groups for member in FAMILIES.get(name, (name,))}
    return [scene for scene in scenes if not groups or scene.group in chosen]


def describe_run(model: Path, half: str, requests: Requests, scenes_fingerprint: str) -> Run:
    """What a run's pictures are made from.

    Args:
        model: its directory.
        half: of the held-out artwork.
        requests: of the run.
        scenes_fingerprint: of all scenes, be they measured or not.
    """
    resolved, settings = requests.resolved(), requests.settings
    height, width = requests.square_size
    return Run(
        bench_version=BENCH_VERSION,
        seed=BENCH_SEED,
        half=half,
        full=requests.full,
        scenes_fingerprint=scenes_fingerprint,
        model=requests.card.name,
        model_digest=digest_model(model),
        height=height,
        width=width,
        preset=settings.preset,
        num_inference_steps=resolved.num_inference_steps,
        guidance_scale=resolved.guidance_scale,
        scale=resolved.subject_scales[0],
        scheduler=resolved.scheduler,
        negative_prompt=resolved.negative_prompt,
    )
