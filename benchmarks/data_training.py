"""What training on the data pipeline's shards reaches beside composed scenes, and references of other moments beside same-frame ones.

    python benchmarks/data_training.py --footage runs/footage --turns 3 10 --set runs/footage-set    # films to shards
    python benchmarks/data_training.py --set runs/footage-set --out runs/data-training --pictures 20000 --seed 1 --seed 2

The stage ``base`` of ``msd train mini`` is trained from random weights, with the VAE and the image encoder of the bundled model,
at 64 px, on the same sprites. Three ways, equal but for what they see: composed scenes, shards, and shards whose references are
cut from the target itself. Prints the reference gain of each on scenes of held-out artwork as JSON: scenes like those that are
composed for training, plain ones that show each drawing as its reference does, and ones that turn it as their words say. A run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import IterableDataset

from benchmarks.data_pairs import ROOT, STAND_INS, run_stages
from ms_lab.data.config import load_config
from ms_lab.data.engine.run import finish
from ms_lab.data.records import SubjectRecord, TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.data.writing.folder import RunFolder
from ms_lab.data.writing.parts import write_part
from ms_lab.footage.films import TRUTH, write_footage
from ms_lab.footage.generator import FilmDrawer, FilmOdds
from ms_lab.mini.batches import SceneStream, Share
from ms_lab.mini.random_scenes import PLAIN_SCENES, SceneKind, SceneOdds
from ms_lab.mini.shard_batches import ShardStream
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import WEIGHTS
from ms_lab.training.denoising_stage import GAIN_TIMESTEPS, DenoisingStage
from ms_lab.training.loop import StageConfig
from ms_lab.training.mini import FULL, HELD_OUT_SEED, SMOKE_PACK, MiniTraining, load_artwork
from ms_lab.training.warm_start import begin_from

SIDE = 64
ODDS = SceneOdds(kinds=(SceneKind(1.0, SIDE, SIDE),))
FILMS, FILMS_SEED = 600, 51
PLAIN = replace(PLAIN_SCENES, kinds=ODDS.kinds)
# What the gain is measured on: a model that pastes its references does well where nothing turns.
HELD_OUT = {"composed": ODDS, "plain": PLAIN, "turned": replace(PLAIN, treatment=1.0, pose=1.0)}
HELD_OUT_SCENES = 192
COMPOSED, SHARDS, SAME_FRAME = "composed scenes", "shards", "shards with same-frame references"
MATCHER = "ms_lab.data.models.colour_shape:ColourShapeMatcher"
CHOSEN = {"samples_per_clip": 6}


def make_footage(folder: Path, turns: tuple[float, float]) -> None:
    """Films of the first generator, unless they are there; things turn so many degrees a second, either way."""
    if not (folder / TRUTH).is_file():
        pack = SpritePack.load(ROOT / "assets" / SMOKE_PACK)
        write_footage(folder, FilmDrawer(pack, FilmOdds(turns=turns)).films(FILMS, FILMS_SEED), pack)


def make_set(footage: Path, out: Path) -> dict[str, int]:
    """Shards of made footage: stand-ins for three models, and the matcher that needs none."""
    options = {"truth": str(footage / TRUTH)}
    parts: dict[str, Any] = {
        name: {"use": f"ms_lab.footage.stand_ins:StandIn{kind}", "options": options} for name, kind in STAND_INS.items()
    }
    config = load_config(None, {**parts, "match": {"use": MATCHER, "options": {}}, "choose": CHOSEN})
    folder = RunFolder(out)
    for clip in run_stages(footage, config):
        write_part(folder.parts, clip, config.write)
    return finish(folder, (), config)["samples"]


def same_frame(sample: TrainingSample) -> TrainingSample:
    """The sample with every reference cut from the target itself."""
    return replace(sample, subjects=tuple(_own_reference(sample, subject) for subject in sample.subjects))


def _own_reference(sample: TrainingSample, subject: SubjectRecord) -> SubjectRecord:
    if subject.mask is None:
        raise SystemExit("Same-frame references need samples with masks.")
    inside = from_run_lengths(subject.mask, sample.height, sample.width)
    cut = np.where(inside[..., None], np.asarray(sample.image), np.uint8(255))
    x_min, y_min, x_max, y_max = subject.box.as_tuple()
    rows = slice(round(y_min * sample.height), max(1, round(y_max * sample.height)))
    columns = slice(round(x_min * sample.width), max(1, round(x_max * sample.width)))
    return replace(subject, reference=Image.fromarray(cut[rows, columns]))


class Training(MiniTraining):
    """A run whose base sees what is compared, and is measured at the size that it is trained at."""

    def __init__(self, folder: Path, held_out: SpritePack, config: StageConfig, seen: str, shards: Path) -> None:
        pack, _ = load_artwork(folder, (), ROOT / "assets", smoke=True)
        super().__init__(folder, pack, held_out, replace(FULL, base=config, odds=ODDS))
        self.held_out = SceneStream(held_out, ODDS, Share(FULL.held_out_pictures, HELD_OUT_SEED)).batch(0)
        self.seen, self.shards = seen, shards

    def _stream(self, name: str) -> Callable[[Share], IterableDataset[Any]]:
        if self.seen == COMPOSED:
            return partial(SceneStream, self.pack, ODDS)
        change = same_frame if self.seen == SAME_FRAME else lambda sample: sample
        return lambda share: ShardStream(self.shards, SIDE, share, change)

    @torch.no_grad()
    def gains(self, pack: SpritePack) -> dict[str, list[float]]:
        """The reference gain of the trained base at each of ``GAIN_TIMESTEPS``, for each kind of held-out scenes."""
        found: dict[str, list[float]] = {}
        for kind, odds in HELD_OUT.items():
            self.held_out = SceneStream(pack, odds, Share(HELD_OUT_SCENES, HELD_OUT_SEED)).batch(0)
            values = DenoisingStage(self.model, self.model.unet, self.held_out).telemetry()
            found[kind] = [round(values[f"reference_gain_{timestep}"], 3) for timestep in GAIN_TIMESTEPS]
        return found


def train(out: Path, seen: str, seed: int, pictures: int, shards: Path) -> dict[str, Any]:
    """Train one way with one seed; returns its gains."""
    folder = out / f"{seen.replace(' ', '-')}-{seed}"
    if not folder.is_dir():
        begin_from(ROOT / "models" / "mini", folder)
        # From random weights, which the seed decides.
        (folder / "base" / WEIGHTS).unlink()
    _, held_out = load_artwork(folder, (), ROOT / "assets", smoke=True)
    config = replace(FULL.base, pictures=pictures, seed=seed, warmup=max(1, min(100, pictures // 64)))
    training = Training(folder, held_out, config, seen, shards)
    training.train("base")
    return {"seen": seen, "seed": seed, "pictures": pictures, "gains": training.gains(held_out)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", type=Path, help="make footage here and the set from it, and do nothing else")
    parser.add_argument(
        "--turns", type=float, nargs=2, default=FilmOdds().turns, help="degrees a second, of the footage"
    )
    parser.add_argument("--set", type=Path, required=True, dest="shards", help="folder of the set")
    parser.add_argument("--out", type=Path, default=Path("runs/data-training"))
    parser.add_argument("--pictures", type=int, default=20_000, help="that each run sees")
    parser.add_argument("--seed", type=int, action="append")
    options = parser.parse_args()
    if options.footage is not None:
        make_footage(options.footage, tuple(options.turns))
        print(json.dumps(make_set(options.footage, options.shards)))
        return
    for seed in options.seed or (1, 2):
        for seen in (COMPOSED, SHARDS, SAME_FRAME):
            print(json.dumps(train(options.out, seen, seed, options.pictures, options.shards)), flush=True)


if __name__ == "__main__":
    main()
