"""``msd eval ablation``: train what is missing, draw and judge what is missing, then put all numbers together.

::

    asked.json                          what all runs of the folder have in common
    sprites.zip                         the artwork, where it is not the bundled one
    runs/<variant>-<seed>/              checkpoints and log of a training
    pictures/<column>/, verdicts/       one picture a scene, and what the judge found
    ablation.json, ablation.md, ablation.svg, sheet-<seed>.png

Columns are ``<variant>-<seed>``, ``scale-0-<seed>``, ``composites``, ``through-vae`` and ``mosaic-<cells>``. What is there is not
made again. A run computes with one thread; several commands can work in one folder side by side, each on a run that is free.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ms_core.errors import InvalidInputError
from ms_core.model_dir.loading import load_vae
from ms_lab.ablation.measuring import Measures
from ms_lab.ablation.pictures import Bench, Draw, composed, drawn_by, mosaics_of, through_vae
from ms_lab.ablation.plot import draw_plot
from ms_lab.ablation.results import (
    ASKED,
    SCALE_ZERO,
    Ablation,
    Asked,
    column_of,
    require_same,
    seeds_of,
    summarise,
    write_ablation,
)
from ms_lab.ablation.sheet import draw_sheet
from ms_lab.ablation.tables import markdown
from ms_lab.ablation.training import (
    PICTURES,
    SIDE,
    build_variant,
    config_of,
    stage_of,
    train_variant,
    training_facts,
)
from ms_lab.ablation.variants import FULL, METHOD_VERSION, VARIANTS
from ms_lab.data.writing.files import write_whole
from ms_lab.evaluation.judge.judge import JUDGE_VERSION
from ms_lab.evaluation.questions.scenes import BENCH_VERSION, fingerprint
from ms_lab.evaluation.run.folder import digest_model
from ms_lab.mini.halves import VALIDATION, take_half
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.loop import DONE
from ms_lab.training.mini import HELD_OUT_PACK, SMOKE_PACK, TRAINING_PACK, load_artwork

COMPOSITES, THROUGH_VAE = "composites", "through-vae"
TABLE, PLOT = "ablation.md", "ablation.svg"
SEEDS = (1, 2)

Tell = Callable[[str], None]
_RUN_NAME = rf"(?:{'|'.join(VARIANTS)})-(\d+)"


def mosaic_column(cells: int) -> str:
    """The column of the mosaics with so many cells a side."""
    return f"mosaic-{cells}"


# More cells are finer than the pictures.
MOSAIC_CELLS = (8, 4, 3)
TRUTH = (COMPOSITES, THROUGH_VAE, *map(mosaic_column, MOSAIC_CELLS))


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done.

    Attributes:
        pictures, batch_size: of the training of each variant.
        scenes: of each group, the first so many of the bench; with more subjects than two there is more to confuse.
        steps: of the sampling.
        telemetry_scenes: of the trainings.
    """

    pictures: int = PICTURES
    batch_size: int = 16
    scenes: Mapping[str, int] = field(
        default_factory=lambda: {"headline": 96, "three": 32, "four": 32, "treatment": 72}
    )
    steps: int = 20
    telemetry_scenes: int = 64


