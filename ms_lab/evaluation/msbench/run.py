"""MS-Bench from the checkout to its numbers: pictures by a running service, then scores, then results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.bench import Begin
from ms_lab.evaluation.msbench.folder import HARNESS, RUN, SERVICE, BenchmarkFolder
from ms_lab.evaluation.msbench.making import make_pictures
from ms_lab.evaluation.msbench.models import JudgeNames, Judges
from ms_lab.evaluation.msbench.results import build_results, read_scores
from ms_lab.evaluation.msbench.samples import NUM_COMBINATIONS, NUM_SAMPLES, Benchmark, Sample
from ms_lab.evaluation.msbench.scoring import RULES, score_samples
from ms_lab.folder_lock import sole_writer

VERSION = 1
CLAIMS = "claims"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of the samples, ``number`` counted from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard as ``2/4``.

        Raises:
            InvalidInputError: this is none.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InvalidInputError(f"--shard takes a part and their number, such as 1/4, not {text!r}.")
        return cls(int(number), int(count))

    @property
    def name(self) -> str:
        """As in names of files."""
        return f"{self.number}-of-{self.count}"

    def part(self, samples: Sequence[Sample]) -> list[Sample]:
        """Its samples: every ``count``-th one."""
        return list(samples[self.number - 1 :: self.count])


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """What is asked, and how.

    Attributes:
        request: fields that all requests have, such as ``num_inference_steps``.
        seed: from which each sample's own is made.
        few: at most so many combinations of each type; ``None``: all.
        allow_missing: go on if pictures of the benchmark are missing.
        shard: the part that is made and scored here.
        in_flight: pictures that are asked for at once.
        scores: whether pictures are scored as well.
        judges: by whom.
    """

    request: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int = 0
    few: int | None = None
    allow_missing: bool = False
    shard: Shard = field(default_factory=Shard)
    in_flight: int = 8
    scores: bool = True
    judges: JudgeNames = field(default_factory=JudgeNames)


class Service(Protocol):
    """Makes pictures."""

    def describe(self) -> dict[str, Any]:
        """Its model and the model's defaults, JSON-ready."""
        ...

    def paint(self, sample: Sample, attempt: int, stop: Event) -> bytes:
        """The picture of a sample, encoded; see ``ms_lab.evaluation.msbench.making.Paint``."""
        ...


def run_msbench(  # noqa: PLR0913 - what is asked, where, by whom
    benchmark: Benchmark,
    out: Path,
    options: BenchmarkOptions,
    connect: Callable[[str], Service],
    load: Callable[[], Judges],
    begin: Begin,
) -> dict[str, Any] | None:
    """Make and score what is still missing of a shard, and put the numbers together when all shards are there.

    Args:
        benchmark: all samples.
        out: the run's folder.
        options: see there.
        connect: a service, asked only if pictures are missing; gets the folder's key.
        load: the judges, asked only if scores are missing.
        begin: told of each phase.

    Returns:
        What was written as results; ``None`` if samples without a score are left.

    Raises:
        InvalidInputError: pictures of the benchmark are missing, or ``out`` is of another run.
        ModelNotFoundError: a judge is not on this machine.
        StartupError: another command works on this shard in ``out``.
    """
    _require_whole(benchmark, options)
    chosen = benchmark if options.few is None else benchmark.few(options.few)
    folder = BenchmarkFolder(out)
    folder.begin(RUN, _describe(benchmark, chosen, options))
    # Before hours of making pictures.
    if options.scores:
        folder.begin(HARNESS, _harness(options))
    with sole_writer(out / CLAIMS / options.shard.name):
        return _work(chosen, folder, options, connect, load, begin)


def _work(  # noqa: PLR0913 - what is asked, where, by whom
    chosen: Benchmark,
    folder: BenchmarkFolder,
    options: BenchmarkOptions,
    connect: Callable[[str], Service],
    load: Callable[[], Judges],
    begin: Begin,
) -> dict[str, Any] | None:
    rows = folder.rows() if options.scores else {}
    own = options.shard.part(chosen.samples)
    missing = [sample for sample in own if sample.name not in rows and not folder.has_picture(sample)]
    if missing:
        service = connect(folder.key())
        folder.begin(SERVICE, service.describe())
        make_pictures(missing, folder, service.paint, options.in_flight, begin("Pictures", len(missing)))
    if not options.scores:
        return None
    unscored = [sample for sample in own if sample.name not in rows]
    if unscored:
        advance = begin("Scores", len(unscored))
        score_samples(unscored, folder, load(), folder.origin(), options.shard.name, advance)
    return _put_together(chosen, folder)


def _put_together(chosen: Benchmark, folder: BenchmarkFolder) -> dict[str, Any] | None:
    rows = folder.rows()
    names = [sample.name for sample in chosen.samples]
    if any(name not in rows for name in names):
        return None
    scores = read_scores({name: rows[name] for name in names})
    results = build_results(scores, *(folder.read(name) or {} for name in (RUN, SERVICE, HARNESS)))
    folder.write_results(results)
    return results


def _require_whole(benchmark: Benchmark, options: BenchmarkOptions) -> None:
    if benchmark.missing and not options.allow_missing:
        raise InvalidInputError(
            f"{count_sentence(benchmark)} Get the whole checkout again, or go on without with --allow-missing; "
            "the numbers then compare with no others."
        )


def count_sentence(benchmark: Benchmark) -> str:
    """How much there is, and what is missing."""
    count = f"{benchmark.num_combinations} combinations and {len(benchmark.samples)} samples"
    if benchmark.missing:
        count += f"; missing: {', '.join(benchmark.missing)}"
    if benchmark.is_whole:
        return f"{count}, as the authors count."
    return f"{count}. The authors have {NUM_COMBINATIONS} and {NUM_SAMPLES}."


def _describe(benchmark: Benchmark, chosen: Benchmark, options: BenchmarkOptions) -> dict[str, Any]:
    return {
        "version": VERSION,
        "benchmark": {
            "digest": benchmark.digest,
            "combinations": chosen.num_combinations,
            "samples": len(chosen.samples),
            "missing": list(benchmark.missing),
            "whole": chosen.is_whole,
            "few": options.few,
        },
        "seed": options.seed,
        "seed_of_a_picture": "crc32 of seed and sample",
        "request": dict(options.request),
    }


def _harness(options: BenchmarkOptions) -> dict[str, Any]:
    return {"version": VERSION, **options.judges.describe(), **RULES}
