"""Form questions: the same colours everywhere, alike from afar, different from near."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ms_lab.evaluation.questions.candidates import Candidate, candidate_picture
from ms_lab.evaluation.questions.forms import NUM_FORMS, FormChooser, form_pictures, recolour, turned
from ms_lab.evaluation.questions.packs import BenchPack
from ms_lab.mini.halves import VALIDATION
from ms_lab.mini.painting import opaque_box
from ms_lab.mini.sprites import Sprite, SpritePack
from tests.support.paths import ASSETS

LUMA = np.asarray([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS, VALIDATION)


@pytest.fixture(scope="module")
def chooser(pack: BenchPack) -> FormChooser:
    return FormChooser(pack)


def opaque(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[pixels[..., 3] > 64][:, :3].astype(float)


def test_a_recoloured_drawing_keeps_its_form_and_order_of_brightness(pack: BenchPack) -> None:
    other, true = pack.pictures[3], pack.pictures[40]
    made = recolour(other, true)
    assert np.array_equal(np.asarray(made)[..., 3], np.asarray(other)[..., 3])
    assert {tuple(colour) for colour in opaque(made)} <= {tuple(colour) for colour in opaque(true)}
    before, after = opaque(other) @ LUMA, opaque(made) @ LUMA
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= -1e-6).all()
    quantiles = np.linspace(0, 1, 11)
    assert np.quantile(after, quantiles) == pytest.approx(np.quantile(opaque(true) @ LUMA, quantiles), abs=25)


def test_the_true_form_is_among_others_that_are_other_drawings(pack: BenchPack, chooser: FormChooser) -> None:
    places = set()
    for sprite in pack.by_cell["both"].values():
        true = Candidate(sprite[0], 0.0)
        question = chooser.ask(np.random.default_rng(sprite[0]), true)
        assert question.candidates[question.true] == true
        assert len({candidate.sprite for candidate in question.candidates}) == NUM_FORMS
        places.add(question.true)
        pictures = form_pictures(pack, question)
        assert pictures[question.true].tobytes() == candidate_picture(pack, true).tobytes()
    assert places == set(range(NUM_FORMS))


def test_from_afar_the_others_look_more_like_the_true_one_than_most(pack: BenchPack, chooser: FormChooser) -> None:
    def afar(picture: Image.Image) -> np.ndarray:
        canvas = Image.new("RGBA", picture.size, "grey")
        canvas.alpha_composite(picture)
        return np.asarray(canvas.convert("RGB").resize((4, 4), Image.Resampling.BOX), float)

    closer = []
    for concept in sorted(pack.by_cell["both"])[:12]:
        true = Candidate(pack.by_cell["both"][concept][0], 0.0)
        question = chooser.ask(np.random.default_rng(0), true)
        own = candidate_picture(pack, true)
        distances = [np.abs(afar(each) - afar(own)).mean() for each in form_pictures(pack, question)]
        usual = [np.abs(afar(recolour(other, own)) - afar(own)).mean() for other in pack.pictures[::40]]
        closer.append(sum(distances) / (NUM_FORMS - 1) < np.quantile(usual, 0.3))
    assert np.mean(closer) >= 0.9


def _drawing(shape: str) -> Image.Image:
    picture = Image.new("RGBA", (96, 96))
    pen = ImageDraw.Draw(picture)
    if shape == "disc":
        pen.ellipse((8, 8, 87, 87), fill="red")
    else:
        pen.rectangle((28, 8, 68, 87), fill="red")
        if shape == "half":
            pen.rectangle((28, 8, 68, 40), fill="blue")
    return picture


@pytest.mark.parametrize(("shape", "turns"), [("disc", ()), ("bar", ()), ("half", (90, 180, 270))])
def test_only_turns_that_can_be_seen_are_asked(shape: str, turns: tuple[int, ...]) -> None:
    sprite = Sprite("artist", shape, shape, shape, "0", "MIT")
    assert FormChooser(SpritePack([sprite], [_drawing(shape)])).turns(Candidate(0, 0.0)) == turns


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_drawing_stands_where_it_stood(degrees: int) -> None:
    own, shown = _drawing("half"), turned(_drawing("half"), degrees)
    assert opaque_box(shown).as_tuple() == pytest.approx(opaque_box(own).as_tuple(), abs=1 / 96)
    colours = np.asarray(shown)[10, 48] if degrees != 90 else np.asarray(shown)[48, 30]
    assert (colours[2] > 200) == (degrees == 90)


def test_a_pack_of_too_few_forms_is_told() -> None:
    sprites = [Sprite("artist", str(n), str(n), str(n), "0", "MIT") for n in range(4)]
    with pytest.raises(ValueError, match="too few"):
        FormChooser(SpritePack(sprites, [_drawing("disc")] * 4)).ask(np.random.default_rng(0), Candidate(0, 0.0))
