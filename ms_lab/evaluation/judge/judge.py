"""The judge: what stands in the boxes of a picture, and on which background, by forced choice.

A picture is compared with what is known to be possible: backgrounds by linear models of their kinds
(``backdrops.py``), subjects by drawings laid into their boxes over the background fitted from the picture itself
(``matching.py``), places and extents by what differs from that background (``segmentation.py``). No trained network is
used and no part of the model. The judge sees neither phrase nor prompt; it knows where the true composite's subjects
stand, and the candidates of its questions.

- identity: of ten drawings, the true one explains best what stands in its box. Contrast does not count.
- present: a quarter of the subject's true silhouette, as far as no neighbour covers or touches it, differs from the
  background by more than the background's own texture.
- intruded: the subject is present, and the drawing of another subject of the scene explains its box better.
- iou: of the box around what clearly stands out in and near the subject's box, without specks and without what its
  neighbours may show, and the box around the true silhouette. 0 for a subject that is not present.
- inside: of all that differs from the background, the share that lies in the boxes.
- background: of eleven kinds, the picture's is the one that explains best what stands outside the boxes.
- place: of ten backdrops, the true one is nearest to what stands outside the boxes.
- treatment: of none and six treatments of the true drawing, the named one leaves least of its box unexplained. Levels
  count: what is pasted as it is stays untreated, whatever light the background stands in.
- form: of four drawings in the same colours, the true one explains the detail in its box best.
- upright: so does the true drawing among itself turned, mirrored or not.
- outline: IoU of what stands out in and near the box with the true silhouette, after the best shift and scale.
- front: in contact, where both silhouettes lie, the picture is nearer to the true composite than to the one with the
  other subject in front.
- swap: in both boxes, the drawing that belongs there explains it better than the other one, in both pictures.

Tuned on composed scenes of other seeds than the bench's, and on what the model of judge version 1 painted of such scenes:
where soft forms end, and in which light they stand. Forms came with version 3, tuned on mosaics of such scenes of the
validation half until they climbed from near chance to the composite. ``benchmarks/judge.py`` measures how often it is
right. The rule: whoever changes the scenes, the candidates, the metrics or the judge raises ``JUDGE_VERSION``, and every
number measured before is void until it is measured anew. A final training run begins after the commit of the
judge that measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] - it has no types

from ms_lab.evaluation.judge.forms import FormVerdict, find_forms
from ms_lab.evaluation.judge.fronts import Order
from ms_lab.evaluation.judge.layouts import Layout
from ms_lab.evaluation.judge.matching import Drawing, Matcher
from ms_lab.evaluation.judge.reading import Reading
from ms_lab.evaluation.judge.segmentation import box_iou
from ms_lab.evaluation.judge.views import square_box
from ms_lab.evaluation.questions.candidates import Candidate, candidate_picture
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.mini.painting import LIGHTS, PLAIN, TREATMENTS, light, pose
from ms_lab.mini.sprites import SpritePack

JUDGE_VERSION = 3
ANSWERS = (PLAIN, *TREATMENTS)
# The judge's matrices are small: several threads, which wait for each other, take many times as long.
_one_thread = threadpool_limits.wrap(limits=1, user_api="blas")  # pyright: ignore[reportUnknownMemberType] - the same


@dataclass(frozen=True, slots=True)
class SubjectVerdict:
    """What was found in one subject's box.

    Attributes:
        identity, identity_easy: whether its own drawing was picked among ten, hard ones and easy ones.
        present: whether anything stands there.
        intruded: whether another subject of the scene explains the box better.
        iou: of the found subject's box and its silhouette's.
        treatment: the one that was found, ``PLAIN`` for none; ``None`` where it is not asked.
        likeness: how well each of the scene's subjects explains the box, in their order, from -1 to 1.
        shape: its form; ``None`` in scenes with a treatment.
    """

    identity: bool
    identity_easy: bool
    present: bool
    intruded: bool
    iou: float
    treatment: str | None
    likeness: tuple[float, ...]
    shape: FormVerdict | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one picture.

    Attributes:
        subjects: in the order of the scene's.
        recognised: the background's kind, a key of ``BACKGROUNDS``.
        background: whether that is the scene's.
        inside: share of what differs from the background that lies in the boxes.
        place: whether the true backdrop was picked; ``None`` without a scene subject.
        treatment: whether the named one was found on every subject; ``None`` without one.
        front: whether the right subject is in front; ``None`` where it is not asked.
    """

    subjects: tuple[SubjectVerdict, ...]
    recognised: str
    background: bool
    inside: float
    place: bool | None
    treatment: bool | None
    front: bool | None = None


def judge_picture(picture: Image.Image, scene: BenchScene, pack: SpritePack) -> Verdict:
    """Everything that is asked of one picture of a scene; arguments as ``judge_pictures``."""
    return judge_pictures([picture], scene, pack)[0]


@_one_thread
def judge_pictures(pictures: Sequence[Image.Image], scene: BenchScene, pack: SpritePack) -> list[Verdict]:
    """Everything that is asked of pictures of one scene, each by itself; together they take less time.

    Treatments are asked only where the scene names one; its candidates are drawn under the treatment that was found.

    Args:
        pictures: RGB, of the scene's shape.
        scene: gives the questions, and where its true composite's subjects stand.
        pack: the drawings that its candidates point into.
    """
    lights = (PLAIN,) if scene.scene.treatment == PLAIN else (PLAIN, *LIGHTS)
    layout = Layout.of(scene.original, len(scene.subjects))
    readings = [Reading(picture, scene.original, layout, lights) for picture in pictures]
    drawings = _Drawings(pack)
    # What is laid into one subject's frames is forgotten before the next one's turn.
    by_subject = [_judge_subject(readings, scene, index, drawings) for index in range(len(scene.subjects))]
    order = Order.of(scene)
    return [_verdict(reading, scene, subjects, order) for reading, *subjects in zip(readings, *by_subject, strict=True)]


