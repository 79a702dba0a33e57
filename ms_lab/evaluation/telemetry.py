"""Forms as telemetry: within a minute, how much form a model draws that is still being trained.

    scenes = FormScenes.draw(assets)
    scenes.measure(pipeline)    # {"form": 0.65, "upright": 0.74, "silhouette": 0.95, "equivalent_mosaic": 6.2}

The scenes show the validation half of the artwork, and come from another seed than the bench's: recipes may be chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.evaluation.judge.forms import FormVerdict, judge_forms
from ms_lab.evaluation.questions.columns import HEADLINE, MODEL, PictureKey, Requests, Settings
from ms_lab.evaluation.questions.mosaics import mosaic
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene, draw_group
from ms_lab.evaluation.report.equivalent import CELLS, interpolate_cells
from ms_lab.evaluation.run.making import reconstruct
from ms_lab.mini.halves import VALIDATION

TELEMETRY_SEED, NUM_SCENES, BATCH_SIZE = 20261129, 48, 8

# Each subject's verdicts on a list of pictures.
_Verdicts = list[FormVerdict]
Draw = Callable[[Sequence[BenchScene]], list[Image.Image]]


@dataclass(frozen=True, slots=True)
class FormScenes:
    """Scenes of two subjects with what their mosaics show, which is judged once.

    Attributes:
        scenes: of the headline's kind.
        pack: the drawings that their questions point into.
        curve: share of right forms in the mosaics, in the order of ``CELLS``.
    """

    scenes: tuple[BenchScene, ...]
    pack: BenchPack
    curve: tuple[float, ...]

    @classmethod
    def draw(cls, assets: Path, count: int = NUM_SCENES, seed: int = TELEMETRY_SEED) -> FormScenes:
        """The first scenes of a seed, always the same; takes about ten seconds.

        Args:
            assets: folder with the bench's packs.
            count: of scenes.
            seed: any but the bench's.
        """
        pack = BenchPack.read(assets, VALIDATION)
        scenes = tuple(draw_group(pack, HEADLINE, count, seed))
        columns: list[_Verdicts] = [[] for _ in CELLS]
        for scene in scenes:
            pictures = [mosaic(scene.original, len(scene.subjects), cells) for cells in CELLS]
            for column, verdicts in zip(columns, judge_forms(pictures, scene, pack), strict=True):
                column += verdicts
        return cls(scenes, pack, tuple(_share(column, "form") for column in columns))

    def measure(self, pipeline: MSDiffusionPipeline) -> dict[str, float]:
        """What a pipeline shows at its card's defaults, one picture a scene.

        Returns:
            ``form``, ``upright`` and ``silhouette`` (a share of what its VAE can show), from 0 to 1, and
            ``equivalent_mosaic`` in cells.
        """
        requests = Requests(self.scenes, False, pipeline.card, Settings())
        height, width = requests.square_size

        def draw(batch: Sequence[BenchScene]) -> list[Image.Image]:
            keys = [PictureKey(MODEL, scene.group, scene.number) for scene in batch]
            specs = [requests.spec(key, scene) for key, scene in zip(keys, batch, strict=True)]
            return [made.image for made in pipeline.run(specs)]

        def rebuild(batch: Sequence[BenchScene]) -> list[Image.Image]:
            composites = [scene.original.image.resize((width, height)) for scene in batch]
            return reconstruct(pipeline.components, composites)

        return self.judge(draw, rebuild)

    def judge(self, draw: Draw, rebuild: Draw) -> dict[str, float]:
        """The same of any pictures.

        Args:
            draw: the pictures of a few scenes.
            rebuild: their composites through the VAE.
        """
        drawn: _Verdicts = []
        rebuilt: _Verdicts = []
        for start in range(0, len(self.scenes), BATCH_SIZE):
            batch = self.scenes[start : start + BATCH_SIZE]
            for scene, *pictures in zip(batch, draw(batch), rebuild(batch), strict=True):
                own, ceiling = judge_forms(pictures, scene, self.pack)
                drawn += own
                rebuilt += ceiling
        form = _share(drawn, "form")
        return {
            "form": form,
            "upright": _share(drawn, "upright"),
            "silhouette": _share(drawn, "outline") / max(_share(rebuilt, "outline"), 1e-6),
            "equivalent_mosaic": float(interpolate_cells(np.asarray([form]), np.asarray([self.curve]))[0]),
        }


def _share(verdicts: _Verdicts, part: str) -> float:
    """Of the subjects that are asked about; 0 if none is."""
    found = [float(value) for verdict in verdicts if (value := getattr(verdict, part)) is not None]
    return sum(found) / max(1, len(found))
