"""A run's folder: where everything stands in it, who may write it, and which sources are done, faulty or erased."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ms_core.errors import InvalidInputError
from ms_lab.data.config import PipelineConfig
from ms_lab.data.settings import differences
from ms_lab.data.writing.files import remove_leftovers, write_whole
from ms_lab.folder_lock import sole_writer

_CONFIG, _ERASED = "config.json", "erased.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of a run.

    Attributes:
        path: of the folder: ``shards/``, ``manifest.json``, ``dropped.jsonl``, and ``work/`` with what a restart needs.
    """

    path: Path

    @property
    def shards(self) -> Path:
        """The WebDataset shards."""
        return self.path / "shards"

    @property
    def manifest(self) -> Path:
        """What the shards hold."""
        return self.path / "manifest.json"

    @property
    def dropped(self) -> Path:
        """One line for each item that was dropped, with its reasons."""
        return self.path / "dropped.jsonl"

    @property
    def page(self) -> Path:
        """Where ``msd data view`` writes its page."""
        return self.path / "view.html"

    @property
    def parts(self) -> Path:
        """One file for each finished clip."""
        return self.path / "work" / "clips"

    @property
    def listings(self) -> Path:
        """One file for each piece of footage that was read to its end: its clips and faults."""
        return self.path / "work" / "footage"

    @property
    def faults(self) -> Path:
        """One file for each clip that a stage failed on."""
        return self.path / "work" / "faults"

    def all_parts(self) -> Iterator[Path]:
        """The parts' files in the order of their clips."""
        return iter(sorted(self.parts.glob("*/*.tar")))

    def erased(self) -> list[str]:
        """Ids of the sources that were taken out and stay out, of their names and of their contents."""
        path = self.path / _ERASED
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def add_erased(self, sources: Iterable[str]) -> None:
        """Remember that a source was taken out, by all its ids."""
        write_json(self.path / _ERASED, sorted({*self.erased(), *sources}))

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep every other run out of this folder.

        Raises:
            StartupError: another run works in it.
        """
        with sole_writer(self.path):
            remove_leftovers(self.path)
            yield

    def begin(self, config: PipelineConfig) -> None:
        """Remember the configuration, or check that it is the one with which the run began.

        Raises:
            InvalidInputError: it is another.
        """
        path = self.path / _CONFIG
        content = config.model_dump(mode="json", exclude={"resources"})
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            differing = sorted(differences(before, content))
            if differing:
                raise InvalidInputError(
                    f"{self.path} was begun with another configuration: {', '.join(differing[:5])}. Use that one, or another folder."
                )
            return
        write_json(path, content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read, the same for the same content."""
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