SMOKE = Size(pictures=8, batch_size=4, scenes={"headline": 1, "treatment": 1}, steps=2, telemetry_scenes=2)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of one folder share.

    Attributes:
        origin: directory of the model whose VAE and image encoder all have.
        out: the folder.
        size: of everything.
        pack, held_out: artwork to train on, and for telemetry.
        bench: that measures.
        tell: told of each step in a few words.
    """

    origin: Path
    out: Path
    size: Size
    pack: SpritePack
    held_out: SpritePack
    bench: Bench
    tell: Tell

    @property
    def measures(self) -> Measures:
        """Pictures and verdicts."""
        return Measures(self.out)

    def folder(self, column: str) -> Path:
        """Of the training of a column."""
        return self.out / "runs" / column

    def asked(self) -> Asked:
        """What all columns have in common."""
        names = "".join(sprite.sha256 for sprite in self.pack.sprites)
        return Asked(
            bench_version=BENCH_VERSION,
            judge_version=JUDGE_VERSION,
            method_version=METHOD_VERSION,
            scenes=dict(self.size.scenes),
            scenes_fingerprint=fingerprint(self.bench.scenes, self.bench.pack),
            side=SIDE,
            pictures=self.size.pictures,
            batch_size=self.size.batch_size,
            steps=self.size.steps,
            sprites=len(self.pack),
            artwork_digest=hashlib.sha256(names.encode()).hexdigest(),
            origin_digest=digest_model(self.origin),
        )


def run_ablation(setting: Setting, variants: Sequence[str], seeds: Sequence[int]) -> Ablation:
    """Train and measure variants, or go on where an interrupted run stopped, and write what the whole folder shows.

    Args:
        setting: of ``open_setting``.
        variants: keys of ``VARIANTS``.
        seeds: of the runs.

    Raises:
        InvalidInputError: there is no such variant, or the folder holds an ablation of something else.
    """
    for name in variants:
        if name not in VARIANTS:
            raise InvalidInputError(f"There is no variant {name!r}; there are {', '.join(VARIANTS)}.")
    # Every run is one thread, so that several can work side by side.
    torch.set_num_threads(1)
    asked = setting.asked()
    require_same(setting.out, asked)
    for seed in seeds:
        for name in variants:
            _make_column(setting, name, seed)
    _measure_truth(setting)
    return write_results(setting, asked)


def open_setting(  # noqa: PLR0913 - what an ablation is made of
    origin: Path, assets: Path, out: Path, size: Size, artwork: Sequence[Path], tell: Tell
) -> Setting:
    """Load what all runs share.

    Args:
        origin: directory of the model whose VAE and image encoder all have.
        assets: folder of the bundled packs.
        out: folder of the ablation.
        size: of everything.
        artwork: as ``msd train mini`` has it, or the folder of such a run; none: the bundled sprites.
        tell: told of each step.

    Raises:
        ModelNotFoundError, InvalidInputError: the artwork cannot be used.
    """
    pack = load_pack(assets, out, artwork)
    held_out = take_half(SpritePack.load(assets / HELD_OUT_PACK), VALIDATION)
    tell(f"{len(pack)} drawings to train on. Drawing the scenes of the bench.")
    return Setting(origin, out, size, pack, held_out, Bench.draw(assets, size.scenes), tell)


def load_pack(assets: Path, out: Path, artwork: Sequence[Path]) -> SpritePack:
    """The drawings to train on, kept in ``out`` unless they are the bundled ones.

    Raises:
        InvalidInputError: ``out`` was begun with the bundled ones, and ``artwork`` names others.
        ModelNotFoundError: they cannot be used.
    """
    kept = out / TRAINING_PACK
    if artwork and not kept.is_file() and (out / ASKED).is_file():
        raise InvalidInputError(f"{out} holds an ablation on the bundled drawings. Give another folder with --out.")
    if not artwork and not kept.is_file():
        return SpritePack.load(assets / SMOKE_PACK)
    if len(artwork) == 1 and (artwork[0] / TRAINING_PACK).is_file() and not kept.is_file():
        write_whole(kept, (artwork[0] / TRAINING_PACK).read_bytes())
    return load_artwork(out, artwork, assets, smoke=False)[0]


def write_results(setting: Setting, asked: Asked) -> Ablation:
    """Put together what the folder shows so far: numbers, table, plot and sheets."""
    measures, columns = setting.measures, [*_trained_columns(setting), *TRUTH]
    names = [name for name in columns if measures.has(name)]
    training = {name: training_facts(setting.folder(name)) for name in names if setting.folder(name).is_dir()}
    ablation = summarise(asked, measures, names, training)
    write_ablation(setting.out, ablation)
    write_whole(setting.out / TABLE, markdown(ablation).encode())
    write_whole(setting.out / PLOT, draw_plot(ablation).encode())
    for seed in seeds_of(ablation):
        rows = {column_of(name, seed): name for name in (*VARIANTS, SCALE_ZERO)}
        shown = {title: name for name, title in rows.items() if name in names}
        draw_sheet(setting.out, setting.bench.scenes, shown).save(setting.out / f"sheet-{seed}.png")
    return ablation


def _trained_columns(setting: Setting) -> list[str]:
    """Columns of all variants and seeds that were begun, in order."""
    runs = (re.fullmatch(_RUN_NAME, path.name) for path in (setting.out / "runs").glob("*-*"))
    seeds = sorted({int(run[1]) for run in runs if run})
    return [column_of(name, seed) for seed in seeds for name in (*VARIANTS, SCALE_ZERO)]


def _make_column(setting: Setting, name: str, seed: int) -> None:
    """Train a variant and measure it, unless another command does; the full method at a scale of 0 as well."""
    columns = {column_of(name, seed): True}
    if name == FULL:
        columns[column_of(SCALE_ZERO, seed)] = False
    title = f"{VARIANTS[name].title}, seed {seed}"
    with setting.measures.claim(column_of(name, seed)) as free:
        missing = {column: sees for column, sees in columns.items() if not setting.measures.has(column)}
        if not free:
            setting.tell(f"Another command works on {title}.")
        elif missing:
            stage = _train(setting, name, seed, title)
            for column, sees in missing.items():
                setting.tell(f"Measuring {title}{'' if sees else ', at a scale of 0'}.")
                setting.measures.measure(column, setting.bench, drawn_by(stage, setting.size.steps, sees))


def _train(setting: Setting, name: str, seed: int, title: str) -> DenoisingStage:
    """The stage of a run, with the trained weights in its model."""
    size, folder = setting.size, setting.folder(column_of(name, seed))
    if not (folder / DONE).is_file():
        setting.tell(f"Training {title}.")
    stage = stage_of(build_variant(setting.origin, name, seed), setting.held_out, size.telemetry_scenes)
    train_variant(folder, stage, setting.pack, config_of(seed, size.pictures, size.batch_size))
    return stage


def _measure_truth(setting: Setting) -> None:
    """Measure what needs no training, unless another command does."""
    measures, vae = setting.measures, load_vae(setting.origin)
    draws: dict[str, Draw] = {COMPOSITES: composed, THROUGH_VAE: through_vae(vae)}
    draws |= {mosaic_column(cells): mosaics_of(cells) for cells in MOSAIC_CELLS}
    for column, draw in draws.items():
        with measures.claim(column) as free:
            if free and not measures.has(column):
                setting.tell(f"Measuring {column.replace('-', ' ')}.")
                measures.measure(column, setting.bench, draw)
