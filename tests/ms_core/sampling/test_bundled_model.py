"""The bundled weights, checked by what they draw: noise in any part shows, whatever its file's hash says.

Four small pictures in few steps: one scene twice, its references exchanged, and two in which the text decides the colours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ms_core.model_dir.inventory import Inventory, find_changes
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from ms_lab.mini.painting import turn_hue
from tests.support.paths import ASSETS, MINI

LEFT, RIGHT = Box(0.06, 0.3, 0.46, 0.7), Box(0.54, 0.3, 0.94, 0.7)
WHERES = ("in the snow", "in the snow", "on a meadow, in black and white", "on a wooden table, at sunset")
RED_IS_LEFT = (True, False, True, False)
# Colours of the left subject, the right one and the background, as this copy of the weights draws them. Whoever trains
# the model anew looks at the pictures and writes down theirs.
DRAWN = (
    ((219, 94, 70), (41, 98, 157), (207, 224, 239)),
    ((51, 91, 152), (205, 98, 73), (208, 224, 239)),
    ((122, 117, 112), (84, 86, 87), (167, 169, 169)),
    ((97, 64, 60), (215, 76, 28), (215, 117, 57)),
)
# Levels. Another number of threads moves a colour by a hundredth, noise as strong as the weights by ten or more.
TOLERANCE = 3.0

Colours = np.ndarray[Any, Any]


def specs(scale: float) -> list[GenerationSpec]:
    """A red tomato and a blue leafy green, held-out drawings both; their order decides who stands left."""
    with Image.open(ASSETS / "demo" / "tomato.png") as tomato, Image.open(ASSETS / "demo" / "leafy-green.png") as leaf:
        red, blue = ("tomato", tomato.copy()), ("leafy green", turn_hue(leaf, 120.0))
    made: list[GenerationSpec] = []
    for where, red_is_left in zip(WHERES, RED_IS_LEFT, strict=True):
        left, right = (red, blue) if red_is_left else (blue, red)
        made.append(
            GenerationSpec(
                f"a {left[0]} and a {right[0]} {where}",
                (Subject(*left, LEFT), Subject(*right, RIGHT)),
                num_inference_steps=5,
                guidance_scale=1.0,
                scale=scale,
                seed=1,
            )
        )
    return made


def drawn_colours(parts: ModelParts, scale: float = 1.0) -> Colours:
    """Mean colours, 0 to 255, of the middles of both boxes and of what lies above and below them: (pictures, 3, 3)."""
    pipeline = MSDiffusionPipeline(parts, device="cpu")
    try:
        pictures = [np.asarray(made.image, float) for made in pipeline.run(specs(scale))]
    finally:
        pipeline.adapter.uninstall(pipeline.unet)
    background = [np.concatenate([picture[:30], picture[-30:]]) for picture in pictures]
    regions = zip([p[50:78, 20:48] for p in pictures], [p[50:78, 80:108] for p in pictures], background, strict=True)
    return np.asarray([[region.mean((0, 1)) for region in row] for row in regions])


def off_by(colours: Colours) -> float:
    """The largest difference to the colours that these weights draw."""
    return float(np.abs(colours - np.asarray(DRAWN)).max())


@pytest.fixture(scope="module")
def parts() -> ModelParts:
    return ModelParts.load(MINI, torch.float32)


@pytest.fixture(scope="module")
def colours(parts: ModelParts) -> Colours:
    return drawn_colours(parts)


def test_the_weights_draw_what_they_drew(colours: Colours) -> None:
    assert off_by(colours) <= TOLERANCE


def test_references_decide_the_subjects_and_text_decides_the_rest(colours: Colours) -> None:
    snow, exchanged, grey, sunset = colours
    for red, blue in ((snow[0], snow[1]), (exchanged[1], exchanged[0]), (sunset[1], sunset[0])):
        assert red[0] > red[1:].max() + 80
        assert blue[0] < red[0] - 80
    assert snow[1][2] > snow[1][0] + 80
    assert snow[2].min() > 190
    assert np.ptp(grey, axis=1).max() < 20
    assert list(sunset[2]) == sorted(sunset[2], reverse=True)
    assert np.ptp(sunset[2]) > 80


def test_exchanged_references_exchange_what_is_drawn(colours: Colours) -> None:
    (left, right, background), (other_left, other_right, other_background) = colours[:2]
    assert np.abs(left - other_right).max() < 30
    assert np.abs(right - other_left).max() < 30
    assert np.abs(left - other_left).max() > 80
    assert np.abs(background - other_background).max() < 3


def test_without_references_their_colours_are_not_drawn(parts: ModelParts, colours: Colours) -> None:
    """The control: at scale 0 the exchange changes nothing, and the background is still the one that the text names."""
    without = drawn_colours(parts, scale=0.0)
    assert off_by(without) > 50
    assert np.abs(without[0] - without[1]).max() < 30
    assert np.abs(without[:2, 2] - colours[:2, 2]).max() < 20


NOISY_PARTS: dict[str, Callable[[ModelParts], torch.nn.Module]] = {
    "adapter": lambda parts: parts.adapter,
    "unet": lambda parts: parts.components.unet,
    "text_encoder": lambda parts: parts.components.text_encoder,
    "text_encoder_2": lambda parts: parts.components.text_encoder_2,
    "image_encoder": lambda parts: parts.image_encoder,
}


@pytest.mark.parametrize("name", NOISY_PARTS)
def test_noise_in_a_part_shows(parts: ModelParts, name: str) -> None:
    """As strong as the weights themselves; files, sizes and tensors' names stay right."""
    module = NOISY_PARTS[name](parts)
    kept = {key: value.clone() for key, value in module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(weight.std(correction=0) * torch.randn(weight.shape, generator=generator))
        assert off_by(drawn_colours(parts)) > TOLERANCE
    finally:
        module.load_state_dict(kept)


def test_the_inventory_lists_every_file_as_it_is() -> None:
    files = {path.relative_to(MINI).as_posix() for path in MINI.rglob("*") if path.is_file()}
    assert set(Inventory.load(MINI).files) == files - {"files.json"}
    assert find_changes(MINI, hashes=True) == []
