"""How many of the data pipeline's pairs are right, on made footage with stand-ins for all models.

    python benchmarks/data_pairs.py --generator first --films 80 --seed 3

Prints the figures as JSON: with the filters, and beside them without any, with 95 % intervals by resampling films; near-duplicates
are counted among samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ms_lab.data.clips.reading import read_clips
from ms_lab.data.config import PipelineConfig, load_config
from ms_lab.data.items import Clip
from ms_lab.data.sources import find_footage
from ms_lab.data.stages.base import build_stages
from ms_lab.data.writing.parts import read_index, write_part
from ms_lab.data.writing.shards import find_duplicates
from ms_lab.evaluation.report.intervals import Design, bootstrap_ratio, wilson
from ms_lab.footage.films import TRUTH, VIDEOS, write_footage
from ms_lab.footage.generator import FilmDrawer
from ms_lab.footage.scorer import Score, score
from ms_lab.footage.second_generator import SecondDrawer
from ms_lab.footage.truth import Truth
from ms_lab.mini.sprites import SpritePack

ROOT = Path(__file__).resolve().parents[1]
GENERATORS = {"first": FilmDrawer, "second": SecondDrawer}
STAND_INS = {"caption": "Captioner", "grounding": "Detector", "masks": "Segmenter", "match": "Matcher"}


def configuration(truth: Path) -> PipelineConfig:
    parts = {
        name: {"use": f"ms_lab.footage.stand_ins:StandIn{kind}", "options": {"truth": str(truth)}}
        for name, kind in STAND_INS.items()
    }
    return load_config(None, parts)


def run_stages(folder: Path, config: PipelineConfig) -> Iterator[Clip]:
    """The clips of all films, one after another: a large set's pictures do not fit into the memory."""
    stages = build_stages(config)
    for footage in find_footage([folder / VIDEOS]):
        for clip in read_clips(footage, config.clips):
            clips = [clip]
            for stage in stages.values():
                clips = stage(clips)
            yield from clips


def by_film(clips: list[Clip], truth: Truth, config: PipelineConfig) -> list[Score]:
    """The counts of each film; a copy counts to what it copies."""
    films: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        films[truth.frames[clip.frames[0].id].shot.partition("/")[0]].append(clip)
    return [score(own, truth, config.choose.min_gap_s, config.filters.min_area) for own in films.values()]


def interval(parts: Sequence[int], wholes: Sequence[int]) -> list[float]:
    """The 95 % interval of the sum of ``parts`` by that of ``wholes``, if films are drawn again: each has one of both."""
    most = max(*wholes, 1)
    counts = [np.asarray(values) / most for values in (parts, wholes)]
    estimate = bootstrap_ratio(counts[0], counts[1], Design.of_scenes(len(wholes)))
    if estimate is None:
        return []
    if estimate.low == estimate.high:
        # Where all films agree, drawing them again shows no spread.
        estimate = wilson(estimate.value, len(wholes))
    return [round(estimate.low, 4), round(min(1.0, estimate.high), 4)]


def intervals(films: Sequence[Score]) -> dict[str, list[float]]:
    """Of the shares that have a goal."""
    return {
        "precision": interval([film.right for film in films], [film.made for film in films]),
        "kept": interval([film.kept for film in films], [film.true for film in films]),
        "good_pairs_dropped": interval([film.found - film.kept for film in films], [film.found for film in films]),
    }


def count_duplicates(clips: list[Clip], truth: Truth, config: PipelineConfig) -> dict[str, int]:
    """Samples of copied shots and of their originals, of which one each should go, and what went."""
    shots: dict[str, str] = {clip.id: truth.frames[clip.frames[0].id].shot for clip in clips}
    copied = {
        truth.frames[clip.frames[0].id].shot
        for clip in clips
        if any(subject.fault == "near_duplicate" for subject in truth.frames[clip.frames[0].id].subjects)
    }
    with tempfile.TemporaryDirectory() as folder:
        parts = [read_index(write_part(Path(folder), clip, config.write)) for clip in clips]
    dropped = find_duplicates(parts, config.filters.max_hash_distance)
    groups: dict[str, list[str]] = {}
    for part in parts:
        groups.setdefault(shots[part.index["clip"]], []).extend(sample["id"] for sample in part.index["samples"])
    pairs = [own for shot, own in groups.items() if shot in copied and len(own) == 2]
    others = [name for shot, own in groups.items() if shot not in copied for name in own]
    return {
        "copied_samples": len(pairs),
        "caught": sum(any(name in dropped for name in own) for own in pairs),
        "other_samples": len(others),
        "others_dropped": sum(name in dropped for name in others),
    }


def measure(generator: str, films: int, seed: int, folder: Path) -> dict[str, Any]:
    pack = SpritePack.load(ROOT / "assets" / "smoke-sprites.zip")
    if not (folder / TRUTH).is_file():
        write_footage(folder, GENERATORS[generator](pack).films(films, seed), pack)
    config, truth = configuration(folder / TRUTH), Truth.load(folder / TRUTH)
    clips = list(run_stages(folder, config))
    figures = score(clips, truth, config.choose.min_gap_s, config.filters.min_area).summary()
    facts = {"generator": generator, "films": films, "seed": seed, "clips": len(clips)}
    return {
        **facts,
        "thresholds": config.digest()[:12],
        **figures,
        "intervals": intervals(by_film(clips, truth, config)),
        "near_duplicates": count_duplicates(clips, truth, config),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", choices=sorted(GENERATORS), default="first")
    parser.add_argument("--films", type=int, default=80)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the footage is kept, to be used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        print(json.dumps(measure(options.generator, options.films, options.seed, folder), indent=1))


if __name__ == "__main__":
    main()
