from __future__ import annotations

from PIL import Image

from tests.support.job_helpers import picture_png
from worker.png_recipe import png_with_recipe, read_recipe


def test_a_png_carries_its_recipe() -> None:
    recipe = {"request": {"prompt": "猫 \N{CAT FACE}" * 5000}, "seed": 2**53 - 1}
    assert read_recipe(png_with_recipe(Image.new("RGB", (8, 8)), recipe)) == recipe


def test_a_png_without_recipe_has_none() -> None:
    assert read_recipe(picture_png()) is None
