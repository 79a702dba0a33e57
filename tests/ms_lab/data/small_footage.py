"""A few short films for tests, and a run over them without Ray."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ms_lab.data.config import PipelineConfig, load_config
from ms_lab.data.engine.footage_jobs import open_jobs, read_job
from ms_lab.data.engine.run import finish
from ms_lab.data.items import Clip
from ms_lab.data.sources import find_footage
from ms_lab.data.stages.base import build_stages
from ms_lab.data.writing.folder import RunFolder
from ms_lab.data.writing.parts import write_part
from ms_lab.footage.films import TRUTH, VIDEOS, write_footage
from ms_lab.footage.generator import FilmDrawer, FilmOdds
from ms_lab.mini.sprites import SpritePack
from tests.support.paths import ROOT

STAND_INS = {"caption": "Captioner", "grounding": "Detector", "masks": "Segmenter", "match": "Matcher"}


@functools.cache
def small_pack() -> SpritePack:
    return SpritePack.load(ROOT / "assets" / "smoke-sprites.zip")


def small_footage(folder: Path, films: int = 3, seed: int = 5) -> Path:
    """Films of one or two short shots at 128 pixels."""
    odds = FilmOdds(shots=(1, 2), duration_s=(1.5, 2.0), fault=0.0, size=128, copies=0.0)
    write_footage(folder, FilmDrawer(small_pack(), odds).films(films, seed), small_pack())
    return folder


def stand_in_changes(footage: Path, **changes: Any) -> dict[str, Any]:
    """What a configuration says to use stand-ins: tasks of several steps, the first of which reads and captions."""
    truth = str(footage / TRUTH)
    parts = {
        name: {"use": f"ms_lab.footage.stand_ins:StandIn{kind}", "options": {"truth": truth}}
        for name, kind in STAND_INS.items()
    }
    tasks = {name: {"cpus": 1.0, "actors": 0, "gpus": 0.0} for name in ("clips", *STAND_INS)}
    return {**parts, "resources": tasks, "write": {"samples_per_shard": 2, "heldout_share": 0.3}, **changes}


def run_directly(footage: Path, out: Path, config: PipelineConfig) -> list[Clip]:
    """All stages in this process, without Ray."""
    folder, done = RunFolder(out), list[Clip]()
    stages = build_stages(config)
    for piece in open_jobs(folder, find_footage([footage / VIDEOS])):
        for clip in read_job(folder, piece, config):
            clips = [clip]
            for stage in stages.values():
                clips = stage(clips)
            write_part(folder.parts, clips[0], config.write)
            done += clips
    finish(folder, (), config)
    return done


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").glob("*.tar"))}


def small_config(footage: Path, **changes: Any) -> PipelineConfig:
    return load_config(None, stand_in_changes(footage, **changes))


def write_toml(path: Path, changes: dict[str, Any]) -> None:
    """A configuration file of two levels of tables, with options as a third."""
    tables: list[str] = []

    def add(name: str, table: dict[str, Any]) -> None:
        plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
        lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
        tables.append("\n".join([f"[{name}]", *lines]))
        for key, value in table.items():
            if isinstance(value, dict):
                add(f"{name}.{key}", value)

    for name, table in changes.items():
        add(name, table)
    path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
