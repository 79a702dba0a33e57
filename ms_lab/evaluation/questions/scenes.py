"""The scenes of the bench: what is asked for, what is true, and what a box is asked afterwards.

Every scene depends on the seed, its group and its number alone: the core's are the first of the full bench. Nothing is
taken from how training draws its scenes; only the painting is shared, and ``fingerprint`` tells when that changes. Whoever
changes the scenes raises ``BENCH_VERSION``, and every number measured before is void until it is measured anew.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ms_core.spec import Box
from ms_lab.data.records import TrainingSample
from ms_lab.data.run_lengths import from_run_lengths
from ms_lab.evaluation.questions.candidates import Candidate, CandidateChooser, Question, candidate_picture
from ms_lab.evaluation.questions.composing import (
    draw_scene,
    draw_seed,
    drawings_of,
    exchange_references,
    keep_first,
    paint_reordered,
    paste_references,
)
from ms_lab.evaluation.questions.forms import FormChooser
from ms_lab.evaluation.questions.groups import FULL, GROUPS, NUMBER, Group
from ms_lab.evaluation.questions.packs import CELLS, BenchPack
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import PLAIN, box_around, paint_backdrop
from ms_lab.mini.scenes import Scene
from ms_lab.mini.sprites import SpritePack

__all__ = [
    "BENCH_SEED",
    "BENCH_VERSION",
    "CELLS",
    "GROUPS",
    "BackdropQuestion",
    "BenchScene",
    "BenchSubject",
    "Candidate",
    "Question",
    "candidate_picture",
    "draw_bench",
    "fingerprint",
]

BENCH_VERSION = 2
BENCH_SEED = 20261123
NUM_BACKDROPS, NUM_SAME_KIND = 10, 3
# Two backdrops of one kind differ at least this much, in colour levels; pictures are compared at this side, in pixels.
_VISIBLE_BACKDROP, _BACKDROP_SIDE = 5.0, 64
# The fingerprint takes means over so many tiles a side, in steps of so many levels: another processor's last bit does not
# change it, another way of painting does.
_TILES, _STEP = 8, 4


@dataclass(frozen=True, slots=True)
class BackdropQuestion:
    """Which of ten backdrops does the picture show?

    Attributes:
        backdrops: in random order: kind, a key of ``BACKGROUNDS``, and the painter's seed. Three are other draws of the
            true one's kind, six are of six other kinds.
        true: index of the one that the scene's last reference shows.
    """

    backdrops: tuple[tuple[str, int], ...]
    true: int


@dataclass(frozen=True, slots=True)
class BenchSubject:
    """One drawn subject of a scene and what is asked of its box.

    Attributes:
        drawing: what stands there in the original.
        silhouette_box: around its whole silhouette in the original, without margin, normalised xyxy.
        hard: its own drawing among colour turns of it, drawings of the same name, and drawings of like colours.
        easy: its own drawing among random ones of the same artist.
        form: its own drawing among others in the same colours; ``None`` where it is not asked.
        turns: those that can be seen of it, in degrees; it is asked among them.
    """

    drawing: Candidate
    silhouette_box: Box
    hard: Question
    easy: Question
    form: Question | None = None
    turns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchScene:
    """One scene of the bench.

    Attributes:
        group: a key of ``GROUPS``.
        number: within the group, from 0.
        cell: one of ``CELLS``: what of its subjects was never trained on.
        scene: what decides the composed picture; its ``seed`` is also the seed of the generated one.
        original: the composite, and what is asked for: caption, height and width, and each subject's phrase, reference
            and box. A scene subject comes last; its box is the whole picture.
        exchanged: twins only: the same request with the two references exchanged, and its composite. Caption, phrases
            and boxes stay.
        pasted: the background, in the light that the caption names, and every drawing pasted into its box, upright and
            as it is.
        subjects: those that are drawn, in the order of ``original.subjects``.
        place: asked of a scene subject; ``None`` without one.
        reordered: contact only: the composite with the other subject in front. In the original the later one is.
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
    reordered: Image.Image | None = None


def draw_bench(pack: BenchPack, full: bool) -> list[BenchScene]:
    """All scenes, group by group.

    Args:
        pack: the drawings.
        full: four times as many as the core, the core's among them.
    """
    drawer = _Drawer(pack, BENCH_SEED)
    return [
        drawer.draw(name, number)
        for name, group in GROUPS.items()
        for number in range(group.core * (FULL if full else 1))
    ]


def draw_group(pack: BenchPack, name: str, count: int, seed: int) -> list[BenchScene]:
    """The first scenes of one group, from a seed that should not be the bench's."""
    drawer = _Drawer(pack, seed)
    return [drawer.draw(name, number) for number in range(count)]


def fingerprint(scenes: Iterable[BenchScene], pack: SpritePack) -> str:
    """A digest of all that is asked and of how it looks: composites, controls, references and candidates."""
    digest = hashlib.sha256()
    shown: set[int] = set()
    for item in scenes:
        digest.update(repr(_describe(item, pack)).encode())
        for picture in _pictures_of(item):
            digest.update(_coarse(picture))
        shown |= {c.sprite for subject in item.subjects for c in (*subject.hard.candidates, *subject.easy.candidates)}
    for sprite in sorted(shown):
        digest.update(_coarse(pack.pictures[sprite]))
    return digest.hexdigest()


