"""Small pictures of latents on their way, on the bundled model: like what comes, small, and without effect."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.random_sdxl import TINY, sdxl_parts
from ms_core.config import ModelCard, PreviewMap
from ms_core.device.modes import MemoryMode
from ms_core.model_dir.preview_map import fit_preview_map
from ms_core.sampling.events import Finished, Progress
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline
from ms_core.sampling.previews import LONGEST_SIDE, MAX_BYTES, draw_latents, preview_webp
from ms_core.spec import Box, GenerationSpec, Subject
from tests.support.paths import ROOT

MINI = ROOT / "models" / "mini"
STEPS = 8


@pytest.fixture(scope="module")
def mini() -> MSDiffusionPipeline:
    return MSDiffusionPipeline.from_pretrained(MINI, device="cpu")


@pytest.fixture(scope="module")
def spec() -> GenerationSpec:
    with Image.open(ROOT / "assets" / "demo" / "tomato.png") as tomato:
        subject = Subject("tomato", tomato.copy(), Box(0.1, 0.3, 0.5, 0.8))
    return GenerationSpec("a tomato on a wooden table", (subject,), num_inference_steps=STEPS, seed=3)


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of all colour values."""
    values = [np.asarray(picture.resize((128, 128)), dtype=float).ravel() for picture in (one, other)]
    return float(np.corrcoef(np.stack(values))[0, 1])


def previews_and_pictures(
    pipeline: MSDiffusionPipeline, *specs: GenerationSpec
) -> tuple[list[Image.Image], list[Image.Image]]:
    previews: list[Image.Image] = []
    for event in pipeline.generate(specs):
        if isinstance(event, Finished):
            return previews, [generation.image for generation in event.generations]
        if event.preview is not None:
            previews.append(event.preview())
    raise AssertionError("no pictures")


def test_there_is_one_after_each_step_and_it_comes_close(mini: MSDiffusionPipeline, spec: GenerationSpec) -> None:
    previews, [picture] = previews_and_pictures(mini, spec)
    assert len(previews) == STEPS
    assert likeness(previews[-1], picture) > 0.95
    # Half-way it shows the picture, not the noise that is still in the latents.
    assert likeness(previews[STEPS // 2], picture) > 0.8
    assert likeness(previews[-1], picture) > likeness(previews[0], picture)


def test_it_shows_the_first_picture_of_a_batch(mini: MSDiffusionPipeline, spec: GenerationSpec) -> None:
    other = replace(spec, prompt="a tomato in the sea", seed=11)
    previews, [first, second] = previews_and_pictures(mini, spec, other)
    assert likeness(previews[-1], first) > 0.95
    assert likeness(previews[-1], second) < 0.9


def test_drawing_changes_nothing(mini: MSDiffusionPipeline, spec: GenerationSpec) -> None:
    plain = mini.run(spec)[0].latents
    for event in mini.generate(spec):
        if isinstance(event, Progress) and event.preview is not None:
            event.preview()
        if isinstance(event, Finished):
            assert torch.equal(event.generations[0].latents, plain)


def test_the_models_card_holds_what_its_vae_gives(mini: MSDiffusionPipeline) -> None:
    stored, fitted = ModelCard.load(MINI).preview, fit_preview_map(mini.components.vae)
    assert stored is not None
    torch.testing.assert_close(torch.tensor(stored.matrix), torch.tensor(fitted.matrix), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(stored.bias), torch.tensor(fitted.bias), atol=1e-3, rtol=0)


@pytest.mark.parametrize("mode", ["8gb", "24gb"])
def test_a_model_without_a_map_finds_one(mode: MemoryMode, reference_picture: Callable[[int], Image.Image]) -> None:
    parts: ModelParts = sdxl_parts(TINY)
    assert parts.card.preview is None
    pipeline = MSDiffusionPipeline(parts, "cpu", mode)
    subject = Subject("cat", reference_picture(1), Box(0.1, 0.1, 0.9, 0.9))
    spec = GenerationSpec("a cat", (subject,), height=64, width=128, num_inference_steps=2, seed=5)
    previews, _ = previews_and_pictures(pipeline, spec)
    assert [preview.size for preview in previews] == [(128, 64)] * 2


@pytest.mark.parametrize(("height", "width", "size"), [(16, 16, (128, 128)), (200, 100, (64, 128)), (3, 90, (128, 4))])
def test_the_longest_side_is_always_the_same(height: int, width: int, size: tuple[int, int]) -> None:
    grey = PreviewMap(((0.0,), (0.0,), (0.0,)), (0.0, 0.0, 0.0))
    assert max(size) == LONGEST_SIDE
    assert draw_latents(torch.zeros(1, 1, height, width), grey).size == size


def test_colours_go_where_the_map_says() -> None:
    preview_map = PreviewMap(((1.0, 0.0), (0.0, 0.0), (0.0, 2.0)), (0.0, -1.0, 0.0))
    latents = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    assert draw_latents(latents, preview_map).getpixel((5, 5)) == (255, 0, 0)


def test_even_noise_is_small_enough() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    webp = preview_webp(noise)
    assert len(webp) <= MAX_BYTES
    with Image.open(io.BytesIO(webp)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (64, 64))


def test_a_preview_of_the_bundled_model_keeps_its_quality_as_webp(
    mini: MSDiffusionPipeline, spec: GenerationSpec
) -> None:
    previews, _ = previews_and_pictures(mini, spec)
    with Image.open(io.BytesIO(preview_webp(previews[-1]))) as picture:
        assert likeness(picture, previews[-1]) > 0.99
