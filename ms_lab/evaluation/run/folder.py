"""The folder of a run: every picture, what they were made from, and how long it took.

::

    run.json                                    what the pictures were made from
    timing.json                                 how long they took
    pictures/<column>/<group>-<number>[-exchanged].webp     lossless
    references/<group>-<number>-<subject>.webp              lossless
    results.json, verdicts.jsonl                see ``ms_lab.evaluation.report.results``

A run that was interrupted goes on: a picture that is there is not made again. That holds only while model, scenes and
settings are the same, so ``run.json`` is written before the first picture and compared ever after.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from ms_core.errors import InvalidInputError
from ms_core.model_dir.inventory import INVENTORY_FILE
from ms_lab.evaluation.questions.columns import PictureKey
from ms_lab.evaluation.questions.scenes import BenchScene

_RUN, _TIMING, _PICTURES, _REFERENCES = "run.json", "timing.json", "pictures", "references"
# What lies beside a model and changes none of its pictures.
_RECORDS = ("training_", INVENTORY_FILE)
# The hub's notes on a download, with its time.
_CACHE = ".cache"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run's pictures are made from.

    Attributes:
        bench_version, seed: of the scenes.
        half: of the held-out artwork that the scenes show.
        full: whether all scenes are asked, or the core.
        scenes_fingerprint: digest of everything that is asked.
        model, model_digest: the model's name, and the digest of its files.
        height, width: of square scenes, in pixels.
        preset: ``None`` without one.
        num_inference_steps, guidance_scale, scale, scheduler, negative_prompt: what preset and card come to.
    """

    bench_version: int
    seed: int
    half: str
    full: bool
    scenes_fingerprint: str
    model: str
    model_digest: str
    height: int
    width: int
    preset: str | None
    num_inference_steps: int
    guidance_scale: float
    scale: float
    scheduler: str
    negative_prompt: str


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the model took.

    Attributes:
        pictures, seconds: made in batches, and in what time, all sittings together.
        batch_size: most pictures at once, in the last sitting.
        alone_seconds: of single pictures, one after the other, by column.
    """

    pictures: int
    seconds: float
    batch_size: int
    alone_seconds: dict[str, tuple[float, ...]]


class RunFolder:
    """Pictures of one run on disk.

    Args:
        directory: made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self, run: Run, scenes: Sequence[BenchScene], force: bool = False) -> None:
        """Start a run, or go on with it.

        Args:
            run: what the pictures will be made from.
            scenes: whose references are kept.
            force: throw all pictures in the folder away first.

        Raises:
            InvalidInputError: the folder has pictures of another run, and ``force`` is not set.
        """
        if force:
            self._clear()
        found = self._run()
        if found != run and self._holds_pictures():
            raise InvalidInputError(_other_run(self.directory, found, run))
        _write(self.directory / _RUN, TypeAdapter(Run).dump_json(run, indent=2))
        for scene in scenes:
            for index, subject in enumerate(scene.original.subjects):
                path = self.reference_path(scene.group, scene.number, index)
                if not path.is_file():
                    _save(subject.reference, path)

    def picture_path(self, key: PictureKey) -> Path:
        """Where a picture is, or will be."""
        name = f"{key.group}-{key.number}{'-exchanged' if key.exchanged else ''}.webp"
        return self.directory / _PICTURES / key.column.replace(" ", "-") / name

    def reference_path(self, group: str, number: int, subject: int) -> Path:
        """Where the reference of a scene's subject is."""
        return self.directory / _REFERENCES / f"{group}-{number}-{subject}.webp"

    def has(self, key: PictureKey) -> bool:
        """Whether a picture is there."""
        return self.picture_path(key).is_file()

    def save(self, key: PictureKey, picture: Image.Image) -> None:
        """Keep an RGB picture, every pixel as it is."""
        _save(picture, self.picture_path(key))

    def load(self, key: PictureKey) -> Image.Image:
        """A picture that is there, RGB."""
        return _load(self.picture_path(key))

    def load_reference(self, group: str, number: int, subject: int) -> Image.Image:
        """The reference of a scene's subject, RGB."""
        return _load(self.reference_path(group, number, subject))

    def timing(self) -> Timing | None:
        """How long the pictures took; ``None`` until the first sitting is over."""
        path = self.directory / _TIMING
        return TypeAdapter(Timing).validate_json(path.read_bytes()) if path.is_file() else None

    def add_timing(self, sitting: Timing) -> None:
        """Add a sitting's time to that of earlier ones; single pictures are those of the last one."""
        before = self.timing()
        if before is not None:
            sitting = Timing(
                before.pictures + sitting.pictures,
                before.seconds + sitting.seconds,
                sitting.batch_size,
                sitting.alone_seconds,
            )
        _write(self.directory / _TIMING, TypeAdapter(Timing).dump_json(sitting, indent=2))

    def _run(self) -> Run | None:
        """What the pictures were made from; ``None`` if that is not written down, or not in words of this version."""
        try:
            return TypeAdapter(Run).validate_json((self.directory / _RUN).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _holds_pictures(self) -> bool:
        return any((self.directory / _PICTURES).glob("*/*"))

    def _clear(self) -> None:
        for name in (_PICTURES, _REFERENCES):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        (self.directory / _TIMING).unlink(missing_ok=True)


def digest_model(directory: Path) -> str:
    """SHA-256 of all files of a model directory, names included, but for records of training, files and download."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_file() and not path.name.startswith(_RECORDS) and name.parts[0] != _CACHE:
            digest.update(name.as_posix().encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _other_run(directory: Path, found: Run | None, run: Run) -> str:
    if found is None:
        difference = "nobody knows what they were made from"
    else:
        names = [field.name for field in fields(Run) if getattr(found, field.name) != getattr(run, field.name)]
        difference = f"they differ in {', '.join(names).replace('_', ' ')}"
    return (
        f"{directory} has pictures of another run: {difference}. Give another folder with --out, or throw them away "
        "with --force."
    )


def _load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _save(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    picture.save(unfinished, "WEBP", lossless=True)
    os.replace(unfinished, path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content + b"\n")
    os.replace(unfinished, path)
