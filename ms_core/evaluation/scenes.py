"""The scenes of the evaluation: two subjects of held-out concepts by the held-out artist, without treatment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ms_core.data.records import TrainingSample
from ms_core.evaluation.candidates import Candidate, Question, candidate_picture
from ms_core.mini.artwork import HELD_OUT_SET
from ms_core.mini.scenes import Placement, Scene, SceneComposer, SceneConfig
from ms_core.mini.sprites import SpritePack
from ms_core.spec import Box, find_phrases

BENCH_VERSION = 1
BENCH_SEED = 20261123
# What of a scene's subjects was never trained on. ``concept`` is also the cell of twins, one of which is by a known artist.
CELLS = ("both", "artist", "concept", "neither")
# Number of scenes in the core; the full bench has four times as many, the core's first.
GROUPS = {
    "headline": 75,
    "twins": 32,
    "artist": 16,
    "concept": 16,
    "neither": 16,
    "one": 16,
    "three": 16,
    "four": 16,
    "overlapping": 12,
    "tiny": 12,
    "huge": 12,
    "oblong": 8,
    "place": 8,
    "treatment": 48,
}
EVALUATION_SEED = 20261122
NUM_CANDIDATES, NUM_SAME_NAME = 10, 4
MIN_COLOUR_TURN = 60.0
# Written out, so that the evaluation stays as it is when training changes its scenes.
_CONFIG = SceneConfig(
    size=128,
    reference_size=64,
    min_size=0.28,
    max_size=0.65,
    max_overlap=0.1,
    box_margin=0.06,
    p_treatment=0.0,
    p_colour_turn=0.5,
    p_mirror=0.3,
)
# A turned drawing is another candidate only if its mean colour differs visibly, in levels; grey things stay as they are.
_VISIBLE_TURN = 25.0
# Pairs are drawn again if one is this much more elongated, for each must fit the other's box when they are exchanged.
_MAX_ASPECT_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class BackdropQuestion:
    """Which of ten backdrops does the picture show?

    Attributes:
        backdrops: in random order: kind, a key of ``BACKGROUNDS``, and the painter's seed.
        true: index of the one that the scene's last reference shows.
    """

    backdrops: tuple[tuple[str, int], ...]
    true: int


@dataclass(frozen=True, slots=True)
class BenchSubject:
    """One drawn subject of a scene and what is asked of its box.

    Attributes:
        drawing: what stands there in the original.
        silhouette_box: around its silhouette in the original, without margin, normalised xyxy.
        hard: its own drawing among colour turns of it, drawings of the same name, and drawings of like colours.
        easy: its own drawing among random ones of the same artist.
    """

    drawing: Candidate
    silhouette_box: Box
    hard: Question
    easy: Question


@dataclass(frozen=True, slots=True)
class BenchScene:
    """One scene of the bench.

    Attributes:
        group: a key of ``GROUPS``.
        number: within the group, from 0.
        cell: one of ``CELLS``: what of all its subjects was never trained on.
        scene: what decides the composed picture; its ``seed`` is also the seed of the generated one.
        original: the composite, and what is asked for: caption, height and width, and each subject's phrase, reference
            and box. A scene subject comes last; its box is the whole picture.
        exchanged: twins only: the same request with the two references exchanged, and its composite. Caption, phrases
            and boxes stay.
        pasted: the background, in the light that the caption names, and every reference's drawing pasted into its box,
            upright and as it is.
        subjects: those that are drawn, in the order of ``original.subjects``.
        place: asked of a scene subject; ``None`` without one.
    """

    group: str
    number: int
    cell: str
    scene: Scene
    original: TrainingSample
    exchanged: TrainingSample | None
    pasted: Image.Image
    subjects: tuple[BenchSubject, ...]
    place: BackdropQuestion | None


@dataclass(frozen=True, slots=True)
class PairQuestion:
    """What version 0 asks of one box.

    Attributes:
        candidates: in random order: the true one, three of the same name, six of other names, among them the scene's
            other subject.
        true, other: indexes of the box's own subject and of the scene's other subject.
    """

    candidates: tuple[Candidate, ...]
    true: int
    other: int


@dataclass(frozen=True, slots=True)
class EvaluationScene:
    """One scene with its exchanged twin and its questions.

    Attributes:
        scene: what decides the composed picture; its ``seed`` is also the seed of the generated one.
        original: the composed target, its caption, boxes and references.
        exchanged: the same background with the two subjects in each other's boxes.
        questions: one for each box.
    """

    scene: Scene
    original: TrainingSample
    exchanged: TrainingSample
    questions: tuple[PairQuestion, PairQuestion]

    @property
    def boxes(self) -> tuple[Box, Box]:
        """The boxes of the original; the exchanged picture is asked for with the same."""
        first, second = self.original.subjects
        return first.box, second.box


def draw_scenes(pack: SpritePack, count: int, seed: int = EVALUATION_SEED) -> list[EvaluationScene]:
    """The first ``count`` scenes of a seed; each depends on its number alone."""
    headline = tuple(index for index, sprite in enumerate(pack.sprites) if sprite.artist == HELD_OUT_SET)
    composer = SceneComposer(pack.subset(headline), _CONFIG)
    return [_draw_scene(np.random.default_rng((seed, number)), pack, composer, headline) for number in range(count)]


def fingerprint(scenes: Iterable[EvaluationScene], pack: SpritePack) -> str:
    """A digest of everything that is asked; it changes when the scenes do."""
    digest = hashlib.sha256()
    for item in scenes:
        places = [
            (*(round(value, 6) for value in (*place.centre, place.size)), place.mirrored)
            for place in item.scene.placements
        ]
        candidates = [
            (pack.sprites[candidate.sprite].sha256, round(candidate.colour_turn, 3))
            for question in item.questions
            for candidate in question.candidates
        ]
        digest.update(repr((item.original.caption, item.scene.seed, places, candidates)).encode())
    return digest.hexdigest()


def _draw_scene(
    rng: np.random.Generator, pack: SpritePack, composer: SceneComposer, headline: tuple[int, ...]
) -> EvaluationScene:
    scene = composer.draw(rng, num_subjects=2)
    while not _exchangeable(scene, composer.pack):
        scene = composer.draw(rng, num_subjects=2)
    original = composer.sample(scene, split="heldout")
    first, second = (Candidate(headline[place.sprite], place.colour_turn) for place in scene.placements)
    return EvaluationScene(
        scene=scene,
        original=original,
        exchanged=composer.sample(_exchange(scene, composer, original), split="heldout"),
        questions=(_ask(rng, pack, first, second), _ask(rng, pack, second, first)),
    )


def _exchangeable(scene: Scene, pack: SpritePack) -> bool:
    """Whether each subject fits the other's box, and neither phrase is found within the other."""
    sprites = [pack.sprites[place.sprite] for place in scene.placements]
    contained = [find_phrases(a.phrase, [b.phrase])[0] for a, b in (sprites, sprites[::-1])]
    first, second = (_width_and_height(pack.pictures[place.sprite]) for place in scene.placements)
    ratio = (first[0] / first[1]) / (second[0] / second[1])
    return contained == [None, None] and 1 / _MAX_ASPECT_RATIO <= ratio <= _MAX_ASPECT_RATIO


