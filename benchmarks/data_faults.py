"""How many planted faults the data pipeline's filters catch: scenes that are made to have one fault each.

    python benchmarks/data_faults.py --generator first --seed 31 --scenes 100

Each scene is a film of one shot with the fault planted in it; for ``near_duplicate`` it is a film and its copy. Prints for each filter as
JSON the planted items that reached it (detections in fitting boxes, pairs, samples), those that it caught, and the 95 % interval by
resampling scenes. Stand-ins do the work of all models, with their errors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.data_pairs import GENERATORS, ROOT, configuration, count_duplicates, interval, run_stages
from ms_lab.data.config import PipelineConfig
from ms_lab.data.filters.verdicts import DUPLICATE
from ms_lab.data.items import Clip
from ms_lab.footage.films import TRUTH, write_footage
from ms_lab.footage.generator import FilmOdds
from ms_lab.footage.scorer import score
from ms_lab.footage.script import FAULTS, Film
from ms_lab.footage.truth import Truth
from ms_lab.mini.sprites import SpritePack


def planted_odds(odds: FilmOdds, fault: str) -> FilmOdds:
    """Films of one shot that all have this fault."""
    one = replace(odds, shots=(1, 1), copies=0.0, fault=1.0, faults=(fault,))
    return replace(one, copies=1.0, fault=0.0) if fault == DUPLICATE else one


def planted_films(generator: str, fault: str, scenes: int, seed: int, pack: SpritePack) -> Iterator[Film]:
    """So many films with this fault; for near-duplicates, so many and a copy of each."""
    kind = GENERATORS[generator]
    count = 2 * scenes if fault == DUPLICATE else scenes
    return kind(pack, planted_odds(kind(pack).odds, fault)).films(count, seed)


def count_scene(clips: list[Clip], truth: Truth, fault: str, config: PipelineConfig) -> tuple[int, int]:
    """The planted items of a scene, and those that were caught."""
    if fault == DUPLICATE:
        counts = count_duplicates(clips, truth, config)
        return counts["copied_samples"], counts["caught"]
    counted = score(clips, truth, config.choose.min_gap_s, config.filters.min_area)
    return counted.planted[fault], counted.caught[fault]


def by_scene(clips: Sequence[Clip], truth: Truth) -> list[list[Clip]]:
    """The clips of each film; those of a copy stand with what it copies."""
    scenes: dict[str, list[Clip]] = {}
    for clip in clips:
        scenes.setdefault(truth.frames[clip.frames[0].id].shot, []).append(clip)
    return list(scenes.values())


def measure(generator: str, fault: str, scenes: int, seed: int) -> dict[str, Any]:
    pack = SpritePack.load(ROOT / "assets" / "smoke-sprites.zip")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_footage(folder, planted_films(generator, fault, scenes, seed, pack), pack)
        config, truth = configuration(folder / TRUTH), Truth.load(folder / TRUTH)
        clips = list(run_stages(folder, config))
    counts = [count_scene(own, truth, fault, config) for own in by_scene(clips, truth)]
    counts = [(planted, caught) for planted, caught in counts if planted]
    planted, caught = (sum(numbers) for numbers in zip(*counts, strict=True))
    return {
        "filter": fault,
        "scenes": len(counts),
        "planted": planted,
        "caught": caught,
        "recall": round(caught / planted, 4),
        "interval": interval([own for _, own in counts], [own for own, _ in counts]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", choices=sorted(GENERATORS), default="first")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=100, help="for each filter")
    parser.add_argument("--fault", action="append", choices=(*FAULTS, DUPLICATE), help="only this one")
    options = parser.parse_args()
    for fault in options.fault or (*FAULTS, DUPLICATE):
        figures = measure(options.generator, fault, options.scenes, options.seed)
        print(json.dumps({"generator": options.generator, "seed": options.seed, **figures}), flush=True)


if __name__ == "__main__":
    main()
