"""How fast the data pipeline is on this machine, with stand-ins for all models, and what memory its processes hold.

    python benchmarks/data_pairs.py --films 300 --folder runs/footage       # writes the footage
    python benchmarks/data_speed.py runs/footage
    python benchmarks/data_speed.py runs/small-footage --memory 20000       # writes small films first

The first prints clips for each second of processor time of each stage without a model, beside a plain loop that only decodes and
resizes, and clips a second of ``msd data run`` with all its processes on one core and on two: what each further clip takes, from
a run of few films and one of many, so that neither Ray's start nor the order of its tasks counts. All are medians. Use
an idle machine; the load is printed beside the figures. The second prints the memory of all processes while so many clips
pass. Both print JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from benchmarks.data_pairs import ROOT, STAND_INS
from ms_lab.data.clips.reading import read_clips
from ms_lab.data.clips.video import kept_pixels
from ms_lab.data.config import STAGES, PipelineConfig, load_config
from ms_lab.data.items import Clip
from ms_lab.data.sources import find_footage
from ms_lab.data.stages.base import build_stages
from ms_lab.data.writing.parts import write_part
from ms_lab.footage.films import TRUTH, VIDEOS, write_footage
from ms_lab.footage.generator import FilmDrawer, FilmOdds
from ms_lab.mini.sprites import SpritePack

PASSES, WITHOUT_MODELS = 5, ("entities", "filter", "choose")
_POLL_S = 5.0
# Few films are this part of all.
_FEW = 8


def settings(truth: Path, clip_s: float) -> dict[str, Any]:
    """Stand-ins and all else in tasks of one core, which are then a single step, and clips of this length."""
    options = {"truth": str(truth.absolute())}
    parts: dict[str, Any] = {
        name: {"use": f"ms_lab.footage.stand_ins:StandIn{kind}", "options": options} for name, kind in STAND_INS.items()
    }
    tasks = {name: {"cpus": 1.0, "actors": 0, "gpus": 0.0, "batch": 4} for name in ("clips", *STAGES)}
    return {**parts, "resources": tasks, "clips": {"max_clip_s": clip_s, "min_clip_s": 0.4 * clip_s}}


def rate(work: Callable[[], int]) -> float:
    """Items for each second of processor time, of work that says how many items it did: the median of five passes."""
    rates: list[float] = []
    for _ in range(PASSES):
        # Not by the clock, which counts what other programs take.
        begun = time.process_time()
        rates.append(work() / (time.process_time() - begun))
    return round(statistics.median(rates), 2)


def plain_loop(folder: Path, config: PipelineConfig) -> int:
    """Decode all films and resize a frame each tenth of a second; returns how many there were."""
    kept = 0
    for path in sorted((folder / VIDEOS).glob("*.mp4")):
        container: Any = av.open(str(path))
        with container:
            last = -1.0
            for frame in container.decode(video=0):
                if frame.time >= last + 1 / config.clips.looks_per_s - 1e-6:
                    kept_pixels(frame, config.clips.max_side)
                    kept, last = kept + 1, frame.time
    return kept


def stage_rates(folder: Path, config: PipelineConfig) -> dict[str, float]:
    """Clips for each second of processor time: of each stage without a model, and of the plain loop."""
    footage = find_footage([folder / VIDEOS])

    def read() -> list[Clip]:
        return [clip for piece in footage for clip in read_clips(piece, config.clips) if isinstance(clip, Clip)]

    clips, rates = read(), dict[str, float]()
    count = len(clips)

    def loop() -> int:
        plain_loop(folder, config)
        return count

    rates["decode and resize in a plain loop"] = rate(loop)
    rates["clips"] = rate(lambda: len(read()))
    for name, stage in build_stages(config).items():
        if name in WITHOUT_MODELS:
            rates[name] = rate(lambda own=stage, before=clips: len(own(before)))
        clips = stage(clips)
    with tempfile.TemporaryDirectory() as parts:
        rates["write"] = rate(lambda: len([write_part(Path(parts), clip, config.write) for clip in clips]))
    return rates


@dataclass(frozen=True, slots=True)
class Run:
    """A run of ``msd data run``.

    Attributes:
        seconds: from its start to its end.
        clips: that it wrote.
        held: clips written, and megabytes of all its processes at that time.
    """

    seconds: float
    clips: int
    held: tuple[tuple[int, float], ...]


def run_pinned(films: Sequence[Path], truth: Path, cores: str, clip_s: float, watch: bool = False) -> Run:
    """``msd data run`` on these films, with all its processes on these cores."""
    with tempfile.TemporaryDirectory() as scratch:
        toml, out = Path(scratch) / "own.toml", Path(scratch) / "out"
        toml.write_text(as_toml(settings(truth, clip_s)), encoding="utf-8")
        command = ["taskset", "-c", cores, sys.executable, "-m", "cli.main", "data", "run", *map(str, films)]
        begun = time.monotonic()
        running = subprocess.Popen(
            [*command, "--out", str(out), "--config", str(toml)],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            # Ray's workers would give way to every other program.
            env={**os.environ, "RAY_worker_niceness": "0"},
        )
        held: list[tuple[int, float]] = []
        while not ended(running, _POLL_S):
            if watch:
                held.append((count_clips(out), tree_megabytes(running.pid)))
        seconds = time.monotonic() - begun
        if running.returncode:
            raise SystemExit(f"msd data run ended with {running.returncode} after {count_clips(out)} clips.")
        return Run(seconds, count_clips(out), tuple(held))


def ended(running: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        running.wait(patience_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def count_clips(out: Path) -> int:
    """Clips whose parts a run has written."""
    return sum(1 for _ in (out / "work").rglob("*.tar"))


def rates_by_cores(folder: Path, clip_s: float) -> dict[str, list[float]]:
    """Clips a second on one core and on two, of each pass: more clips by the time that they take more."""
    films = sorted((folder / VIDEOS).glob("*.mp4"))
    rates: dict[str, list[float]] = {"0": [], "0,1": []}
    for _ in range(PASSES):
        for cores, own in rates.items():
            few, many = (run_pinned(films[: len(films) // part], folder / TRUTH, cores, clip_s) for part in (_FEW, 1))
            own.append((many.clips - few.clips) / (many.seconds - few.seconds))
    return rates


def write_small_footage(folder: Path, clips: int) -> None:
    """Films of at least so many clips, so small that Ray's own work outweighs theirs."""
    pack = SpritePack.load(ROOT / "assets" / "smoke-sprites.zip")
    odds = FilmOdds(shots=(4, 4), duration_s=(1.0, 1.25), subjects=(1.0,), fault=0.0, copies=0.0, bar=0.0, size=64)
    write_footage(folder, FilmDrawer(pack, odds).films(math.ceil(clips / odds.shots[0]), seed=1), pack)


