"""The bench's pictures: composites, drawn until they are what their group asks for, and what controls are made of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ms_core.spec import find_phrases
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths, run_lengths
from ms_lab.evaluation.questions.arrangements import Arrangement, Extent, draw_places, fill_box
from ms_lab.evaluation.questions.candidates import Candidate, CandidateChooser, candidate_picture, draw_turn
from ms_lab.evaluation.questions.groups import Group
from ms_lab.evaluation.questions.packs import BOTH, CONCEPT, BenchPack
from ms_lab.evaluation.questions.visibility import shows_order, shows_subjects, shows_treatment
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import PLAIN, cut_centre, light, paint_backdrop, paint_sprite
from ms_lab.mini.scenes import PLACE, Placement, Scene, SceneComposer, SceneConfig
from ms_lab.mini.sprites import SpritePack

# Written out, so that the bench stays as it is when training changes its scenes.
_CONFIG = SceneConfig(reference_size=64, box_margin=0.06)
# Twins are drawn again if one is this much more elongated, for each must fit the other's box.
_MAX_ASPECT_RATIO = 1.5


def draw_scene(
    rng: np.random.Generator, chooser: CandidateChooser, group: Group, number: int
) -> tuple[Scene, TrainingSample]:
    """A random scene of a group and its composite, drawn until it is as the group asks; arguments as ``try_scene``."""
    while True:
        drawn = try_scene(rng, chooser, group, number)
        if drawn is not None:
            return drawn


def try_scene(
    rng: np.random.Generator, chooser: CandidateChooser, group: Group, number: int
) -> tuple[Scene, TrainingSample] | None:
    """A random scene and its composite; ``None`` if it is not as the group asks.

    Args:
        rng: of this scene alone.
        chooser: with the pack.
        group: says what to draw.
        number: of the scene within its group.
    """
    treatment, arrangement, shape = group.turn(number)
    drawings = _draw_drawings(rng, chooser.pack, group, len(arrangement.sizes))
    if not _suit(drawings, chooser, treatment, group.twins):
        return None
    placements = _place(rng, chooser.pack, drawings, arrangement, treatment, shape)
    if placements is None:
        return None
    background = str(rng.choice(list(BACKGROUNDS)))
    scene = Scene(placements, background, treatment, draw_seed(rng), *shape, scene_subject=group.scene_subject)
    sample = SceneComposer(chooser.pack, _CONFIG).sample(scene, split="heldout")
    drawn = sample.subjects[: len(placements)]
    silhouettes = [from_run_lengths(subject.mask or (), *shape) for subject in drawn]
    if not arrangement.allows([s.box for s in drawn]):
        return None
    if not shows_subjects(sample.image, _backdrop(scene), silhouettes):
        return None
    if group.contact and not shows_order(sample.image, paint_reordered(chooser.pack, scene), silhouettes):
        return None
    return scene, sample


def draw_seed(rng: np.random.Generator) -> int:
    """A seed for a background's painter, or for a whole scene."""
    return int(rng.integers(2**31))


def keep_first(pack: SpritePack, scene: Scene, count: int) -> tuple[Scene, TrainingSample]:
    """A scene with its first subjects alone, and its composite; those are as they were."""
    fewer = replace(scene, placements=scene.placements[:count])
    return fewer, SceneComposer(pack, _CONFIG).sample(fewer, split="heldout")


def drawings_of(scene: Scene) -> list[Candidate]:
    """What stands in a scene, in order."""
    return [Candidate(placement.sprite, placement.colour_turn) for placement in scene.placements]


def paste_references(pack: SpritePack, scene: Scene, sample: TrainingSample) -> Image.Image:
    """What copy and paste gives: every drawing upright and as it is, as large as its box allows.

    The background is the true one, in the light that the caption names: whoever pastes may have painted it.
    """
    canvas = _backdrop(scene)
    _fill_boxes(canvas, pack, drawings_of(scene), sample)
    return canvas


def paint_reordered(pack: SpritePack, scene: Scene) -> Image.Image:
    """The composite of a scene without treatment whose subjects stand in the opposite order: the first one in front."""
    canvas = _backdrop(scene)
    for placement, drawing in zip(scene.placements[::-1], drawings_of(scene)[::-1], strict=True):
        paint_sprite(canvas, candidate_picture(pack, drawing), placement.centre, placement.size)
    return canvas