def _width_and_height(picture: Image.Image) -> tuple[float, float]:
    """Extent of what is opaque, as shares of the sprite's side."""
    left, top, right, bottom = picture.getchannel("A").point([0] * 65 + [255] * 191).getbbox() or (0, 0, *picture.size)
    return (right - left) / picture.width, (bottom - top) / picture.height


def _exchange(scene: Scene, composer: SceneComposer, original: TrainingSample) -> Scene:
    """The exchanged scene, every sprite as large as its box allows and in its middle."""
    placements: list[Placement] = []
    for place, subject in zip(composer.exchange(scene).placements, original.subjects, strict=True):
        box = subject.box
        width, height = _width_and_height(composer.pack.pictures[place.sprite])
        size = min((box.x_max - box.x_min) / width, (box.y_max - box.y_min) / height)
        centre = ((box.y_min + box.y_max) / 2, (box.x_min + box.x_max) / 2)
        placements.append(replace(place, size=size, centre=centre))
    return replace(scene, placements=tuple(placements))


def _ask(rng: np.random.Generator, pack: SpritePack, true: Candidate, other: Candidate) -> PairQuestion:
    concepts = [pack.sprites[candidate.sprite].concept for candidate in (true, other)]
    strangers = [concept for concept in sorted(pack.by_concept) if concept not in concepts]
    count = NUM_CANDIDATES - NUM_SAME_NAME - 1
    others = [
        Candidate(_headline_of(pack, strangers[int(index)]), _draw_turn(rng))
        for index in rng.choice(len(strangers), size=count, replace=False)
    ]
    candidates = [true, *_same_name(rng, pack, true), other, *others]
    shuffled = tuple(candidates[int(index)] for index in rng.permutation(NUM_CANDIDATES))
    return PairQuestion(shuffled, shuffled.index(true), shuffled.index(other))


def _headline_of(pack: SpritePack, concept: str) -> int:
    return next(index for index in pack.by_concept[concept] if pack.sprites[index].artist == HELD_OUT_SET)


def _same_name(rng: np.random.Generator, pack: SpritePack, true: Candidate) -> list[Candidate]:
    """Hard candidates: the same drawing in other colours where that shows, and the same thing by other artists."""
    found: list[Candidate] = []
    turn = true.colour_turn + float(rng.uniform(MIN_COLOUR_TURN, 360 - MIN_COLOUR_TURN))
    turned = Candidate(true.sprite, turn % 360)
    if _visible_change(candidate_picture(pack, true), candidate_picture(pack, turned)):
        found.append(turned)
    rivals = [index for index in pack.by_concept[pack.sprites[true.sprite].concept] if index != true.sprite]
    chosen = rng.choice(rivals, size=NUM_SAME_NAME - 1 - len(found), replace=False)
    return found + [Candidate(int(index), _draw_turn(rng)) for index in chosen]


def _draw_turn(rng: np.random.Generator) -> float:
    """A hue turn as the scenes' subjects have it: none for half of them."""
    return float(rng.uniform(30, 330)) if rng.random() < _CONFIG.p_colour_turn else 0.0


def _visible_change(first: Image.Image, second: Image.Image) -> bool:
    opaque = np.asarray(first.getchannel("A"), np.float32)[..., None] / 255
    change = np.abs(np.asarray(first.convert("RGB"), np.float32) - np.asarray(second.convert("RGB"), np.float32))
    return float((change * opaque).sum() / (3 * opaque.sum())) >= _VISIBLE_TURN
