"""Judging a run's pictures, on all cores at once: a scene with all its columns is one piece of work."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from PIL import Image

from ms_lab.evaluation.judge.judge import judge_pictures as judge_alike
from ms_lab.evaluation.judge.judge import judge_swap
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import COLUMNS, KEPT, SCALE_ZERO, PictureKey, Requests, composed_picture
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.run.folder import RunFolder
from ms_lab.mini.painting import PLAIN
from ms_lab.mini.sprites import SpritePack

_Case = tuple[BenchScene, dict[str, list[PictureKey]]]
# The drawings that candidates point into, in a process that judges.
_packs: list[SpritePack] = []


def judge_pictures(
    requests: Requests, folder: RunFolder, pack: SpritePack, processes: int, advance: Callable[[int], None]
) -> dict[str, list[Outcome]]:
    """What is found in all pictures, by column.

    Args:
        requests: what was asked; all pictures are there.
        folder: of the pictures.
        pack: the drawings that the scenes' candidates point into.
        processes: that judge at once; with 1 it is this one.
        advance: called with the number of scenes that have just been judged.
    """
    outcomes: dict[str, list[Outcome]] = {column: [] for column in COLUMNS}
    cases = [
        (scene, {column: keys for column in COLUMNS if (keys := requests.keys(column, scene))})
        for scene in requests.scenes
    ]
    for found in _judge_all(cases, folder, pack, processes):
        for column, outcome in found.items():
            outcomes[column].append(outcome)
        advance(1)
    return outcomes


def judge_scene(case: _Case, folder: RunFolder, pack: SpritePack) -> dict[str, Outcome]:
    """What is found in one scene's pictures, by column."""
    scene, columns = case
    pictures = {column: _load(scene, column, keys, folder) for column, keys in columns.items()}
    verdicts = judge_alike([shown[0] for shown in pictures.values()], scene, pack)
    swapped = [judge_swap(shown[0], shown[1], scene, pack) if len(shown) == 2 else None for shown in pictures.values()]
    treated = scene.scene.treatment != PLAIN
    things = tuple(subject.phrase for subject in scene.original.subjects[: len(scene.subjects)])
    return {
        column: Outcome(scene.group, scene.number, treated, things, verdict, swap)
        for column, verdict, swap in zip(columns, verdicts, swapped, strict=True)
    }


def _load(scene: BenchScene, column: str, keys: list[PictureKey], folder: RunFolder) -> list[Image.Image]:
    """The scene's picture in a column, and the exchanged one if there is one."""
    pictures = [folder.load(key) if column in KEPT else composed_picture(key, scene) for key in keys]
    # Where references reach nothing, the exchanged picture is the picture.
    return pictures * 2 if scene.exchanged is not None and column == SCALE_ZERO else pictures


def _judge_all(
    cases: Iterable[_Case], folder: RunFolder, pack: SpritePack, processes: int
) -> Iterator[dict[str, Outcome]]:
    if processes == 1:
        yield from (judge_scene(case, folder, pack) for case in cases)
        return
    # Processes begin anew, for a fork would share torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin_process, (pack,)) as executor:
        try:
            yield from executor.map(partial(_judge_here, folder), cases)
        finally:
            executor.shutdown(cancel_futures=True)


def _begin_process(pack: SpritePack) -> None:
    # Ctrl-C reaches all processes; the one that started them answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _packs.append(pack)


def _judge_here(folder: RunFolder, case: _Case) -> dict[str, Outcome]:
    return judge_scene(case, folder, _packs[0])
