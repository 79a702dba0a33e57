"""One run from footage to shards: what is done already is skipped, the rest goes through Ray, then the shards are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ms_core.errors import InvalidInputError, MSDiffusionError
from ms_lab.data.clips.reading import Fault
from ms_lab.data.config import PipelineConfig
from ms_lab.data.engine.footage_jobs import all_faults, is_settled, mark_begin, open_jobs
from ms_lab.data.engine.tally import StageCount, Tally
from ms_lab.data.models.places import find_model
from ms_lab.data.sources import Footage, find_footage
from ms_lab.data.writing.folder import RunFolder
from ms_lab.data.writing.manifest import build_manifest, write_drops, write_manifest
from ms_lab.data.writing.parts import Part, read_index
from ms_lab.data.writing.shards import plan_samples, write_shards

LOCAL = "local"
# Of a local cluster, in bytes; what does not fit is spilled to disk.
_OBJECT_STORE = 1 << 30
_POLL_S = 0.5
_ROUNDS = 3

OnCounts = Callable[[dict[str, StageCount]], None]
OnShards = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        manifest: of the set.
        footage, skipped: pieces of footage, and those that were done before.
        faults: what could not be used.
    """

    manifest: dict[str, Any]
    footage: int
    skipped: int
    faults: tuple[Fault, ...]


def run_pipeline(  # noqa: PLR0913 - what a run is made of
    inputs: Sequence[Path],
    out: Path,
    config: PipelineConfig,
    address: str = LOCAL,
    on_counts: OnCounts = lambda _: None,
    on_shards: OnShards = lambda _, __: None,
) -> RunResult:
    """Make a set of samples, or go on with one.

    Args:
        inputs: folders of footage, or videos.
        out: folder of the run; on a cluster one that all machines see.
        config: everything that decides it.
        address: of a Ray cluster; ``local`` starts one on this machine.
        on_counts: called while the stages work.
        on_shards: called with the samples written and those planned.

    Raises:
        StartupError: another run works in ``out``.
        InvalidInputError: there is no footage, or ``out`` was begun with another configuration.
        ModelNotFoundError: a model is not on this machine.
        StorageFullError: the disk is full; whole shards stay.
    """
    footage = find_footage(inputs)
    check_models(config)
    require_empty_or_own(out)
    folder = RunFolder(out)
    with folder.locked():
        folder.begin(config)
        jobs = left = open_jobs(folder, footage)
        # Should a lost machine have taken results with it, what is left is done again.
        for _ in range(_ROUNDS):
            if not left:
                break
            _run_stages(folder, left, config, address, on_counts)
            left = [job for job in left if not is_settled(folder, job)]
        faults = all_faults(folder, footage)
        manifest = finish(folder, faults, config, on_shards)
    return RunResult(manifest, len(footage), len(footage) - len(jobs), tuple(faults))


def check_models(config: PipelineConfig) -> None:
    """Look for every model that the configuration names, before anything is started.

    Raises:
        ModelNotFoundError: one is not on this machine.
    """
    for part in (config.caption, config.grounding, config.masks, config.match):
        if isinstance(part.options.get("model"), str):
            find_model(part.options["model"])
    if config.filters.unsafe_model:
        find_model(config.filters.unsafe_model)


def finish(
    folder: RunFolder, faults: Sequence[Fault], config: PipelineConfig, on_shards: OnShards = lambda _, __: None
) -> dict[str, Any]:
    """The ordered last pass over all parts: shards, drops and manifest, which it returns."""
    parts = _remaining(folder)
    samples, duplicates = plan_samples(parts, config)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_shards(done, len(samples))

    shards = write_shards(folder, samples, config.write, advance)
    write_drops(folder, parts, duplicates)
    manifest = build_manifest(parts, samples, shards, duplicates, faults, folder.erased(), config)
    write_manifest(folder, manifest)
    return manifest


def _remaining(folder: RunFolder) -> list[Part]:
    """All parts, without those of erased sources, which are removed: what a killed run left behind may have written them since."""
    erased, kept = set(folder.erased()), list[Part]()
    for part in map(read_index, folder.all_parts()):
        if erased.isdisjoint(part.source.known_as):
            kept.append(part)
        else:
            part.path.unlink()
    return kept


def _run_stages(
    folder: RunFolder, jobs: Sequence[Footage], config: PipelineConfig, address: str, on_counts: OnCounts
) -> None:
    from ms_lab.data.engine.cluster import connected
    from ms_lab.data.engine.flow import build_flow

    mark_begin(folder)
    with connected(address, _OBJECT_STORE) as cluster:
        tally = cluster.remote(Tally)
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(_POLL_S):
                on_counts(cluster.get(tally.read.remote()))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            for _ in build_flow(folder, jobs, config, tally).iter_rows():
                pass
        except Exception as error:
            raise _own_error(error) from error
        finally:
            stop.set()
            watcher.join()
        on_counts(cluster.get(tally.read.remote()))


def _own_error(error: BaseException) -> BaseException:
    """The error of ours that Ray has wrapped, if it is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MSDiffusionError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return error


def require_empty_or_own(out: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        InvalidInputError: it does.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise InvalidInputError(f"{out} is not empty and was not made by msd data run; give another folder.")
