"""What a model makes of artwork that it was trained on, judged: from it the model's scorer learns what the judge would say.

The judge answers at training time only, about training artwork; what is held out of training is held out here as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.scoring.views import question_views, questions_of, to_planes
from ms_core.spec import GenerationSpec
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
from ms_lab.mini.scenes import Scene
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.scorer.examples import ScorerExamples
from ms_lab.training.team import ALONE, Team

# The bench's groups that training artwork can fill, the usual ones more often; a batch is of one group.
MIX = ("headline", "one", "headline", "three", "treatment", "headline", "four", "tiny", "contact", "huge", "oblong")
# So many things are drawn from: as many as the bench has, so that look-alikes are as near.
NUM_CONCEPTS = 120
BATCH_SIZE = 8
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
        made = self._pipeline.run([spec_of(scene, self._pipeline.card, preset) for scene in scenes])
        return ScorerExamples.joined(
            [
                self._judge(scene, generation.image, number * BATCH_SIZE + row)
                for row, (scene, generation) in enumerate(zip(scenes, made, strict=True))
            ]
        )

    def _judge(self, scene: BenchScene, picture: Image.Image, number: int) -> ScorerExamples:
        verdict = judge_picture(picture, scene, self._chooser.pack)
        return judged_examples(self._pipeline, scene, picture, verdict, number, self._side)


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
    pipeline: MSDiffusionPipeline, scene: BenchScene, picture: Image.Image, verdict: Verdict, number: int, side: int
) -> ScorerExamples:
    """A picture's examples, its references seen as the pipeline sees them."""
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
    )
