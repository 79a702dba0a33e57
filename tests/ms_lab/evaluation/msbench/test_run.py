"""A run from the checkout to its results: what is there is not done again, and parts are put together."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any

import pytest
from PIL import Image

from ms_core.errors import InvalidInputError, ModelNotFoundError, StartupError
from ms_lab.evaluation.msbench.folder import BenchmarkFolder
from ms_lab.evaluation.msbench.making import MOST_FAILURES, NoPictureError
from ms_lab.evaluation.msbench.models import JudgeNames
from ms_lab.evaluation.msbench.run import BenchmarkOptions, Shard, run_msbench
from ms_lab.evaluation.msbench.samples import Benchmark, Sample, read_benchmark
from tests.ms_lab.evaluation.msbench.colour_judges import colour_judges, painted
from tests.support.small_msbench import NUM_SAMPLES, write_checkout


@pytest.fixture(scope="module")
def benchmark_of_24(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return read_benchmark(write_checkout(tmp_path_factory.mktemp("checkout")))


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> JudgeNames:
    """Folders in the judges' place: only their digests are taken."""
    folder = tmp_path_factory.mktemp("judges")
    for name in ("clip", "dino", "owl"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(name)
    return JudgeNames(*(str(folder / name) for name in ("clip", "dino", "owl")))


class PaintedPictures:
    """A service that paints right pictures, and remembers what it was asked."""

    def __init__(self, fail: Callable[[Sample, int], bool] = lambda *_: False) -> None:
        self.asked: list[tuple[str, int]] = []
        self.keys: list[str] = []
        self.at_once = self.most_at_once = 0
        self._fail, self._lock = fail, Lock()

    def connect(self, key: str) -> PaintedPictures:
        self.keys.append(key)
        return self

    def describe(self) -> dict[str, Any]:
        return {"model": "painter", "defaults": {"steps": 1}, "preset": None}

    def paint(self, sample: Sample, attempt: int, stop: Event) -> bytes:
        with self._lock:
            self.asked.append((sample.name, attempt))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        stop.wait(0.002)
        with self._lock:
            self.at_once -= 1
        if self._fail(sample, attempt):
            raise NoPictureError("out of paint.")
        buffer = io.BytesIO()
        painted(sample).save(buffer, "PNG")
        return buffer.getvalue()


def no_service(key: str) -> PaintedPictures:
    raise AssertionError(key)


def no_judges() -> Any:
    raise AssertionError("the judges are loaded")


def silent(_: str, __: int) -> Callable[[int], None]:
    return lambda _: None


def run(  # noqa: PLR0913 - what a test may exchange
    benchmark: Benchmark,
    out: Path,
    names: JudgeNames,
    connect: Callable[[str], Any],
    load: Callable[[], Any] = colour_judges,
    **options: Any,
) -> dict[str, Any] | None:
    return run_msbench(benchmark, out, BenchmarkOptions(judges=names, **options), connect, load, silent)


def test_all_is_made_once_scored_and_written_with_every_choice(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path
) -> None:
    service = PaintedPictures()
    results = run(benchmark_of_24, tmp_path, names, service.connect, in_flight=3, seed=5, request={"scale": 0.5})
    assert results is not None
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert Counter(service.asked) == {(sample.name, 0): 1 for sample in benchmark_of_24.samples}
    assert 1 < service.most_at_once <= 3
    assert results["types"]["all"]["samples"] == NUM_SAMPLES
    assert results["run"]["seed"] == 5
    assert results["run"]["request"] == {"scale": 0.5}
    assert results["run"]["benchmark"]["digest"] == benchmark_of_24.digest
    assert results["run"]["benchmark"]["whole"] is False
    assert results["service"]["model"] == "painter"
    assert results["harness"]["detector_threshold"] == 0.2
    assert {"model", "sha256"} == set(results["harness"]["clip"])
    assert "squashed" in results["harness"]["resizing"]


def test_a_run_goes_on_where_it_was(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    def broken_off(key: str) -> PaintedPictures:
        def fail(sample: Sample, attempt: int) -> bool:
            if len(service.asked) > 9:
                raise KeyboardInterrupt
            return False

        service = PaintedPictures(fail)
        return service.connect(key)

    with pytest.raises(KeyboardInterrupt):
        run(benchmark_of_24, tmp_path, names, broken_off, in_flight=2)
    made = {path.relative_to(tmp_path / "pictures").with_suffix("").as_posix(): path.stat().st_mtime_ns
            for path in (tmp_path / "pictures").rglob("*.png")}  # fmt: skip
    assert 5 < len(made) < NUM_SAMPLES
    service = PaintedPictures()
    assert run(benchmark_of_24, tmp_path, names, service.connect) is not None
    assert {name for name, _ in service.asked} == {s.name for s in benchmark_of_24.samples} - set(made)
    assert all((tmp_path / "pictures" / f"{name}.png").stat().st_mtime_ns == time for name, time in made.items())
    # By now nothing is left to be done, and nobody is asked.
    assert run(benchmark_of_24, tmp_path, names, no_service, no_judges) is not None


def test_scores_that_were_cut_off_are_made_again(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    whole = run(benchmark_of_24, tmp_path, names, PaintedPictures().connect)
    path = tmp_path / "scores" / "1-of-1.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "results.json").unlink()
    assert run(benchmark_of_24, tmp_path, names, no_service) == whole
    assert len(path.read_text().splitlines()) == NUM_SAMPLES
    path.write_text("{\n" + path.read_text())
    with pytest.raises(InvalidInputError, match=r"line 1, is no JSON\. Delete the file"):
        run(benchmark_of_24, tmp_path, names, no_service)


def test_parts_of_several_machines_make_the_same_results(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path
) -> None:
    whole = run(benchmark_of_24, tmp_path / "whole", names, PaintedPictures().connect)
    asked: list[str] = []
    for number in (1, 2, 3):
        service = PaintedPictures()
        out = tmp_path / f"machine-{number}"
        assert run(benchmark_of_24, out, names, service.connect, shard=Shard(number, 3)) is None
        asked += [name for name, _ in service.asked]
        assert not (out / "results.json").exists()
        # The pictures need not be brought together, the scores do.
        for path in [*(out / "scores").glob("*"), *out.glob("*.json"), out / "key"]:
            copy = tmp_path / "together" / path.relative_to(out)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    assert Counter(asked) == {sample.name: 1 for sample in benchmark_of_24.samples}
    assert run(benchmark_of_24, tmp_path / "together", names, no_service, no_judges) == whole


@pytest.mark.parametrize(
    ("name", "facts", "says"),
    [
        ("run.json", {"seed": 9}, r"is of other pictures than run\.json says"),
        ("service.json", {"model": "another"}, r"is of pictures by another service than service\.json says"),
    ],
)
def test_parts_of_other_pictures_are_not_put_together(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path, name: str, facts: dict[str, Any], says: str
) -> None:
    for number, out in ((1, tmp_path), (2, tmp_path / "second")):
        run(benchmark_of_24, out, names, PaintedPictures().connect, shard=Shard(number, 2))
    # What a machine with another seed, or before another service, would have written.
    path = tmp_path / "second" / "scores" / "2-of-2.jsonl"
    other = tmp_path / "second" / name
    other.write_text(json.dumps(json.loads(other.read_text()) | facts))
    stamp = BenchmarkFolder(tmp_path / "second").origin()
    rows = [json.loads(line) | stamp for line in path.read_text().splitlines()]
    (tmp_path / "scores" / path.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidInputError, match=rf"2-of-2\.jsonl {says}"):
        run(benchmark_of_24, tmp_path, names, no_service, no_judges)


@pytest.mark.parametrize("line", ["3", "[]", "null"])
def test_a_score_that_is_none_is_told(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path, line: str) -> None:
    run(benchmark_of_24, tmp_path, names, PaintedPictures().connect, few=1)
    path = tmp_path / "scores" / "1-of-1.jsonl"
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(InvalidInputError, match=r"line 1, is no JSON\. Delete the file"):
        run(benchmark_of_24, tmp_path, names, no_service, few=1)
    rows = [json.loads(each) for each in path.read_text().splitlines()[1:]]
    path.write_text("".join(json.dumps(row | {"dino": "much"}) + "\n" for row in rows))
    with pytest.raises(InvalidInputError, match="A score is damaged"):
        run(benchmark_of_24, tmp_path, names, no_service, few=1)


def test_two_commands_do_not_work_on_one_part(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    class Twice(PaintedPictures):
        def describe(self) -> dict[str, Any]:
            with pytest.raises(StartupError, match="Another run works"):
                run(benchmark_of_24, tmp_path, names, no_service, few=1, shard=Shard(1, 2))
            assert run(benchmark_of_24, tmp_path, names, PaintedPictures().connect, few=1, shard=Shard(2, 2)) is None
            return super().describe()

    run(benchmark_of_24, tmp_path, names, Twice().connect, few=1, shard=Shard(1, 2))
    assert run(benchmark_of_24, tmp_path, names, no_service, no_judges, few=1) is not None


def test_pictures_can_be_scored_in_another_way(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    run(benchmark_of_24, tmp_path, names, PaintedPictures().connect, few=1)
    others = JudgeNames(names.clip, names.dino, names.detector, 0.3)
    with pytest.raises(
        InvalidInputError, match=r"delete harness\.json and scores in this one to score its pictures anew"
    ):
        run(benchmark_of_24, tmp_path, others, no_service, few=1)
    (tmp_path / "harness.json").unlink()
    shutil.rmtree(tmp_path / "scores")
    results = run(benchmark_of_24, tmp_path, others, no_service, few=1)
    assert results is not None
    assert results["harness"]["detector_threshold"] == 0.3


def test_pictures_may_be_scored_later(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    missing = JudgeNames("nobody/clip", "nobody/dino", "nobody/owl")
    assert run(benchmark_of_24, tmp_path, missing, PaintedPictures().connect, no_judges, scores=False) is None
    assert run(benchmark_of_24, tmp_path, names, no_service) is not None


def test_a_missing_judge_is_told_before_any_picture_is_made(benchmark_of_24: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match="Get it with: hf download nobody/clip; or name its folder with --clip"
    ):
        run(benchmark_of_24, tmp_path, JudgeNames("nobody/clip"), no_service)


def test_jobs_that_fail_are_tried_once_more_by_the_next_run(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path
) -> None:
    bad = {sample.name for sample in benchmark_of_24.samples[3:5]}
    first = PaintedPictures(lambda sample, attempt: sample.name in bad)
    with pytest.raises(InvalidInputError, match=r"out of paint, and 1 more\. Run the same command again"):
        run(benchmark_of_24, tmp_path, names, first.connect)
    assert len(first.asked) == NUM_SAMPLES
    second = PaintedPictures()
    assert run(benchmark_of_24, tmp_path, names, second.connect) is not None
    # As another job than the one that failed.
    assert sorted(second.asked) == sorted((name, 1) for name in bad)


def test_a_service_that_always_fails_is_not_asked_for_all(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path
) -> None:
    service = PaintedPictures(lambda *_: True)
    with pytest.raises(InvalidInputError, match="out of paint, and"):
        run(benchmark_of_24, tmp_path, names, service.connect, in_flight=1)
    assert len(service.asked) in (MOST_FAILURES, MOST_FAILURES + 1)


def test_pictures_in_flight_are_given_up_when_one_cannot_be_asked_for(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path
) -> None:
    both, told = Barrier(2, timeout=20), list[bool]()

    class Refusing(PaintedPictures):
        def paint(self, sample: Sample, attempt: int, stop: Event) -> bytes:
            first = sample.name == benchmark_of_24.samples[0].name
            both.wait()
            if first:
                raise InvalidInputError("refused")
            told.append(stop.wait(20))
            raise RuntimeError

    with pytest.raises(InvalidInputError, match="refused"):
        run(benchmark_of_24, tmp_path, names, Refusing().connect, in_flight=2)
    assert told == [True]


def test_another_run_in_the_folder_is_refused(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    run(benchmark_of_24, tmp_path, names, PaintedPictures().connect)
    with pytest.raises(InvalidInputError, match=r"differs in seed\. Give another folder"):
        run(benchmark_of_24, tmp_path, names, no_service, seed=1)
    with pytest.raises(InvalidInputError, match="differs in benchmark.combinations"):
        run(benchmark_of_24, tmp_path, names, no_service, few=1)
    with pytest.raises(InvalidInputError, match="differs in detector_threshold"):
        run(benchmark_of_24, tmp_path, JudgeNames(names.clip, names.dino, names.detector, 0.3), no_service)
    (tmp_path / "harness.json").unlink()
    with pytest.raises(InvalidInputError, match="was scored in another way"):
        run(benchmark_of_24, tmp_path, JudgeNames(names.clip, names.dino, names.detector, 0.3), no_service)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        run(benchmark_of_24, tmp_path, names, no_service)


def test_another_model_does_not_go_on_with_the_pictures(
    benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path
) -> None:
    class Another(PaintedPictures):
        def describe(self) -> dict[str, Any]:
            return super().describe() | {"model": "another"}

    run(benchmark_of_24, tmp_path, names, PaintedPictures().connect, scores=False)
    next((tmp_path / "pictures").rglob("*.png")).unlink()
    with pytest.raises(InvalidInputError, match="differs in model"):
        run(benchmark_of_24, tmp_path, names, Another().connect)


def test_every_folder_has_a_key_of_its_own(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    service = PaintedPictures()
    for name in ("a", "b"):
        run(benchmark_of_24, tmp_path / name, names, service.connect, few=1, scores=False)
    next((tmp_path / "a").rglob("*.png")).unlink()
    run(benchmark_of_24, tmp_path / "a", names, service.connect, few=1, scores=False)
    first, other, again = service.keys
    assert first == again != other


def test_missing_pictures_are_told_and_may_be_done_without(names: JudgeNames, tmp_path: Path) -> None:
    checkout = write_checkout(tmp_path / "checkout")
    (checkout / "msbench" / "object" / "kettle.png").unlink()
    benchmark = read_benchmark(checkout)
    with pytest.raises(InvalidInputError, match=r"missing: kettle\..*--allow-missing"):
        run(benchmark, tmp_path / "out", names, no_service)
    results = run(benchmark, tmp_path / "out", names, PaintedPictures().connect, allow_missing=True)
    assert results is not None
    assert results["run"]["benchmark"]["missing"] == ["kettle"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="such as 1/4"):
        Shard.parse(text)


def test_shards_share_out_all_samples(benchmark_of_24: Benchmark) -> None:
    parts: Sequence[list[Sample]] = [Shard.parse(f"{n}/5").part(benchmark_of_24.samples) for n in range(1, 6)]
    assert sorted(s.name for part in parts for s in part) == sorted(s.name for s in benchmark_of_24.samples)
    assert max(map(len, parts)) - min(map(len, parts)) == 1


def test_a_picture_that_is_none_is_named(benchmark_of_24: Benchmark, names: JudgeNames, tmp_path: Path) -> None:
    run(benchmark_of_24, tmp_path, names, PaintedPictures().connect, scores=False)
    broken = tmp_path / "pictures" / f"{benchmark_of_24.samples[0].name}.png"
    Image.new("RGB", (4, 4)).save(broken)
    broken.write_bytes(broken.read_bytes()[:30])
    with pytest.raises(InvalidInputError, match="cannot be read.*Delete it and run the command again"):
        run(benchmark_of_24, tmp_path, names, no_service)
