"""Photographs as references: fifty photographed things, two in a scene, each asked for once.

The bundled model learnt from drawings alone, and people will try their own pictures. The scenes are composed as those of
the bench are, the judge is the bench's, and each box is asked which of ten random photographed things stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw
from rich.table import Table

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.bench import Begin
from ms_lab.evaluation.judge.judge import JUDGE_VERSION, Verdict
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.arrangements import Arrangement, Extent, draw_places
from ms_lab.evaluation.questions.candidates import NUM_CANDIDATES, Candidate, Question
from ms_lab.evaluation.questions.columns import (
    BLUR,
    MODEL,
    MOSAICS,
    SCALE_ZERO,
    THROUGH_VAE,
    PictureKey,
    Requests,
    Settings,
    composed_picture,
)
from ms_lab.evaluation.questions.composing import draw_seed, paste_references
from ms_lab.evaluation.questions.forms import FormChooser
from ms_lab.evaluation.questions.packs import BOTH
from ms_lab.evaluation.questions.scenes import BenchScene, BenchSubject
from ms_lab.evaluation.questions.visibility import shows_subjects
from ms_lab.evaluation.report.equivalent import equivalent_mosaic
from ms_lab.evaluation.report.intervals import Design, Estimate, bootstrap
from ms_lab.evaluation.report.summary import EQUIVALENT
from ms_lab.evaluation.report.tables import format_row
from ms_lab.evaluation.run.columns import Ask, Pictures, judge_columns, make_columns
from ms_lab.evaluation.run.making import Maker
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import PLAIN, box_around, paint_backdrop
from ms_lab.mini.scenes import Placement, Scene, SceneComposer, SceneConfig
from ms_lab.mini.sprites import SpritePack

PHOTO_PACK = "photo-sprites.zip"
MADE = (MODEL, SCALE_ZERO, THROUGH_VAE)
COLUMNS = (*MADE, *MOSAICS, BLUR)
ROWS = IDENTITY, NEGLECT, BACKGROUND, FORM = ("identity", "neglect", "background", "form")
GROUP = "photos"
SEED = 20261124
RESULTS_FILE, SHEET_FILE = "photos.json", "photos.png"

_CONFIG = SceneConfig(reference_size=64, box_margin=0.06)
_SIDE = 128  # of a scene, in pixels
_ARRANGEMENT = Arrangement(sizes=((0.4, 0.65), (0.4, 0.65)))
_CELL, _GAP, _CAPTION, _STRIPS = 96, 4, 14, 3
_FOUND, _MISSED = (0, 138, 84), (213, 48, 0)


@dataclass(frozen=True, slots=True)
class PhotoResults:
    """What was measured with photographs as references.

    Attributes:
        model: its card's name.
        judge_version: of the judge.
        photographs: how many were asked for.
        columns: column to identity, neglect, background and form, each from 0 to 1; for made pictures also the equivalent
            mosaic, in cells.
    """

    model: str
    judge_version: int
    photographs: int
    columns: dict[str, dict[str, Estimate]]


def measure_photos(directory: Path, assets: Path, out: Path, batch_size: int, begin: Begin) -> PhotoResults:
    """Measure a model on photographs as references.

    Args:
        directory: of the model.
        assets: the folder of the bundled packs.
        out: folder for ``photos.json`` and ``photos.png``, made if missing.
        batch_size: pictures made at once.
        begin: told that making pictures and judging them begin.

    Raises:
        ModelNotFoundError: the model or the photographs are missing.
        CheckpointError: the model cannot be loaded.
    """
    pack = SpritePack.load(assets / PHOTO_PACK)
    pipeline = MSDiffusionPipeline.from_pretrained(directory)
    scenes = draw_photo_scenes(pack)
    requests, maker = Requests(scenes, True, pipeline.card, Settings()), Maker.of_pipeline(pipeline, batch_size)
    pictures = make_columns(requests, maker, asked_of(requests), begin("Pictures", len(MADE) * len(scenes)))
    verdicts = judge_columns(pictures | spoilt(scenes), scenes, pack, begin("Judging", len(scenes)))
    columns = summarise_columns(verdicts)
    results = PhotoResults(pipeline.card.name, JUDGE_VERSION, len(pack), columns)
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULTS_FILE).write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
    draw_sheet(scenes, pictures[MODEL], verdicts[MODEL]).save(out / SHEET_FILE)
    return results


def build_table(results: PhotoResults) -> Table:
    """The numbers of all columns with their intervals, in per cent."""
    table = Table(title=f"{results.model}, {results.photographs} photographs as references, in %")
    for heading in ("", *results.columns):
        table.add_column(heading)
    for row in (EQUIVALENT, *ROWS):
        cells = [column.get(row) for column in results.columns.values()]
        title = row.replace("_", " ") + ", cells" * (row == EQUIVALENT)
        table.add_row(title, *("" if cell is None else "\n".join(format_row(row, cell)) for cell in cells))
    return table


def draw_photo_scenes(pack: SpritePack) -> list[BenchScene]:
    """Scenes of two photographed things each, so that every one is asked for once; always the same.

    Args:
        pack: of an even number of sprites, ten or more.
    """
    order: list[int] = np.random.default_rng(SEED).permutation(len(pack)).tolist()
    pairs = zip(order[::2], order[1::2], strict=True)
    forms = FormChooser(pack)
    return [_draw_scene(pack, forms, number, pair) for number, pair in enumerate(pairs)]


def asked_of(requests: Requests) -> dict[str, Ask]:
    """What each column asks of the model."""

    def ask(column: str) -> Ask:
        return lambda scene: requests.spec(PictureKey(column, scene.group, scene.number), scene)

    return {column: ask(column) for column in (MODEL, SCALE_ZERO)}


def spoilt(scenes: Sequence[BenchScene]) -> Pictures:
    """The columns of mosaics and blur."""
    return {
        column: [composed_picture(PictureKey(column, scene.group, scene.number), scene) for scene in scenes]
        for column in COLUMNS[len(MADE) :]
    }


def summarise_columns(verdicts: dict[str, list[Verdict]]) -> dict[str, dict[str, Estimate]]:
    """The numbers of every column; of those that were made also their equivalent mosaic."""
    columns = {column: summarise(found) for column, found in verdicts.items()}
    outcomes = {column: [_outcome(*item) for item in enumerate(found)] for column, found in verdicts.items()}
    for column in MADE:
        cells = equivalent_mosaic(outcomes, outcomes[column])
        columns[column] |= {} if cells is None else {EQUIVALENT: cells}
    return columns


def _outcome(number: int, verdict: Verdict) -> Outcome:
    # Every photograph is in one scene only.
    things = tuple(f"{number} {index}" for index in range(len(verdict.subjects)))
    return Outcome(GROUP, number, False, things, verdict)


def summarise(verdicts: Sequence[Verdict]) -> dict[str, Estimate]:
    """Identity, neglect, background and form of one column, each with its 95 % interval over scenes."""
    shapes = [[subject.shape for subject in verdict.subjects] for verdict in verdicts]
    shares = {
        IDENTITY: [[subject.identity_easy for subject in verdict.subjects] for verdict in verdicts],
        NEGLECT: [[not subject.present for subject in verdict.subjects] for verdict in verdicts],
        BACKGROUND: [[verdict.background] for verdict in verdicts],
        FORM: [[shape is not None and bool(shape.form) for shape in row] for row in shapes],
    }
    # Every photograph is in one scene only.
    design = Design.of_scenes(len(verdicts))
    return {name: bootstrap(np.asarray(rows, float).mean(1), design) for name, rows in shares.items()}


def draw_sheet(
    scenes: Sequence[BenchScene], pictures: Sequence[Image.Image], verdicts: Sequence[Verdict]
) -> Image.Image:
    """Every scene as it comes: both references, the composed picture, the model's; boxes tell what the judge recognised."""
    strips = [_draw_strip(*item) for item in zip(scenes, pictures, verdicts, strict=True)]
    width, height = strips[0].width + 2 * _GAP, strips[0].height + _GAP
    sheet = Image.new("RGB", (_STRIPS * width, -(-len(strips) // _STRIPS) * height), "white")
    for index, strip in enumerate(strips):
        sheet.paste(strip, (index % _STRIPS * width, index // _STRIPS * height))
    return sheet


def _draw_scene(pack: SpritePack, forms: FormChooser, number: int, pair: Sequence[int]) -> BenchScene:
    rng = np.random.default_rng((SEED, number))
    scene, sample = _compose(rng, pack, pair)
    questions = [_ask(rng, len(pack), sprite) for sprite in pair]
    return BenchScene(
        group=GROUP,
        number=number,
        cell=BOTH,
        scene=scene,
        original=sample,
        exchanged=None,
        pasted=paste_references(pack, scene, sample),
        subjects=tuple(
            BenchSubject(
                Candidate(sprite, 0.0),
                box_around(silhouette),
                hard=question,
                easy=question,
                form=forms.ask(np.random.default_rng((SEED, sprite)), Candidate(sprite, 0.0)),
            )
            for sprite, silhouette, question in zip(pair, _silhouettes(sample), questions, strict=True)
        ),
        place=None,
    )


def _compose(rng: np.random.Generator, pack: SpritePack, pair: Sequence[int]) -> tuple[Scene, TrainingSample]:
    """A random scene of these sprites, upright and in their own colours, in which both can be seen."""
    composer = SceneComposer(pack, _CONFIG)
    extents = [Extent.of(pack.pictures[sprite]) for sprite in pair]
    while True:
        places = draw_places(rng, extents, _ARRANGEMENT, _SIDE, _SIDE)
        if places is None:
            continue
        placements = tuple(
            Placement(sprite, 0.0, mirrored=False, centre=place.centre, size=place.size)
            for sprite, place in zip(pair, places, strict=True)
        )
        background = str(rng.choice(list(BACKGROUNDS)))
        scene = Scene(placements, background, PLAIN, draw_seed(rng), _SIDE, _SIDE)
        sample = composer.sample(scene, split="heldout")
        backdrop = paint_backdrop(background, np.random.default_rng(scene.seed), _SIDE)
        if shows_subjects(sample.image, backdrop, _silhouettes(sample)):
            return scene, sample


def _silhouettes(sample: TrainingSample) -> list[Bool[np.ndarray, "height width"]]:
    return [from_run_lengths(subject.mask or (), sample.height, sample.width) for subject in sample.subjects]


def _ask(rng: np.random.Generator, count: int, true: int) -> Question:
    """A sprite among nine random others, in random order."""
    order: list[int] = rng.permutation(count).tolist()
    asked = [true, *(index for index in order if index != true)][:NUM_CANDIDATES]
    rng.shuffle(asked)
    return Question(tuple(Candidate(index, 0.0) for index in asked), asked.index(true))


def _draw_strip(scene: BenchScene, picture: Image.Image, verdict: Verdict) -> Image.Image:
    own = scene.original
    shown = [*(subject.reference for subject in own.subjects), own.image, picture]
    strip = Image.new("RGB", (len(shown) * (_CELL + _GAP) - _GAP, _CELL + _CAPTION), "white")
    for place, each in enumerate(shown):
        strip.paste(each.resize((_CELL, _CELL)), (place * (_CELL + _GAP), _CAPTION))
    pen = ImageDraw.Draw(strip)
    pen.text((0, 1), own.caption, fill="black")
    left, top = (len(shown) - 1) * (_CELL + _GAP), _CAPTION
    for subject, found in zip(own.subjects, verdict.subjects, strict=True):
        x_min, y_min, x_max, y_max = (min(_CELL - 1, round(_CELL * value)) for value in subject.box.as_tuple())
        outline = _FOUND if found.identity_easy else _MISSED
        pen.rectangle((left + x_min, top + y_min, left + x_max, top + y_max), outline=outline)
    return strip