def exchange_references(pack: SpritePack, scene: Scene, sample: TrainingSample) -> TrainingSample:
    """The same request with the references of its two subjects exchanged, and the composite that answers it.

    Caption, phrases and boxes stay; each drawing is as large as its new box allows, in the middle of it.
    """
    canvas = _backdrop(scene)
    silhouettes = _fill_boxes(canvas, pack, drawings_of(scene)[::-1], sample)
    subjects = tuple(
        replace(own, mask=run_lengths(mask), reference=other.reference, reference_source=other.reference_source)
        for own, other, mask in zip(sample.subjects, sample.subjects[::-1], silhouettes, strict=True)
    )
    return replace(sample, image=canvas, subjects=subjects)


def _draw_drawings(rng: np.random.Generator, pack: BenchPack, group: Group, count: int) -> list[Candidate]:
    """Different things of the group's cell, evenly, each by a random artist; or one thing by two artists."""
    if group.twins:
        sprites = _draw_twins(rng, pack)
    else:
        by_concept = pack.by_cell[group.cell]
        concepts = rng.choice(sorted(by_concept), size=count, replace=False)
        sprites = [int(rng.choice(by_concept[str(concept)])) for concept in concepts]
    return [Candidate(sprite, draw_turn(rng)) for sprite in sprites]


def _draw_twins(rng: np.random.Generator, pack: BenchPack) -> list[int]:
    """One held-out thing by the held-out artist and by another, in random order."""
    concept = str(rng.choice(sorted(pack.held_out)))
    (unseen,) = pack.by_cell[BOTH][concept]
    known = int(rng.choice(pack.by_cell[CONCEPT][concept]))
    return [unseen, known] if rng.random() < 0.5 else [known, unseen]


def _suit(drawings: list[Candidate], chooser: CandidateChooser, treatment: str, twins: bool) -> bool:
    """Whether a scene may hold these drawings.

    All can be told apart, by phrase (but for twins) and by eye, and show the treatment; twins fit each other's box.
    """
    pack = chooser.pack
    pictures = [candidate_picture(pack, drawing) for drawing in drawings]
    if treatment != PLAIN and not all(shows_treatment(picture, treatment) for picture in pictures):
        return False
    looks = [chooser.look(drawing) for drawing in drawings]
    if not all(first.differs_visibly(second) for first, second in itertools.combinations(looks, 2)):
        return False
    if twins:
        first, second = (Extent.of(picture).aspect_ratio for picture in pictures)
        return max(first, second) <= _MAX_ASPECT_RATIO * min(first, second)
    phrases = [pack.sprites[drawing.sprite].phrase for drawing in drawings]
    pairs = itertools.permutations([*phrases, PLACE], 2)
    return all(find_phrases(text, [phrase]) == (None,) for text, phrase in pairs)


def _place(
    rng: np.random.Generator,
    pack: BenchPack,
    drawings: list[Candidate],
    arrangement: Arrangement,
    treatment: str,
    shape: tuple[int, int],
) -> tuple[Placement, ...] | None:
    extents = [Extent.of(candidate_picture(pack, drawing), treatment) for drawing in drawings]
    places = draw_places(rng, extents, arrangement, *shape)
    if places is None:
        return None
    return tuple(
        Placement(drawing.sprite, drawing.colour_turn, mirrored=False, centre=place.centre, size=place.size)
        for drawing, place in zip(drawings, places, strict=True)
    )


def _backdrop(scene: Scene) -> Image.Image:
    """A scene's background without subjects, in the light that its caption names."""
    square = paint_backdrop(scene.background, np.random.default_rng(scene.seed), max(scene.height, scene.width))
    return light(cut_centre(square, scene.height, scene.width), scene.treatment)


def _fill_boxes(
    canvas: Image.Image, pack: SpritePack, drawings: list[Candidate], sample: TrainingSample
) -> list[Bool[np.ndarray, "height width"]]:
    """Paint each drawing into its box, in place; returns their silhouettes."""
    silhouettes: list[Bool[np.ndarray, "height width"]] = []
    # A scene subject comes last and is no drawing.
    for drawing, subject in zip(drawings, sample.subjects, strict=False):
        picture = candidate_picture(pack, drawing)
        place = fill_box(subject.box, Extent.of(picture), sample.height, sample.width)
        silhouettes.append(paint_sprite(canvas, picture, place.centre, place.size))
    return silhouettes
