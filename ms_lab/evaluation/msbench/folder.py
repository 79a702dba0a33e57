"""The folder of a run: its pictures, its scores, and what both came from.

::

    run.json, service.json, key                     what the pictures are made from, by which model, and a key of its own
    pictures/<type>/<pictures>-<prompt>.png         as the service gave them
    attempts/<type>/<pictures>-<prompt>             how many jobs ended without the picture
    harness.json, scores/<part>.jsonl               how pictures were scored, and a line for each
    claims/<part>                                   who works on which part
    results.json                                    see ``ms_lab.evaluation.msbench.results``

A run that was interrupted goes on: what is there is neither made nor scored again, as long as it would be the same.
Folders of several machines are put together by copying their files into one: each score names the files that it goes by, so
that scores of other pictures are not taken for its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ms_core.errors import InvalidInputError
from ms_lab.data.settings import differences
from ms_lab.evaluation.msbench.samples import Sample

RUN, SERVICE, HARNESS, RESULTS = "run.json", "service.json", "harness.json", "results.json"
_PICTURES, _ATTEMPTS, _SCORES = "pictures", "attempts", "scores"
_REMEDY = "Give another folder with --out, or delete this one."
# What is scored in another way need not be made again.
_REMEDIES = {
    HARNESS: f"Give another folder with --out, or delete {HARNESS} and {_SCORES} in this one to score its pictures anew."
}
_OTHER_ORIGINS = {
    RUN: f"is of other pictures than {RUN} says",
    SERVICE: f"is of pictures by another service than {SERVICE} says",
    HARNESS: "was scored in another way",
}


class BenchmarkFolder:
    """Pictures and scores of one run on disk.

    Args:
        directory: made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write down what a run goes by, or find out that it is what is written already.

        Args:
            name: ``RUN``, ``SERVICE`` or ``HARNESS``.
            facts: JSON-ready.

        Raises:
            InvalidInputError: the folder was begun with other ones, or cannot be written.
        """
        found = self.read(name)
        if found is None:
            self._write(self.directory / name, json.dumps(facts, indent=2).encode() + b"\n")
        elif other := sorted(differences(found, json.loads(json.dumps(facts)))):
            raise InvalidInputError(
                f"{self.directory} is of another run: it differs in {', '.join(other)}. {_remedy(name)}"
            )

    def read(self, name: str) -> dict[str, Any] | None:
        """What a JSON file of the folder holds; ``None`` without it.

        Raises:
            InvalidInputError: it is no JSON object.
        """
        try:
            return _object(json.loads((self.directory / name).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{self.directory / name} cannot be read: {error}. {_remedy(name)}") from error

    def origin(self) -> dict[str, str]:
        """Digests of what pictures and scores come from, by name of the file; of those that are there."""
        found = {name: self.read(name) for name in (RUN, SERVICE, HARNESS)}
        return {name: _digest(facts) for name, facts in found.items() if facts is not None}

    def key(self) -> str:
        """The folder's own key, by which a service knows its jobs again and takes no other folder's for them."""
        path = self.directory / "key"
        if not path.is_file():
            self._write(path, secrets.token_hex(16).encode())
        return path.read_text()

    def picture_path(self, sample: Sample) -> Path:
        """Where a picture is, or will be."""
        return self.directory / _PICTURES / f"{sample.name}.png"

    def has_picture(self, sample: Sample) -> bool:
        """Whether a picture is there."""
        return self.picture_path(sample).is_file()

    def save_picture(self, sample: Sample, content: bytes) -> None:
        """Keep a picture, whole or not at all."""
        self._write(self.picture_path(sample), content)

    def attempts(self, sample: Sample) -> int:
        """How many jobs ended without this picture."""
        path = self.directory / _ATTEMPTS / sample.name
        text = path.read_text() if path.is_file() else ""
        return int(text) if text.isdecimal() else 0

    def add_attempt(self, sample: Sample) -> None:
        """A job ended without this picture, so that the next one is another."""
        count = self.attempts(sample) + 1
        self._write(self.directory / _ATTEMPTS / sample.name, str(count).encode())

    def rows(self) -> dict[str, dict[str, Any]]:
        """All scores, by sample's name, each with its origin; a line that was cut off is left out.

        Raises:
            InvalidInputError: some have another ``origin`` than this folder.
        """
        origin = self.origin()
        rows: dict[str, dict[str, Any]] = {}
        for path in sorted((self.directory / _SCORES).glob("*.jsonl")):
            for row in _whole_lines(path):
                for name, says in _OTHER_ORIGINS.items():
                    if row.get(name) != origin.get(name):
                        raise InvalidInputError(f"{path} {says}. {_remedy(name)}")
                rows[str(row.get("sample"))] = row
        return rows

    def add_rows(self, part: str, rows: list[dict[str, Any]]) -> None:
        """Keep scores of one part, such as ``2-of-4``."""
        path = self.directory / _SCORES / f"{part}.jsonl"
        lines = [json.dumps(row) + "\n" for row in (*_whole_lines(path), *rows)]
        self._write(path, "".join(lines).encode())

    def write_results(self, results: Mapping[str, Any]) -> Path:
        """Write the numbers, and tell where."""
        path = self.directory / RESULTS
        self._write(path, json.dumps(results, indent=2).encode() + b"\n")
        return path

    def _write(self, path: Path, content: bytes) -> None:
        # Of its own name, for several processes may write into one folder.
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            os.replace(unfinished, path)
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be written: {error.strerror}.") from error


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            try:
                yield _object(json.loads(line))
            except ValueError as error:
                raise InvalidInputError(f"{path}, line {number}, is no JSON. Delete the file to score anew.") from error


def _object(content: Any) -> dict[str, Any]:
    """Content that is a JSON object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return cast("dict[str, Any]", content)


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _remedy(name: str) -> str:
    return _REMEDIES.get(name, _REMEDY)
