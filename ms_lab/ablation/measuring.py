"""Pictures of one column and what the bench's judge finds in them; both are kept, so that a run goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from ms_lab.ablation.pictures import Bench, Draw
from ms_lab.evaluation.judge.judge import judge_picture
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import PictureKey
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.run.folder import RunFolder
from ms_lab.folder_lock import TakenError, sole_writer
from ms_lab.mini.painting import PLAIN

VERDICTS, CLAIMS = "verdicts", "claims"
# Pictures that are made at once.
BATCH = 8
_OUTCOMES = TypeAdapter(list[Outcome])


@dataclass(frozen=True, slots=True)
class Measures:
    """The folder of pictures and verdicts.

    Attributes:
        directory: with ``pictures/<column>/`` and ``verdicts/<column>.json``; ``claims`` says who works on what.
    """

    directory: Path

    def path(self, column: str) -> Path:
        """The verdicts of a column."""
        return self.directory / VERDICTS / f"{column}.json"

    def has(self, column: str) -> bool:
        """Whether a column is measured."""
        return self.path(column).is_file()

    def read(self, column: str) -> list[Outcome]:
        """The verdicts of a column that is measured."""
        return _OUTCOMES.validate_json(self.path(column).read_bytes())

    @contextmanager
    def claim(self, column: str) -> Generator[bool]:
        """Whether a column is free to be worked on within the block; another process may have it, until it ends."""
        with ExitStack() as stack:
            free = True
            try:
                stack.enter_context(sole_writer(self.directory / CLAIMS / column))
            except TakenError:
                free = False
            yield free

    def measure(self, column: str, bench: Bench, draw: Draw) -> None:
        """Draw what is missing of a column, one picture a scene, then judge all of it."""
        self._draw(column, bench.scenes, draw)
        pictures = RunFolder(self.directory)
        outcomes = [_judge(pictures, column, scene, bench) for scene in bench.scenes]
        path = self.path(column)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(_OUTCOMES.dump_json(outcomes))
        os.replace(unfinished, path)

    def _draw(self, column: str, scenes: Sequence[BenchScene], draw: Draw) -> None:
        pictures = RunFolder(self.directory)
        for start in range(0, len(scenes), BATCH):
            batch = scenes[start : start + BATCH]
            keys = [key_of(column, scene) for scene in batch]
            # All of a batch or none: its pictures depend on each other in their last bits.
            if not all(map(pictures.has, keys)):
                for key, picture in zip(keys, draw(batch), strict=True):
                    pictures.save(key, picture)


def key_of(column: str, scene: BenchScene) -> PictureKey:
    """Where the picture of a scene is in a column."""
    return PictureKey(column, scene.group, scene.number)


def _judge(pictures: RunFolder, column: str, scene: BenchScene, bench: Bench) -> Outcome:
    verdict = judge_picture(pictures.load(key_of(column, scene)), scene, bench.pack)
    things = tuple(subject.phrase for subject in scene.original.subjects[: len(scene.subjects)])
    return Outcome(scene.group, scene.number, scene.scene.treatment != PLAIN, things, verdict)
