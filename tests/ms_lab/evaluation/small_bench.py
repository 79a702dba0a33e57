"""A few scenes of the bench, and a painter in a model's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from PIL import Image

from ms_core.spec import GenerationSpec
from ms_lab.evaluation.questions import scenes as bench_scenes
from ms_lab.evaluation.questions.groups import GROUPS
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene, candidate_picture, draw_bench
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import cut_centre, opaque_box, paint_backdrop


def draw_few(pack: BenchPack, counts: Mapping[str, int]) -> list[BenchScene]:
    """The first scenes of some groups; a scene depends on its group and number alone."""
    few = {name: replace(GROUPS[name], core=count) for name, count in counts.items()}
    with patch.object(bench_scenes, "GROUPS", few):
        return draw_bench(pack, full=False)


class Painter:
    """A perfect model: it paints the background that the prompt names and sets each reference's drawing into its box."""

    def __init__(self, scenes: Sequence[BenchScene], pack: BenchPack) -> None:
        self.batches: list[list[GenerationSpec]] = []
        self.drawings = {
            record.reference.tobytes(): candidate_picture(pack, subject.drawing)
            for scene in scenes
            for record, subject in zip(scene.original.subjects, scene.subjects, strict=False)
        }

    def paint(self, specs: Sequence[GenerationSpec]) -> list[Image.Image]:
        self.batches.append(list(specs))
        return [self._paint(spec) for spec in specs]

    def _paint(self, spec: GenerationSpec) -> Image.Image:
        canvas = paint_ground(spec)
        if spec.scale != 0.0:
            for subject in spec.subjects:
                self._set(canvas, self.drawings[subject.images[0].tobytes()], subject.box.as_tuple())
        return canvas

    def _set(self, canvas: Image.Image, drawing: Image.Image, box: tuple[float, float, float, float]) -> None:
        left, right = (round(canvas.width * value) for value in box[::2])
        top, bottom = (round(canvas.height * value) for value in box[1::2])
        opaque = opaque_box(drawing).as_tuple()
        drawing = drawing.crop(tuple(round(drawing.width * value) for value in opaque))
        ratio = min((right - left) / drawing.width, (bottom - top) / drawing.height)
        drawing = drawing.resize((round(drawing.width * ratio), round(drawing.height * ratio)))
        canvas.paste(drawing, ((left + right - drawing.width) // 2, (top + bottom - drawing.height) // 2), drawing)


def paint_ground(spec: GenerationSpec) -> Image.Image:
    """The background that a prompt names, in the spec's size."""
    assert spec.height is not None
    assert spec.width is not None
    kind = next(name for name in BACKGROUNDS if name in spec.prompt)
    backdrop = paint_backdrop(kind, np.random.default_rng(spec.seed), max(spec.height, spec.width))
    return cut_centre(backdrop, spec.height, spec.width)
