"""The samples of MS-Bench: every combination of its pictures, in every prompt of its type.

Subjects of one type are different pictures and come in the order of the file's table, so each set of them comes once.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from ms_core.errors import InvalidInputError
from ms_core.spec import Box
from ms_lab.evaluation.msbench.tables import CombinationType, Tables, fill_prompt, read_tables

# What the authors count.
NUM_COMBINATIONS, NUM_SAMPLES = 1148, 4488
PICTURES, PROMPT_FILE = "msbench", Path("msdiffusion/dataset/prompts/msbench.py")

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class BenchmarkSubject:
    """One subject of a sample.

    Attributes:
        picture: its name without ending, such as ``cat1``.
        phrase: what the prompt calls it.
        path: of the picture.
        box: the type's.
    """

    picture: str
    phrase: str
    path: Path
    box: Box

    @property
    def is_scene(self) -> bool:
        """Whether it fills the picture."""
        return self.box == _WHOLE


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture to be made.

    Attributes:
        type: name of its combination type.
        prompt: with the phrases in it.
        prompt_index: which of the type's prompts.
        subjects: two or three, in the order of prompt and boxes.
    """

    type: str
    prompt: str
    prompt_index: int
    subjects: tuple[BenchmarkSubject, ...]

    @property
    def combination(self) -> str:
        """Name of what is combined, such as ``living_object/cat1+lantern``."""
        return f"{self.type}/{'+'.join(subject.picture for subject in self.subjects)}"

    @property
    def name(self) -> str:
        """Name of the sample, such as ``living_object/cat1+lantern-0``."""
        return f"{self.combination}-{self.prompt_index}"

    def seed(self, base: int) -> int:
        """Its own seed, the same in every run with this base."""
        return zlib.crc32(f"{base} {self.name}".encode())


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is asked.

    Attributes:
        samples: of all types.
        missing: pictures that the tables name and the folder lacks.
        digest: SHA-256 of prompts, boxes and pictures.
    """

    samples: tuple[Sample, ...]
    missing: tuple[str, ...]
    digest: str

    @property
    def num_combinations(self) -> int:
        """Different sets of pictures."""
        return len({sample.combination for sample in self.samples})

    @property
    def is_whole(self) -> bool:
        """Whether it is as large as the authors'."""
        return (self.num_combinations, len(self.samples)) == (NUM_COMBINATIONS, NUM_SAMPLES)

    def few(self, count: int) -> Benchmark:
        """At most so many combinations of each type, spread over all of them."""
        names: dict[str, dict[str, None]] = {}
        for sample in self.samples:
            names.setdefault(sample.type, {})[sample.combination] = None
        chosen = {name for own in names.values() for name in _spread(list(own), count)}
        return Benchmark(
            tuple(sample for sample in self.samples if sample.combination in chosen), self.missing, self.digest
        )


def read_benchmark(pictures: Path, prompts: Path | None = None) -> Benchmark:
    """All samples of a checkout of the authors' repository.

    Args:
        pictures: the checkout, or its folder ``msbench``.
        prompts: the file of prompts, if it is not where the checkout has it.

    Raises:
        InvalidInputError: there is no such folder or file, it cannot be used, or there are no pictures.
    """
    folder = _picture_folder(pictures)
    prompts = prompts or folder.parent / PROMPT_FILE
    if not prompts.is_file():
        raise InvalidInputError(
            f"There is no file of prompts {prompts}. Say where the authors' msbench.py is: --prompts"
        )
    tables = read_tables(prompts)
    paths = _find_pictures(folder, {part for each in tables.types for part in each.parts})
    known = {name: place for name, place in paths.items() if name in tables.phrases}
    samples = tuple(sample for each in tables.types for sample in _samples(each, tables, known))
    if not samples:
        raise InvalidInputError(f"The pictures in {folder} make no combination of the types in {prompts}.")
    return Benchmark(samples, _missing(tables, known), _digest(samples))


def _picture_folder(pictures: Path) -> Path:
    if not pictures.is_dir():
        raise InvalidInputError(
            f"There is no folder {pictures}. Get the benchmark with: "
            "git clone https://github.com/MS-Diffusion/MS-Diffusion"
        )
    return pictures / PICTURES if (pictures / PICTURES).is_dir() else pictures.resolve()


def _find_pictures(folder: Path, types: Iterable[str]) -> dict[str, tuple[str, Path]]:
    """Type and path of every picture, by its name."""
    found: dict[str, tuple[str, Path]] = {}
    for kind in sorted(types):
        for path in sorted((folder / kind).glob("*")):
            if path.suffix.lower() not in _ENDINGS:
                continue
            if path.stem in found:
                raise InvalidInputError(f"{path} and {found[path.stem][1]} have one name; remove one of them.")
            found[path.stem] = (kind, path)
    return found


def _samples(kind: CombinationType, tables: Tables, found: dict[str, tuple[str, Path]]) -> Iterator[Sample]:
    """Of one type: its combinations in order, each with all prompts."""
    for names in _combinations(kind, tables, found):
        phrases = tuple(tables.phrases[name] for name in names)
        subjects = tuple(
            BenchmarkSubject(name, phrase, found[name][1], box)
            for name, phrase, box in zip(names, phrases, kind.boxes, strict=True)
        )
        for index, prompt in enumerate(kind.prompts):
            yield Sample(kind.name, fill_prompt(prompt, phrases), index, subjects)


def _combinations(
    kind: CombinationType, tables: Tables, found: dict[str, tuple[str, Path]]
) -> Iterator[tuple[str, ...]]:
    parts = list(dict.fromkeys(kind.parts))
    of_part = ([name for name in tables.phrases if found.get(name, ("",))[0] == part] for part in parts)
    choices = [list(combinations(names, kind.parts.count(part))) for part, names in zip(parts, of_part, strict=True)]
    for chosen in product(*choices):
        left = {part: iter(names) for part, names in zip(parts, chosen, strict=True)}
        yield tuple(next(left[part]) for part in kind.parts)


def _missing(tables: Tables, found: dict[str, tuple[str, Path]]) -> tuple[str, ...]:
    """Names of missing pictures, with the folder in which their kind is, where one can tell."""
    places = {tables.phrases[name]: kind for name, (kind, _) in found.items()}
    lacking = [name for name in tables.phrases if name not in found]
    return tuple(f"{places[p]}/{name}" if (p := tables.phrases[name]) in places else name for name in lacking)


def _digest(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for path in sorted({subject.path for sample in samples for subject in sample.subjects}):
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise InvalidInputError(f"The picture {path} cannot be read: {error.strerror}.") from error
    for sample in samples:
        boxes = [subject.box.as_tuple() for subject in sample.subjects]
        digest.update(repr((sample.name, sample.prompt, boxes)).encode())
    return digest.hexdigest()


def _spread(names: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of them, evenly from the first on."""
    few = min(count, len(names))
    return [names[number * len(names) // few] for number in range(few)]