def memory(folder: Path, clips: int) -> dict[str, Any]:
    """Megabytes of all processes after a tenth of the clips, and how much more they held later."""
    if not (folder / TRUTH).is_file():
        write_small_footage(folder, clips)
    run = run_pinned(sorted((folder / VIDEOS).glob("*.mp4")), folder / TRUTH, "0,1", clip_s=2.5, watch=True)
    tenths = [[size for done, size in run.held if done * 10 // run.clips == tenth] for tenth in range(1, 10)]
    medians = [round(statistics.median(own)) for own in tenths if own]
    return {
        "clips": run.clips,
        "seconds": round(run.seconds),
        "megabytes_by_tenths": medians,
        "growth": round(medians[-1] / medians[0] - 1, 4),
    }


def tree_megabytes(pid: int) -> float:
    """Private memory and the share of shared memory of a process and all below it."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        # Each thread has children of its own.
        children = [own for path in Path(f"/proc/{pid}/task").glob("*/children") for own in path.read_text().split()]
    except OSError:  # It has ended.
        return 0.0
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own / 1024 + sum(tree_megabytes(int(child)) for child in children)


def as_toml(content: dict[str, Any], name: str = "") -> str:
    """Tables of plain values."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in content.items() if not isinstance(value, dict)]
    tables = [as_toml(value, f"{name}.{key}".strip(".")) for key, value in content.items() if isinstance(value, dict)]
    return "\n".join([*([f"[{name}]"] if name else []), *plain, *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="footage that benchmarks/data_pairs.py has written")
    parser.add_argument("--clip-s", type=float, default=2.5, help="longest clip; shorter ones make more items")
    parser.add_argument("--stages-only", action="store_true", help="leave out the runs through Ray")
    parser.add_argument("--memory", type=int, metavar="CLIPS", help="only look at the memory while so many clips pass")
    options = parser.parse_args()
    figures: dict[str, Any] = {"load_before": os.getloadavg()}
    if options.memory is not None:
        figures |= memory(options.folder, options.memory)
    else:
        changes = settings(options.folder / TRUTH, options.clip_s)
        figures["clips_per_core_s"] = stage_rates(options.folder, load_config(None, changes))
    if options.memory is None and not options.stages_only:
        rates = rates_by_cores(options.folder, options.clip_s)
        ratios = [two / one for one, two in zip(*rates.values(), strict=True)]
        figures |= {"clips_a_second": rates, "two_cores_by_one": statistics.median(ratios), "of_each_pass": ratios}
    print(json.dumps({**figures, "load_after": os.getloadavg()}, indent=1))


if __name__ == "__main__":
    main()
