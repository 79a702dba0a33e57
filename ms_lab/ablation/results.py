"""All numbers of an ablation, as ``ablation.json`` holds them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ms_core.errors import InvalidInputError
from ms_lab.ablation.measuring import Measures
from ms_lab.ablation.orders import Estimates, Order, differences, estimate, is_enough, judge_orders
from ms_lab.ablation.variants import FULL, VARIANTS
from ms_lab.data.writing.files import write_whole
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.report.results import code_commit, rounded

RESULTS, ASKED = "ablation.json", "asked.json"
SCALE_ZERO = "scale-0"


@dataclass(frozen=True, slots=True)
class Asked:
    """What all columns of one folder have in common.

    Attributes:
        bench_version, judge_version, method_version: of questions, judge, and variants with their recipe.
        scenes: how many, by group, of the validation half.
        scenes_fingerprint: digest of all that is asked of them.
        side: of the pictures, in pixels.
        pictures, batch_size: of the training of each variant.
        steps: of the sampling.
        sprites, artwork_digest: number of drawings to train on, and a digest of them.
        origin_digest: of the model whose VAE and image encoder all have.
    """

    bench_version: int
    judge_version: int
    method_version: int
    scenes: dict[str, int]
    scenes_fingerprint: str
    side: int
    pictures: int
    batch_size: int
    steps: int
    sprites: int
    artwork_digest: str
    origin_digest: str


@dataclass(frozen=True, slots=True)
class Ablation:
    """What was found.

    Attributes:
        asked: of all columns.
        commit: of the code that wrote this; ``None`` outside a checkout.
        hardware: of its machine.
        training: pictures, minutes and last telemetry of each run, by column.
        columns: every metric of every column.
        differences: full method minus variant (or minus its own scale 0) by variant, then by seed.
        enough: whether the full method beats a scale of 0 on every seed.
        orders: what became of the paper's.
    """

    asked: Asked
    commit: str | None
    hardware: dict[str, Any]
    training: dict[str, dict[str, float]]
    columns: dict[str, Estimates]
    differences: dict[str, dict[int, Estimates]]
    enough: bool
    orders: tuple[Order, ...]


def column_of(name: str, seed: int) -> str:
    """The column of a variant, or of ``SCALE_ZERO``, that was trained with a seed."""
    return f"{name}-{seed}"


def require_same(directory: Path, asked: Asked) -> None:
    """Write down what is asked, or compare it with what was.

    Raises:
        InvalidInputError: the folder holds columns of something else.
    """
    path = directory / ASKED
    if path.is_file():
        found = _read_object(path)
        wanted = TypeAdapter(Asked).dump_python(asked, mode="json")
        names = [name for name in wanted if found.get(name) != wanted[name]]
        if names:
            raise InvalidInputError(
                f"{directory} holds an ablation that differs in {', '.join(names).replace('_', ' ')}. Give another "
                "folder with --out."
            )
        return
    write_whole(path, TypeAdapter(Asked).dump_json(asked, indent=2) + b"\n")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidInputError(
            f"{path} is damaged, so nobody knows what its folder holds. Delete the folder."
        ) from error


def summarise(
    asked: Asked, measures: Measures, names: Sequence[str], training: Mapping[str, dict[str, float]]
) -> Ablation:
    """All numbers of the columns that are measured.

    Args:
        asked: of the folder.
        measures: with the verdicts.
        names: of the columns.
        training: facts of each run, by column.
    """
    outcomes = {name: measures.read(name) for name in names}
    found = _differences(outcomes)
    enough = is_enough(found.get(SCALE_ZERO, {}))
    return Ablation(
        asked=asked,
        commit=code_commit(),
        hardware={"machine": platform.machine(), "processors": os.cpu_count()},
        training=dict(training),
        columns={name: estimate(each) for name, each in outcomes.items()},
        differences=found,
        enough=enough,
        orders=judge_orders(_with_budget(found), enough),
    )


def _with_budget(found: Mapping[str, dict[int, Estimates]]) -> dict[str, dict[int, Estimates]]:
    """The differences of the seeds whose budget is known to be enough or not."""
    known = found.get(SCALE_ZERO, {})
    return {name: {seed: each for seed, each in by_seed.items() if seed in known} for name, by_seed in found.items()}


def write_ablation(directory: Path, ablation: Ablation) -> None:
    """Write ``ablation.json``, numbers to four digits."""
    document = rounded(TypeAdapter(Ablation).dump_python(ablation, mode="json"))
    write_whole(directory / RESULTS, (json.dumps(document, indent=2) + "\n").encode())


def read_ablation(path: Path) -> Ablation:
    """What ``write_ablation`` wrote.

    Raises:
        InvalidInputError: the file is missing or of another version.
    """
    try:
        return TypeAdapter(Ablation).validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise InvalidInputError(f"{path} holds no ablation of this version.") from error


def seeds_of(ablation: Ablation) -> list[int]:
    """The seeds of the full method's runs."""
    start = f"{FULL}-"
    return sorted(int(name.removeprefix(start)) for name in ablation.training if name.startswith(start))


def _differences(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[int, Estimates]]:
    found: dict[str, dict[int, Estimates]] = {}
    for column, rows in outcomes.items():
        name, _, seed = column.rpartition("-")
        full = outcomes.get(f"{FULL}-{seed}")
        if name in (SCALE_ZERO, *VARIANTS) and name != FULL and full is not None:
            found.setdefault(name, {})[int(seed)] = differences(full, rows)
    return found
