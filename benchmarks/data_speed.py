"""How fast the data pipeline is on this machine, with stand-ins for all models, and what memory its processes hold.

    python benchmarks/data_pairs.py --films 40 --folder runs/footage        # writes the footage
    python benchmarks/data_speed.py runs/footage

Prints JSON: clips for each second of processor time of each stage without a model (median of five passes) beside a plain loop
that only decodes and resizes; clips a second of ``msd data run`` with all its processes on one core and on two; and the memory of these processes
from the first tenth of the clips to the last. Use an idle machine; the load is printed beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from benchmarks.data_pairs import STAND_INS
from ms_lab.data.clips.reading import read_clips
from ms_lab.data.clips.video import kept_pixels
from ms_lab.data.config import PipelineConfig, load_config
from ms_lab.data.items import Clip
from ms_lab.data.sources import find_footage
from ms_lab.data.stages.base import build_stages
from ms_lab.data.writing.parts import write_part
from ms_lab.footage.films import TRUTH, VIDEOS

PASSES, WITHOUT_MODELS = 5, ("entities", "filter", "choose")
_POLL_S, _WARM_UP = 1.0, 0.1


def settings(folder: Path, clip_s: float) -> dict[str, Any]:
    """Stand-ins in tasks, so that cores are all that decides, and clips of this length."""
    options = {"truth": str((folder / TRUTH).absolute())}
    parts: dict[str, Any] = {
        name: {"use": f"ms_lab.footage.stand_ins:StandIn{kind}", "options": options} for name, kind in STAND_INS.items()
    }
    tasks = {name: {"actors": 0, "gpus": 0.0, "batch": 4} for name in STAND_INS}
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


def run_pinned(folder: Path, cores: str, clip_s: float) -> dict[str, Any]:
    """``msd data run`` with its whole tree on these cores: clips a second between its first and last part, and memory."""
    with tempfile.TemporaryDirectory() as scratch:
        toml, out = Path(scratch) / "own.toml", Path(scratch) / "out"
        toml.write_text(as_toml(settings(folder, clip_s)), encoding="utf-8")
        command = ["taskset", "-c", cores, sys.executable, "-m", "cli.main", "data", "run", str(folder / VIDEOS)]
        running = subprocess.Popen(
            [*command, "--out", str(out), "--config", str(toml)], stdout=subprocess.DEVNULL, start_new_session=True
        )
        held: list[tuple[int, float]] = []
        while running.poll() is None:
            done = len(list((out / "work").rglob("*.tar")))
            if done:
                held.append((done, tree_megabytes(running.pid)))
            time.sleep(_POLL_S)
        times = sorted(path.stat().st_mtime for path in (out / "work").rglob("*.tar"))
        if running.returncode or len(times) < 2:
            raise SystemExit(f"msd data run ended with {running.returncode} after {len(times)} clips.")
    warm = [megabytes for done, megabytes in held if done >= _WARM_UP * len(times)]
    return {
        "cores": cores,
        "clips": len(times),
        "clips_per_s": round((len(times) - 1) / (times[-1] - times[0]), 3),
        "megabytes_after_warm_up": round(warm[0]) if warm else None,
        "most_megabytes_later": round(max(warm)) if warm else None,
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
    parser.add_argument("--clip-s", type=float, default=10.0, help="longest clip; shorter ones make more items")
    parser.add_argument("--stages-only", action="store_true", help="leave out the runs through Ray")
    options = parser.parse_args()
    changes = settings(options.folder, options.clip_s)
    figures: dict[str, Any] = {"load_before": os.getloadavg()}
    figures["clips_per_core_s"] = stage_rates(options.folder, load_config(None, changes))
    if not options.stages_only:
        runs = [run_pinned(options.folder, cores, options.clip_s) for cores in ("0", "0,1")]
        figures |= {"runs": runs, "two_cores_by_one": round(runs[1]["clips_per_s"] / runs[0]["clips_per_s"], 2)}
    print(json.dumps({**figures, "load_after": os.getloadavg()}, indent=1))


if __name__ == "__main__":
    main()
