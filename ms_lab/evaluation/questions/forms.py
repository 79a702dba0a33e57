"""Questions that colour cannot answer: which of four forms in the same colours, and which way up?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from ms_lab.evaluation.questions.candidates import Candidate, Question, candidate_picture
from ms_lab.mini.painting import opaque_box
from ms_lab.mini.sprites import SpritePack

NUM_FORMS = 4
# Tuned together with the judge's form frames, until mosaics of the benchmark's scenes climbed from near chance to 100 %.
# Side in pixels of a drawing as it is sought by. In cells of four pixels the others look like the true one; in cells of
# two they differ by at least so many levels of colour and opacity.
_SIDE = 24
VISIBLE_FORM = 14.0
_OPAQUE = 64
_GREY = 128.0
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)
TURNS = (90, 180, 270)

_Colours = Float[np.ndarray, "pixels 3"]


def recolour(drawing: Image.Image, model: Image.Image) -> Image.Image:
    """An RGBA drawing in another one's colours: the darkest pixel takes the other's darkest, rank by rank."""
    pixels = np.array(drawing)
    painted = pixels[..., 3] > 0
    colours, ranks = _sorted_colours(np.asarray(model)), _ranks(pixels[painted][:, :3])
    pixels[painted, :3] = colours[np.round(ranks * (len(colours) - 1)).astype(int)]
    return Image.fromarray(pixels)


def turned(drawing: Image.Image, degrees: int) -> Image.Image:
    """What is opaque of an RGBA drawing, turned anticlockwise and stretched to the place it stood in.

    Proportions so tell nothing.
    """
    left, top, right, bottom = (round(value * drawing.width) for value in opaque_box(drawing).as_tuple())
    opaque = drawing.crop((left, top, right, bottom))
    canvas = Image.new("RGBA", drawing.size)
    canvas.paste(opaque.rotate(degrees, expand=True).resize(opaque.size, Image.Resampling.BILINEAR), (left, top))
    return canvas


class FormChooser:
    """Chooses forms that differ from a drawing's own in detail only.

    Args:
        pack: whose drawings are asked about.
    """

    def __init__(self, pack: SpritePack) -> None:
        self._pack = pack
        fitted = [_fitted(picture) for picture in pack.pictures]
        self._opacity = np.stack([each[..., 3] for each in fitted]) / np.float32(255)
        self._ranks = np.stack([_rank_plane(each) for each in fitted])

    def ask(self, rng: np.random.Generator, true: Candidate) -> Question:
        """The true one among three others; in its colours, they are those that look most like it from afar.

        Raises:
            ValueError: the pack has too few drawings that differ.
        """
        drawing = candidate_picture(self._pack, true)
        own, colours = _look(drawing), _sorted_colours(_fitted(drawing))
        painted = colours[np.round(self._ranks * (len(colours) - 1)).astype(int)]
        others = _coarser(_on_grey(painted, self._opacity))
        differs = _differences(own, others) >= VISIBLE_FORM
        differs[true.sprite] = False
        order = np.argsort(np.where(differs, _differences(_coarser(own), _coarser(others)), np.inf), kind="stable")
        nearest: list[int] = order[: min(NUM_FORMS - 1, int(differs.sum()))].tolist()
        if len(nearest) < NUM_FORMS - 1:
            raise ValueError("The pack has too few drawings whose form differs.")
        candidates = [true, *(Candidate(index, 0.0) for index in nearest)]
        shuffled = tuple(candidates[int(index)] for index in rng.permutation(NUM_FORMS))
        return Question(shuffled, shuffled.index(true))

    def turns(self, true: Candidate) -> tuple[int, ...]:
        """The turns, in degrees, that can be seen of a drawing, mirrored or not."""
        drawing = candidate_picture(self._pack, true)
        upright, mirrored = (_look(each) for each in (drawing, drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        looks = {degrees: _look(turned(drawing, degrees)) for degrees in TURNS}
        return tuple(
            degrees
            for degrees, look in looks.items()
            if min(float(_differences(own, look)[0]) for own in (upright, mirrored)) >= VISIBLE_FORM
        )


def form_pictures(pack: SpritePack, question: Question) -> list[Image.Image]:
    """The drawings of a question of ``FormChooser.ask``, all in the true one's colours."""
    true = candidate_picture(pack, question.candidates[question.true])
    others = (candidate_picture(pack, candidate) for candidate in question.candidates)
    return [true if place == question.true else recolour(other, true) for place, other in enumerate(others)]


def _fitted(drawing: Image.Image) -> Float[np.ndarray, "side side 4"]:
    """What is opaque of an RGBA drawing, in the middle of a small square that it fills."""
    left, top, right, bottom = (round(value * drawing.width) for value in opaque_box(drawing).as_tuple())
    opaque = drawing.crop((left, top, right, bottom))
    share = _SIDE / max(opaque.size)
    width, height = (max(1, round(length * share)) for length in opaque.size)
    canvas = Image.new("RGBA", (_SIDE, _SIDE))
    small = opaque.resize((width, height), Image.Resampling.BOX)
    canvas.paste(small, ((_SIDE - width) // 2, (_SIDE - height) // 2))
    return np.asarray(canvas, np.float32)


def _look(drawing: Image.Image) -> Float[np.ndarray, "1 cells cells 4"]:
    """A drawing in cells of two pixels."""
    picture = _fitted(drawing)[None]
    return _coarser(_on_grey(picture[..., :3], picture[..., 3] / 255))


def _on_grey(
    colours: Float[np.ndarray, "drawings side side 3"], opacity: Float[np.ndarray, "drawings side side"]
) -> Float[np.ndarray, "drawings side side 4"]:
    """Colours on grey, and opacity, both from 0 to 255."""
    alpha = opacity[..., None]
    return np.concatenate([colours * alpha + _GREY * (1 - alpha), 255 * alpha], -1)


def _coarser(looks: Float[np.ndarray, "drawings side side 4"]) -> Float[np.ndarray, "drawings half half 4"]:
    """Means of two by two pixels."""
    rows = looks[:, ::2] + looks[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4


def _differences(
    own: Float[np.ndarray, "1 side side 4"], others: Float[np.ndarray, "drawings side side 4"]
) -> Float[np.ndarray, " drawings"]:
    """Mean differences from a drawing, in levels."""
    return np.abs(others - own).reshape(len(others), -1).mean(1)


def _sorted_colours(pixels: Float[np.ndarray, "*shape 4"]) -> _Colours:
    """Colours of the opaque pixels, from dark to bright; one of all if none is opaque."""
    opaque = pixels[pixels[..., 3] > _OPAQUE][:, :3]
    colours = opaque if len(opaque) else pixels.reshape(-1, 4)[:, :3]
    return colours[np.argsort(colours @ _LUMA, kind="stable")]


def _ranks(colours: _Colours) -> Float[np.ndarray, " pixels"]:
    """Place of each pixel's brightness among all, from 0 to 1."""
    places: Int[np.ndarray, " pixels"] = np.empty(len(colours), int)
    places[np.argsort(colours @ _LUMA, kind="stable")] = np.arange(len(colours))
    return places / max(1, len(colours) - 1)


def _rank_plane(pixels: Float[np.ndarray, "side side 4"]) -> Float[np.ndarray, "side side"]:
    painted = pixels[..., 3] > 0
    plane = np.zeros(painted.shape, np.float32)
    plane[painted] = _ranks(pixels[painted][:, :3])
    return plane
