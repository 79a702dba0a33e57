"""What tells a subject of the ablation's models where to stand: the masks, or the boxes that the resampler is told.

    .venv/bin/python benchmarks/ablation_masks.py --run runs/ablation

Draws the scenes of a finished ``msd eval ablation`` again with weights that are trained, while one part is taken away, or put back,
at sampling only, which no training can make up for. Pictures and verdicts are kept in the folder ``sampling`` of the run; started
again, it goes on. Prints a table in Markdown. About three minutes of one core for each row and seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
)

from ms_lab.ablation.measuring import Measures
from ms_lab.ablation.orders import MEASURED, Estimates, differences, estimate
from ms_lab.ablation.pictures import Bench, drawn_by
from ms_lab.ablation.results import column_of
from ms_lab.ablation.run import SEEDS, Size
from ms_lab.ablation.training import build_variant, stage_of
from ms_lab.ablation.variants import FULL, NO_GROUNDING, NO_MASKS, VARIANTS
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.mini.halves import VALIDATION, take_half
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import AVERAGE
from ms_lab.training.mini import HELD_OUT_PACK
from worker.models import find_model

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("identity", "text", "conflict", "layout_iou")


@dataclass(frozen=True, slots=True)
class Row:
    """Trained weights, sampled in a way that may not be theirs.

    Attributes:
        weights: the variant that was trained.
        without: variants that say what is left out at sampling.
    """

    weights: str
    without: tuple[str, ...]

    @property
    def title(self) -> str:
        """In words."""
        return f"{VARIANTS[self.weights].title}, sampled with {' and '.join(map(self._part, (NO_MASKS, NO_GROUNDING)))}"

    @property
    def is_as_trained(self) -> bool:
        """Whether the run has it already."""
        return self.without == tuple(name for name in (self.weights,) if name != FULL)

    def _part(self, name: str) -> str:
        return VARIANTS[name].title if name in self.without else VARIANTS[name].title.removeprefix("no ")

    def column(self, seed: int) -> str:
        """Where its pictures and verdicts lie."""
        return column_of("-".join((self.weights, "sampled", *self.without)), seed)


ROWS = (
    Row(FULL, ()),
    Row(FULL, (NO_MASKS,)),
    Row(FULL, (NO_GROUNDING,)),
    Row(NO_MASKS, (NO_MASKS,)),
    Row(NO_MASKS, (NO_MASKS, NO_GROUNDING)),
)


class Laboratory:
    """The runs of one ablation, with the scenes of the bench."""

    def __init__(self, run: Path) -> None:
        self.run, self.size = run, Size()
        self.origin = find_model("mini").directory
        self.bench = Bench.draw(ROOT / "assets", self.size.scenes)
        self.measures = Measures(run / "sampling")
        self._held_out = take_half(SpritePack.load(ROOT / "assets" / HELD_OUT_PACK), VALIDATION)

    def outcomes(self, row: Row, seed: int) -> list[Outcome]:
        """What the judge finds in the pictures of a row, which are drawn if they are not there."""
        if row.is_as_trained:
            return Measures(self.run).read(column_of(row.weights, seed))
        column = row.column(seed)
        with self.measures.claim(column) as free:
            if free and not self.measures.has(column):
                self._measure(row, seed)
        return self.measures.read(column)

    def _measure(self, row: Row, seed: int) -> None:
        model = build_variant(self.origin, FULL, seed)
        for name in row.without:
            VARIANTS[name].change(model)
        stage = stage_of(model, self._held_out, 1)
        stage.trained.load_state_dict(load_file(self.run / "runs" / column_of(row.weights, seed) / AVERAGE))
        self.measures.measure(row.column(seed), self.bench, drawn_by(stage, self.size.steps))


def table(rows: Sequence[Row], found: dict[Row, list[list[Outcome]]]) -> str:
    """Values by seed, and under them the difference to the same weights as they were trained."""
    lines = [["percent, by seed", *(MEASURED[name].title for name in SHOWN)], ["---"] * (1 + len(SHOWN))]
    for row in rows:
        as_trained = next(each for each in rows if each.weights == row.weights and each.is_as_trained)
        by_seed = [estimate(outcomes) for outcomes in found[row]]
        pairs = zip(found[row], found[as_trained], strict=True)
        changes = [] if row is as_trained else [differences(first, second) for first, second in pairs]
        lines.append([row.title, *(_cell(name, by_seed, changes) for name in SHOWN)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(name: str, by_seed: Sequence[Estimates], changes: Sequence[Estimates]) -> str:
    values = " / ".join(f"{100 * each[name].value:.0f}" for each in by_seed)
    told = [each[name] for each in changes]
    return "<br>".join([values, *(f"{100 * e.value:+.0f} ({100 * e.low:+.0f} to {100 * e.high:+.0f})" for e in told)])


def main() -> None:
    """Measure all rows on all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/ablation"), help="folder of msd eval ablation")
    parser.add_argument("--seed", type=int, action="append", help="only this seed; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    laboratory = Laboratory(options.run)
    found: dict[Row, list[list[Outcome]]] = {}
    for row in ROWS:
        print(row.title, flush=True)
        found[row] = [laboratory.outcomes(row, seed) for seed in options.seed or SEEDS]
    print(table(ROWS, found))


if __name__ == "__main__":
    main()