def _verdict(reading: Reading, scene: BenchScene, subjects: Sequence[SubjectVerdict], order: Order | None) -> Verdict:
    named = scene.scene.treatment
    return Verdict(
        subjects=tuple(subjects),
        recognised=reading.backdrop.name,
        background=reading.backdrop.name == scene.scene.background,
        inside=reading.segmentation.inside_share(),
        place=None if scene.place is None else reading.nearest_backdrop(scene.place.backdrops) == scene.place.true,
        treatment=None if named == PLAIN else all(subject.treatment == named for subject in subjects),
        front=None if order is None else order.is_right(reading.smooth),
    )


@_one_thread
def judge_swap(original: Image.Image, exchanged: Image.Image, scene: BenchScene, pack: SpritePack) -> bool:
    """Whether both boxes of both pictures hold the subject that belongs there rather than the other one.

    Raises:
        ValueError: the scene has no exchanged composite.
    """
    if scene.exchanged is None:
        raise ValueError(f"Scene {scene.number} of {scene.group} has no exchanged composite.")
    drawings = _Drawings(pack)
    pair = [subject.drawing for subject in scene.subjects]
    # Which of the pair belongs into each box.
    for picture, sample, owners in ((original, scene.original, (0, 1)), (exchanged, scene.exchanged, (1, 0))):
        layout = Layout.of(sample, 2)
        reading = Reading(picture, sample, layout)
        matchers = [reading.matcher(layout.frame(box, reading.side)) for box in range(2)]
        if tuple(_pick(matcher, drawings.of(pair)) for matcher in matchers) != owners:
            return False
    return True


class _Drawings:
    """Candidates as drawings, each made once."""

    def __init__(self, pack: SpritePack) -> None:
        self.pack = pack
        self._made: dict[tuple[Candidate, str], Drawing] = {}

    def of(self, candidates: Sequence[Candidate], treatment: str = PLAIN) -> list[Drawing]:
        """The candidates, all under one treatment."""
        return [self._one(candidate, treatment) for candidate in candidates]

    def under_each(self, candidate: Candidate, treatments: Sequence[str]) -> list[Drawing]:
        """One candidate under each of the treatments."""
        return [self._one(candidate, treatment) for treatment in treatments]

    def _one(self, candidate: Candidate, treatment: str) -> Drawing:
        key = (candidate, treatment)
        if key not in self._made:
            self._made[key] = Drawing.of(_treat(candidate_picture(self.pack, candidate), treatment))
        return self._made[key]


def _judge_subject(
    readings: Sequence[Reading], scene: BenchScene, index: int, drawings: _Drawings
) -> list[SubjectVerdict]:
    """What each picture shows of one subject."""
    frames = {side: readings[0].layout.frame(index, side) for side in {reading.side for reading in readings}}
    treated = scene.scene.treatment != PLAIN
    shapes = [None] * len(readings) if treated else find_forms(readings, scene, index, drawings.pack)
    return [
        _find_subject(reading, reading.matcher(frames[reading.side]), shape, scene, index, drawings)
        for reading, shape in zip(readings, shapes, strict=True)
    ]


def _find_subject(  # noqa: PLR0913 - one subject in one picture
    reading: Reading, matcher: Matcher, shape: FormVerdict | None, scene: BenchScene, index: int, drawings: _Drawings
) -> SubjectVerdict:
    subject = scene.subjects[index]
    treatment = None
    if scene.scene.treatment != PLAIN:
        treatment = ANSWERS[int(matcher.residuals(drawings.under_each(subject.drawing, ANSWERS)).argmin())]
    under = treatment or PLAIN
    likeness = matcher.cosines(drawings.of([other.drawing for other in scene.subjects], under))
    present = reading.segmentation.is_present(index)
    return SubjectVerdict(
        identity=_pick(matcher, drawings.of(subject.hard.candidates, under)) == subject.hard.true,
        identity_easy=_pick(matcher, drawings.of(subject.easy.candidates, under)) == subject.easy.true,
        present=present,
        intruded=present and int(likeness.argmax()) != index,
        iou=_found_iou(reading, scene, index) if present else 0.0,
        treatment=treatment,
        likeness=tuple(round(float(value), 4) for value in likeness),
        shape=shape,
    )


def _found_iou(reading: Reading, scene: BenchScene, index: int) -> float:
    found = reading.segmentation.found_box(index)
    true = square_box(scene.subjects[index].silhouette_box, scene.original.height, scene.original.width)
    return 0.0 if found is None else box_iou(found, true)


def _pick(matcher: Matcher, drawings: Sequence[Drawing]) -> int:
    return int(matcher.cosines(drawings).argmax())


def _treat(drawing: Image.Image, treatment: str) -> Image.Image:
    """An RGBA drawing in the treatment's pose and light."""
    posed = pose(drawing, treatment)
    lit = light(posed.convert("RGB"), treatment)
    lit.putalpha(posed.getchannel("A"))
    return lit
