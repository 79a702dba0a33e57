"""Whether a picture shows a subject's form, colour apart: which drawing, which way up, and in which outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs] - it has no types

from ms_lab.evaluation.judge.layouts import Layout
from ms_lab.evaluation.judge.matching import Drawing, Matcher
from ms_lab.evaluation.judge.outlines import outline_iou
from ms_lab.evaluation.judge.reading import Reading
from ms_lab.evaluation.questions.candidates import candidate_picture
from ms_lab.evaluation.questions.forms import form_pictures, turned
from ms_lab.evaluation.questions.scenes import BenchScene, BenchSubject
from ms_lab.mini.sprites import SpritePack


@dataclass(frozen=True, slots=True)
class FormVerdict:
    """What was found of one subject's form.

    Attributes:
        form: whether its own drawing was picked among four in the same colours; ``None`` where it is not asked.
        upright: whether it was picked among itself turned; ``None`` where it is not asked.
        turns: how many turned ones it stood among.
        outline: IoU of the found silhouette and the true one, after the best shift and scale.
    """

    form: bool | None
    upright: bool | None
    turns: int
    outline: float


@threadpool_limits.wrap(limits=1, user_api="blas")  # pyright: ignore[reportUnknownMemberType, reportUntypedFunctionDecorator]
def judge_forms(pictures: Sequence[Image.Image], scene: BenchScene, pack: SpritePack) -> list[list[FormVerdict]]:
    """The forms alone of pictures of one scene: for each picture, one verdict for each subject.

    Args:
        pictures: RGB, of the scene's shape.
        scene: without a treatment.
        pack: the drawings that its candidates point into.
    """
    layout = Layout.of(scene.original, len(scene.subjects))
    readings = [Reading(picture, scene.original, layout) for picture in pictures]
    by_subject = [find_forms(readings, scene, index, pack) for index in range(len(scene.subjects))]
    return [list(verdicts) for verdicts in zip(*by_subject, strict=True)]


def find_forms(readings: Sequence[Reading], scene: BenchScene, index: int, pack: SpritePack) -> list[FormVerdict]:
    """What pictures of one scene, read with its layout, show of one subject's form."""
    subject, layout = scene.subjects[index], readings[0].layout
    frames = {side: layout.form_frame(index, side) for side in {reading.side for reading in readings}}
    asked = _Asked(subject, pack)
    return [_find(reading, reading.matcher(frames[reading.side]), index, asked) for reading in readings]


class _Asked:
    """The drawings of one subject's questions, made once they are needed."""

    def __init__(self, subject: BenchSubject, pack: SpritePack) -> None:
        self.subject, self._pack = subject, pack

    @cached_property
    def forms(self) -> list[Drawing]:
        """In the true one's colours; none if it is not asked."""
        question = self.subject.form
        return [] if question is None else [Drawing.of(each) for each in form_pictures(self._pack, question)]

    @cached_property
    def turns(self) -> list[Drawing]:
        """Upright, then turned."""
        upright = candidate_picture(self._pack, self.subject.drawing)
        return [Drawing.of(each) for each in (upright, *(turned(upright, angle) for angle in self.subject.turns))]


def _find(reading: Reading, matcher: Matcher, index: int, asked: _Asked) -> FormVerdict:
    question, turns = asked.subject.form, len(asked.subject.turns)
    found = reading.segmentation.found_silhouette(index) if reading.segmentation.is_present(index) else None
    return FormVerdict(
        form=None if question is None else int(matcher.cosines(asked.forms).argmax()) == question.true,
        upright=int(matcher.cosines(asked.turns).argmax()) == 0 if turns else None,
        turns=turns,
        outline=0.0 if found is None else outline_iou(found, reading.layout.silhouettes[index]),
    )
