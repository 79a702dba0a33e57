"""What a model makes of artwork that it was trained on, judged: from it the model's scorer learns what the judge would say.

The judge answers at training time only, about training artwork; what is held out of training is held out here as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.scoring.views import question_views, questions_of, to_planes
from ms_core.spec import Box, GenerationSpec
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.judge.judge import Verdict, judge_picture
from ms_lab.evaluation.questions.candidates import CandidateChooser
from ms_lab.evaluation.questions.columns import FAST, MODEL, PictureKey, Requests, Settings
from ms_lab.evaluation.questions.composing import drawings_of, try_scene
from ms_lab.evaluation.questions.groups import GROUPS, Group
from ms_lab.evaluation.questions.packs import NEITHER, BenchPack
from ms_lab.evaluation.questions.scenes import BenchScene, BenchSubject
from ms_lab.mini.painting import box_around
from ms_lab.mini.scenes import Scene, caption_of
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.scorer.examples import ABSENT, EXCHANGED, HALF_DRAWN, KINDS, USUAL, ScorerExamples
from ms_lab.training.team import ALONE, Team

# The bench's groups that training artwork can fill, the usual ones more often; a batch is of one group.
MIX = ("headline", "one", "headline", "three", "treatment", "headline", "four", "tiny", "contact", "huge", "oblong")
# So many things are drawn from: as many as the bench has, so that look-alikes are as near.
NUM_CONCEPTS = 120
BATCH_SIZE = 8
# Of each batch, how the last pictures are spoiled: the first subject, and the second where two are exchanged.
SPOILED = (ABSENT, EXCHANGED, HALF_DRAWN)
# A usual pack gives one scene of two or three that are tried.
TRIES = 300


def judge_own_pictures(  # noqa: PLR0913 - as the training hands them over
    directory: Path, pack: SpritePack, count: int, seed: int, side: int, folder: Path, team: Team = ALONE
) -> Iterator[Path]:
    """Have a model draw artwork that it was trained on, and judge what it drew; what is in ``folder`` is not made again.

    Every second batch is drawn with the preset ``fast``, where the model has it.

    Args:
        directory: of the model.
        pack: of the artwork.
        count: of pictures; made in batches, so there may be a few more.
        seed: of scenes and pictures.
        side: of the scorer's views, in pixels.
        folder: for a file of examples for each batch.
        team: the processes that draw together, each its own batches.

    Yields:
        The files of this process, as they become ready.

    Raises:
        InvalidInputError: the pack is too small or too uniform for the scenes or their questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawer: _Drawer | None = None
    for number in range(team.rank, -(-count // BATCH_SIZE), team.size):
        path = folder / f"{number:04d}.safetensors"
        if not path.is_file():
            # Loading the model and looking at all drawings takes a while.
            drawer = drawer or _Drawer(MSDiffusionPipeline.from_pretrained(directory), pack, seed, side)
            drawer.batch(number, min(BATCH_SIZE, count)).save(path)
        yield path


class _Drawer:
    """Draws and judges batches of one model's pictures."""

    def __init__(self, pipeline: MSDiffusionPipeline, pack: SpritePack, seed: int, side: int) -> None:
        self._pipeline, self._seed, self._side = pipeline, seed, side
        self._chooser = CandidateChooser(BenchPack(SpritePack([], []), some_concepts(pack, seed)))
        self._presets = (None, FAST) if FAST in pipeline.card.presets else (None,)

    def batch(self, number: int, size: int) -> ScorerExamples:
        """Batch of this number; all its scenes have one group and one shape."""
        group = GROUPS[MIX[number % len(MIX)]]
        # Each preset meets each group, whatever their numbers.
        preset = self._presets[(number // len(MIX) + number) % len(self._presets)]
        scenes = [
            draw_own_scene(np.random.default_rng((self._seed, number, row)), self._chooser, group, number)
            for row in range(size)
        ]
        kinds = [kind_of(row, scene) for row, scene in enumerate(scenes)]
        pictures = self._draw(scenes, kinds, preset)
        return ScorerExamples.joined(
            [
                self._judge(scene, picture, number * BATCH_SIZE + row, kind)
                for row, (scene, picture, kind) in enumerate(zip(scenes, pictures, kinds, strict=True))
            ]
        )

    def _draw(self, scenes: Sequence[BenchScene], kinds: Sequence[str], preset: str | None) -> list[Image.Image]:
        """The scenes' pictures, each spoiled as its kind says."""
        specs = [
            spoiled_spec(spec_of(scene, self._pipeline.card, preset), scene, kind)
            for scene, kind in zip(scenes, kinds, strict=True)
        ]
        halves = [row for row, kind in enumerate(kinds) if kind == HALF_DRAWN]
        without = [spoiled_spec(specs[row], scenes[row], ABSENT) for row in halves]
        made = [generation.image for generation in self._pipeline.run([*specs, *without])]
        for row, absent in zip(halves, made[len(specs) :], strict=True):
            made[row] = half_drawn(made[row], absent, scenes[row].original.subjects[0].box, specs[row].seed % 4)
        return made[: len(specs)]

    def _judge(self, scene: BenchScene, picture: Image.Image, number: int, kind: str) -> ScorerExamples:
        verdict = judge_picture(picture, scene, self._chooser.pack)
        return judged_examples(self._pipeline, scene, picture, verdict, number, self._side, kind)


def kind_of(row: int, scene: BenchScene) -> str:
    """How the picture of this row of a batch is spoiled; one subject alone is exchanged with nobody."""
    kind = (*(USUAL,) * (BATCH_SIZE - len(SPOILED)), *SPOILED)[row]
    return USUAL if kind == EXCHANGED and len(scene.subjects) < 2 else kind


def spoiled_spec(spec: GenerationSpec, scene: BenchScene, kind: str) -> GenerationSpec:
    """The request for a picture in which the first subject is absent, or exchanged with the second; else the request itself.

    Words name what is asked for, so an absent subject is not named, and exchanged ones keep their phrases.
    """
    first, *others = spec.subjects
    if kind == ABSENT:
        prompt, _ = caption_of([subject.phrase for subject in others], scene.scene.background, scene.scene.treatment)
        # A request has at least one subject.
        return replace(spec, prompt=prompt.strip(), subjects=tuple(others) or (replace(first, scale=0.0),))
    if kind == EXCHANGED:
        second, *rest = others
        exchanged = (replace(first, image=second.image), replace(second, image=first.image))
        return replace(spec, subjects=(*exchanged, *rest))
    return spec


def half_drawn(picture: Image.Image, absent: Image.Image, box: Box, side: int) -> Image.Image:
    """A picture in which one half of a box is as in another one, which lacks its subject.

    Args:
        side: which half is lacking: 0 left, 1 right, 2 upper, 3 lower.
    """
    left, right = round(box.x_min * picture.width), round(box.x_max * picture.width)
    top, bottom = round(box.y_min * picture.height), round(box.y_max * picture.height)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    part = [
        (left, top, middle_x, bottom),
        (middle_x, top, right, bottom),
        (left, top, right, middle_y),
        (left, middle_y, right, bottom),
    ][side]
    spoiled = picture.copy()
    spoiled.paste(absent.crop(part), part[:2])
    return spoiled


def some_concepts(pack: SpritePack, seed: int) -> SpritePack:
    """All drawings of so many things as the bench has, or of all if there are fewer."""
    concepts = sorted(pack.by_concept)
    drawn = np.random.default_rng(seed).permutation(len(concepts))[:NUM_CONCEPTS]
    return pack.subset(sorted(index for number in drawn for index in pack.by_concept[concepts[number]]))


def require_scenes(packs: Iterable[SpritePack]) -> None:
    """Try one scene of each group that is drawn, before a model draws hundreds.

    Raises:
        InvalidInputError: one of the packs is too small or too uniform for them.
    """
    for pack in packs:
        chooser = CandidateChooser(BenchPack(SpritePack([], []), some_concepts(pack, 0)))
        for name in dict.fromkeys(MIX):
            draw_own_scene(np.random.default_rng(0), chooser, GROUPS[name], 0)


def draw_own_scene(rng: np.random.Generator, chooser: CandidateChooser, group: Group, number: int) -> BenchScene:
    """A scene of a group, with the hard questions of the bench, of drawings that were trained on.

    Raises:
        InvalidInputError: the pack is too small or too uniform for such a scene or its questions.
    """
    most = max(len(arrangement.sizes) for arrangement in group.arrangements)
    if len(chooser.pack.by_concept) >= most:
        for _ in range(TRIES):
            drawn = try_scene(rng, chooser, replace(group, cell=NEITHER), number)
            subjects = None if drawn is None else _ask_subjects(rng, chooser, *drawn)
            if drawn is not None and subjects is not None:
                scene, sample = drawn
                return BenchScene("own", number, NEITHER, scene, sample, None, sample.image, subjects, None)
    raise InvalidInputError(
        "The artwork is too small or too uniform to score with: it takes things of different names, forms and colours, "
        "so that one can be told from nine others."
    )


def _ask_subjects(
    rng: np.random.Generator, chooser: CandidateChooser, scene: Scene, sample: TrainingSample
) -> tuple[BenchSubject, ...] | None:
    """What is asked of each subject; ``None`` if the pack has too few look-alikes of one of them."""
    subjects: list[BenchSubject] = []
    for drawing, record in zip(drawings_of(scene), sample.subjects, strict=True):
        silhouette = from_run_lengths(record.mask or (), scene.height, scene.width)
        try:
            question = chooser.hard(rng, drawing)
        except ValueError:
            return None
        # Nobody asks the easy question.
        subjects.append(BenchSubject(drawing, box_around(silhouette), question, question))
    return tuple(subjects)


def spec_of(scene: BenchScene, card: ModelCard, preset: str | None = None) -> GenerationSpec:
    """The request for a scene's picture, as the bench asks."""
    requests = Requests([scene], False, card, Settings(preset))
    return requests.spec(PictureKey(MODEL, scene.group, scene.number), scene)


def judged_examples(  # noqa: PLR0913 - what an example is made of
    pipeline: MSDiffusionPipeline,
    scene: BenchScene,
    picture: Image.Image,
    verdict: Verdict,
    number: int,
    side: int,
    kind: str = USUAL,
) -> ScorerExamples:
    """A picture's examples, its references seen as the pipeline sees them; all but the spoiled subjects are usual."""
    subjects = scene.original.subjects[: len(verdict.subjects)]
    references = [
        tuple(seen.image for seen in pipeline.conditioner.reader.see(subject))
        for subject in spec_of(scene, pipeline.card).subjects[: len(subjects)]
    ]
    questions = questions_of(references, [subject.box for subject in subjects])
    answers = [(float(s.present), float(s.identity), float(s.iou)) for s in verdict.subjects]
    return ScorerExamples(
        *question_views(to_planes(picture), questions, side),
        torch.tensor(answers),
        torch.ones(len(answers), 3),
        torch.full((len(answers),), number),
        torch.tensor(_kinds(kind, len(answers))),
    )


def _kinds(kind: str, count: int) -> list[int]:
    """The kind of each subject of a picture."""
    spoiled = {USUAL: 0, EXCHANGED: 2}.get(kind, 1)
    return [KINDS.index(kind if index < spoiled else USUAL) for index in range(count)]