class _Drawer:
    """Draws scenes of one seed; those of different numbers of subjects are cut from one."""

    def __init__(self, pack: BenchPack, seed: int) -> None:
        self._chooser, self._forms = CandidateChooser(pack), FormChooser(pack)
        self._seed = seed
        self._whole: dict[int, BenchScene] = {}

    def draw(self, name: str, number: int) -> BenchScene:
        """The scene of a group of this number."""
        shown = GROUPS[name].shown
        if shown is None:
            return self._draw(name, GROUPS[name], number)
        if number not in self._whole:
            self._whole[number] = self._draw(NUMBER, GROUPS[name], number)
        return self._keep_first(self._whole[number], name, shown)

    def _draw(self, name: str, group: Group, number: int) -> BenchScene:
        rng = np.random.default_rng((self._seed, zlib.crc32(name.encode()), number))
        pack = self._chooser.pack
        scene, original = draw_scene(rng, self._chooser, group, number)
        return BenchScene(
            group=name,
            number=number,
            cell=group.cell,
            scene=scene,
            original=original,
            exchanged=exchange_references(pack, scene, original) if group.twins else None,
            pasted=paste_references(pack, scene, original),
            subjects=_ask_subjects(rng, self._chooser, self._forms, scene, original),
            place=_ask_place(rng, scene) if group.scene_subject else None,
            reordered=paint_reordered(pack, scene) if group.contact else None,
        )

    def _keep_first(self, item: BenchScene, name: str, count: int) -> BenchScene:
        """The scene with its first subjects alone, where and as they are, and the same questions about them."""
        pack = self._chooser.pack
        scene, original = keep_first(pack, item.scene, count)
        return replace(
            item,
            group=name,
            scene=scene,
            original=original,
            pasted=paste_references(pack, scene, original),
            subjects=item.subjects[:count],
        )


def _ask_subjects(
    rng: np.random.Generator, chooser: CandidateChooser, forms: FormChooser, scene: Scene, original: TrainingSample
) -> tuple[BenchSubject, ...]:
    subjects: list[BenchSubject] = []
    # A scene subject comes last and is no drawing.
    for drawing, record in zip(drawings_of(scene), original.subjects, strict=False):
        silhouette = from_run_lengths(record.mask or (), scene.height, scene.width)
        hard, easy = chooser.hard(rng, drawing), chooser.easy(rng, drawing)
        form, turns = (forms.ask(rng, drawing), forms.turns(drawing)) if scene.treatment == PLAIN else (None, ())
        subjects.append(BenchSubject(drawing, box_around(silhouette), hard, easy, form, turns))
    return tuple(subjects)


def _ask_place(rng: np.random.Generator, scene: Scene) -> BackdropQuestion:
    true = scene.background, scene.seed
    alike: list[tuple[str, int]] = []
    while len(alike) < NUM_SAME_KIND:
        other = scene.background, draw_seed(rng)
        if _backdrop_difference(true, other) >= _VISIBLE_BACKDROP:
            alike.append(other)
    kinds = [kind for kind in BACKGROUNDS if kind != scene.background]
    count = NUM_BACKDROPS - 1 - NUM_SAME_KIND
    others = [(str(kind), draw_seed(rng)) for kind in rng.choice(kinds, size=count, replace=False)]
    backdrops = [true, *alike, *others]
    shuffled = tuple(backdrops[int(index)] for index in rng.permutation(NUM_BACKDROPS))
    return BackdropQuestion(shuffled, shuffled.index(true))


def _backdrop_difference(first: tuple[str, int], second: tuple[str, int]) -> float:
    """Mean difference of two backdrops, in colour levels."""
    pictures = [paint_backdrop(kind, np.random.default_rng(seed), _BACKDROP_SIDE) for kind, seed in (first, second)]
    colours = [np.asarray(picture, np.float64) for picture in pictures]
    return float(np.abs(colours[0] - colours[1]).mean())


def _describe(item: BenchScene, pack: SpritePack) -> tuple[object, ...]:
    """Everything that is asked, but for the pictures."""
    scene = item.scene
    requests = [(s.phrase, _rounded(s.box)) for s in item.original.subjects]
    questions = [
        (
            _rounded(subject.silhouette_box),
            [_name(c, pack) for q in (subject.hard, subject.easy) for c in q.candidates],
            (subject.hard.true, subject.easy.true),
            None if subject.form is None else ([_name(c, pack) for c in subject.form.candidates], subject.form.true),
            subject.turns,
        )
        for subject in item.subjects
    ]
    place = None if item.place is None else (item.place.backdrops, item.place.true)
    where = item.group, item.number, item.cell, scene.background, scene.seed, scene.height, scene.width
    return where, item.original.caption, requests, questions, place


def _name(candidate: Candidate, pack: SpritePack) -> tuple[str, float]:
    return pack.sprites[candidate.sprite].sha256, round(candidate.colour_turn, 3)


def _rounded(box: Box) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in box.as_tuple())


def _pictures_of(item: BenchScene) -> list[Image.Image]:
    samples = [item.original] if item.exchanged is None else [item.original, item.exchanged]
    references = [subject.reference for sample in samples for subject in sample.subjects]
    reordered = [] if item.reordered is None else [item.reordered]
    return [*(sample.image for sample in samples), item.pasted, *reordered, *references]


def _coarse(picture: Image.Image) -> bytes:
    means = np.asarray(picture.resize((_TILES, _TILES), Image.Resampling.BOX))
    return (means // _STEP).tobytes()
