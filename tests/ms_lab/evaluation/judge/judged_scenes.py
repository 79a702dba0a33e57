"""Small scenes of the bench's kind, composed for tests of the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.questions.candidates import Candidate, Question
from ms_lab.evaluation.questions.scenes import BackdropQuestion, BenchScene, BenchSubject
from ms_lab.mini.painting import PLAIN, box_around
from ms_lab.mini.scenes import Placement, Scene, SceneComposer
from ms_lab.mini.sprites import SpritePack

SIZE = 128


def compose(
    pack: SpritePack,
    placements: Sequence[Placement],
    background: str = "on a meadow",
    treatment: str = PLAIN,
    shape: tuple[int, int] = (SIZE, SIZE),
    seed: int = 5,
) -> BenchScene:
    """A scene with these sprites; of two, with its exchanged composite."""
    composer = SceneComposer(pack)
    scene = Scene(tuple(placements), background, treatment, seed, *shape)
    original = composer.sample(scene)
    subjects = []
    for index, (place, record) in enumerate(zip(placements, original.subjects, strict=True)):
        drawing = Candidate(place.sprite, place.colour_turn)
        silhouette = from_run_lengths(record.mask or (), *shape)
        rng = np.random.default_rng((seed, index))
        subjects.append(
            BenchSubject(drawing, box_around(silhouette), turned_question(rng, drawing), ask(rng, pack, drawing))
        )
    exchanged = composer.sample(_exchange(scene)) if len(placements) == 2 else None
    return BenchScene("headline", 0, "both", scene, original, exchanged, original.image, tuple(subjects), None)


def _exchange(scene: Scene) -> Scene:
    """The scene with the sprites of its two places exchanged."""
    first, second = scene.placements
    swapped = (
        replace(first, sprite=second.sprite, colour_turn=second.colour_turn),
        replace(second, sprite=first.sprite, colour_turn=first.colour_turn),
    )
    return replace(scene, placements=swapped)


def ask(rng: np.random.Generator, pack: SpritePack, true: Candidate) -> Question:
    """Ten drawings of the pack, the true one among them."""
    others = [index for index in range(len(pack)) if index != true.sprite]
    candidates = [true, *(Candidate(int(index), 0.0) for index in rng.choice(others, 9, replace=False))]
    return _shuffle(rng, candidates)


def turned_question(rng: np.random.Generator, true: Candidate) -> Question:
    """The true drawing and four colour turns of it."""
    turns = [Candidate(true.sprite, (true.colour_turn + turn) % 360) for turn in (0, 72, 144, 216, 288)]
    return _shuffle(rng, turns)


def with_place(scene: BenchScene, backdrops: Sequence[tuple[str, int]], true: int) -> BenchScene:
    """The scene with a question for its place."""
    return replace(scene, place=BackdropQuestion(tuple(backdrops), true))


def without_subject(scene: BenchScene, pack: SpritePack, index: int) -> Image.Image:
    """The composite with one subject left out, on the same background."""
    rest = tuple(place for number, place in enumerate(scene.scene.placements) if number != index)
    return SceneComposer(pack).sample(replace(scene.scene, placements=rest)).image


def _shuffle(rng: np.random.Generator, candidates: Sequence[Candidate]) -> Question:
    shuffled = tuple(candidates[int(index)] for index in rng.permutation(len(candidates)))
    return Question(shuffled, shuffled.index(candidates[0]))
