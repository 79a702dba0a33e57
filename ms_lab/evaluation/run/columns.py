"""Columns of few scenes, made and judged at one go; nothing of them is kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from ms_core.spec import GenerationSpec
from ms_lab.evaluation.judge.judge import Verdict, judge_pictures
from ms_lab.evaluation.questions.columns import THROUGH_VAE, Requests
from ms_lab.evaluation.questions.scenes import BenchScene
from ms_lab.evaluation.run.making import Advance, Maker
from ms_lab.mini.sprites import SpritePack

Ask = Callable[[BenchScene], GenerationSpec]
Pictures = dict[str, list[Image.Image]]


def make_columns(requests: Requests, maker: Maker, asked: Mapping[str, Ask], advance: Advance) -> Pictures:
    """The pictures of columns, and of the composed pictures through the VAE, in the order of the scenes.

    Args:
        requests: for square scenes.
        maker: of the pictures.
        asked: column to what it asks of the model for a scene.
        advance: called with the number of pictures that have just been made.
    """
    height, width = requests.square_size
    made: Pictures = {column: [] for column in (*asked, THROUGH_VAE)}
    for start in range(0, len(requests.scenes), maker.batch_size):
        batch = requests.scenes[start : start + maker.batch_size]
        for column, ask in asked.items():
            made[column] += maker.generate([ask(scene) for scene in batch])
            advance(len(batch))
        made[THROUGH_VAE] += maker.reconstruct([scene.original.image.resize((width, height)) for scene in batch])
        advance(len(batch))
    return made


def judge_columns(
    pictures: Pictures, scenes: Sequence[BenchScene], pack: SpritePack, advance: Advance
) -> dict[str, list[Verdict]]:
    """What the judge finds in the pictures of every column, in the order of the scenes.

    Args:
        pictures: of the columns.
        scenes, pack: that they show.
        advance: called with the number of scenes that have just been judged.
    """
    verdicts: dict[str, list[Verdict]] = {column: [] for column in pictures}
    for number, scene in enumerate(scenes):
        shown = [made[number] for made in pictures.values()]
        for found, verdict in zip(verdicts.values(), judge_pictures(shown, scene, pack), strict=True):
            found.append(verdict)
        advance(1)
    return verdicts
