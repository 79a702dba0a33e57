"""Start pictures: diffusers' own image to image and inpainting, and places that stay to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import (
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from ms_core.errors import BatchMismatchError, InvalidInputError, LayoutError
from ms_core.sampling.events import Progress
from ms_core.sampling.latents import encode_picture
from ms_core.sampling.starts import redraw_weights
from ms_core.spec import AutoLayout, Box, GenerationSpec, StartPicture, Subject
from tests.support.plain_sdxl import (
    HEIGHT,
    WIDTH,
    diffusers_scheduler,
    our_latents,
    plain_latents,
    plain_sdxl,
    silent_spec,
    size_of,
)
from tests.support.scheduler_kinds import KINDS_FIRST

# Both lie on whole cells of the latents, so that diffusers' mask in pixels says the same.
CELLS = (slice(2, 6), slice(3, 8))
BOX = Box.from_pixels((24, 16, 64, 48), HEIGHT, WIDTH)


def picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A smooth picture of random colours."""
    pixels = torch.randint(0, 256, (6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    return silent_spec(reference_picture(0), num_inference_steps=8, start=StartPicture(picture(1), 0.6))


@pytest.fixture
def redrawing(spec, reference_picture) -> GenerationSpec:
    """A spec that redraws the second of two subjects, both of which act."""
    subjects = (
        Subject("dog", reference_picture(0), Box(0.0, 0.0, 0.4, 1.0), scale=0.8),
        Subject("beach", reference_picture(1), BOX, scale=0.8),
    )
    return replace(spec, subjects=subjects, start=replace(spec.start, redraw=(1,)))


def inpaint_mask() -> Image.Image:
    """White where ``BOX`` is, in pixels."""
    mask = Image.new("L", (WIDTH, HEIGHT), 0)
    mask.paste(255, (24, 16, 64, 48))
    return mask


def start_latents(pipeline, spec: GenerationSpec) -> torch.Tensor:
    """The start picture's latents as the spec's generator draws them."""
    generator = torch.Generator().manual_seed(spec.seed)
    return encode_picture(pipeline.components, spec.start.image, spec.height, spec.width, generator)


@pytest.mark.parametrize("name", KINDS_FIRST)
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_image_to_image_is_diffusers_own(golden_pipeline, spec, name: str, strength: float) -> None:
    spec = replace(spec, scheduler=name, start=replace(spec.start, strength=strength))
    plain = plain_sdxl(StableDiffusionXLImg2ImgPipeline, diffusers_scheduler(name))
    expected = plain_latents(plain, spec, image=spec.start.image, strength=strength)
    torch.testing.assert_close(our_latents(golden_pipeline, spec), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "euler", "heun", "unipc"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_redrawing_is_diffusers_own_inpainting(golden_pipeline, spec, name: str, strength: float) -> None:
    """Not for schedulers that draw noise: diffusers encodes the masked picture too, with the same generator."""
    subjects = (replace(spec.subjects[0], box=BOX),)
    spec = replace(spec, scheduler=name, subjects=subjects, start=replace(spec.start, strength=strength, redraw=(0,)))
    plain = plain_sdxl(StableDiffusionXLInpaintPipeline, diffusers_scheduler(name))
    expected = plain_latents(
        plain, spec, image=spec.start.image, mask_image=inpaint_mask(), strength=strength, **size_of(spec)
    )
    torch.testing.assert_close(our_latents(golden_pipeline, spec), expected, atol=1e-4, rtol=1e-5)


def test_a_start_picture_of_any_size_and_mode_is_stretched(golden_pipeline, spec) -> None:
    small = picture(1, (20, 30))
    stretched = small.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    one, other = (
        our_latents(golden_pipeline, replace(spec, start=replace(spec.start, image=image)))
        for image in (small, stretched)
    )
    assert torch.equal(one, other)
    grey = replace(spec, start=replace(spec.start, image=small.convert("LA")))
    assert our_latents(golden_pipeline, grey).isfinite().all()


@pytest.mark.parametrize("name", KINDS_FIRST)
def test_outside_the_redrawn_places_nothing_changes_at_all(golden_pipeline, redrawing, name: str) -> None:
    redrawing = replace(redrawing, scheduler=name)
    start, result = start_latents(golden_pipeline, redrawing), our_latents(golden_pipeline, redrawing)
    inside = torch.zeros(start.shape[-2:], dtype=torch.bool)
    inside[CELLS] = True
    assert torch.equal(result[..., ~inside], start[..., ~inside])
    assert (result[..., inside] - start[..., inside]).abs().amax(1).min() > 1e-3


def test_a_result_fed_back_changes_only_the_subject_that_is_replaced(
    golden_pipeline, redrawing, reference_picture
) -> None:
    first = golden_pipeline.run(replace(redrawing, start=None))[0]
    dog, beach = redrawing.subjects
    again = replace(redrawing, start=StartPicture(first.image, 1.0, (1,)))
    same, replaced = (
        our_latents(golden_pipeline, replace(again, subjects=(dog, replace(beach, image=reference_picture(number)))))
        for number in (1, 2)
    )
    changed = (same - replaced).abs().amax(1)[0] > 0
    inside = torch.zeros_like(changed)
    inside[CELLS] = True
    assert torch.equal(changed, inside)


def test_soft_edges_change_in_part(golden_pipeline, redrawing) -> None:
    dog, beach = redrawing.subjects
    soft = replace(redrawing, subjects=(dog, replace(beach, feather=0.15)))
    start = start_latents(golden_pipeline, soft)
    result = our_latents(golden_pipeline, soft)
    weights = redraw_weights(soft.subjects, (1,), *start.shape[-2:])[0]
    assert 0 < weights[2, 3] < 1
    assert torch.equal(result[..., weights == 0], start[..., weights == 0])


def test_redraw_weights_are_the_boxes_cells(reference_picture) -> None:
    subjects = [
        Subject("a", reference_picture(0), Box(0.0, 0.0, 0.5, 0.5)),
        Subject("b", reference_picture(0), Box(0.26, 0.26, 1.0, 0.74)),
        Subject("c", reference_picture(0), Box(0.0, 0.75, 1.0, 1.0)),
    ]
    expected = torch.zeros(4, 4)
    expected[1:3, 1:] = 1
    assert torch.equal(redraw_weights(subjects, (1,), 4, 4)[0], expected)
    expected[3] = 1
    assert torch.equal(redraw_weights(subjects, (2, 1), 4, 4)[0], expected)
    assert redraw_weights(subjects, (), 4, 4).eq(1).all()


def test_who_stands_in_front_of_a_redrawn_subject_stays(reference_picture) -> None:
    behind = Subject("b", reference_picture(0), Box(0.0, 0.0, 1.0, 0.5))
    front = Subject("a", reference_picture(0), Box(0.0, 0.0, 0.5, 0.5), z_index=1)
    expected = torch.zeros(4, 4)
    expected[:2, 2:] = 1
    assert torch.equal(redraw_weights([front, behind], (1,), 4, 4)[0], expected)


def test_a_painted_mask_takes_the_boxs_place(reference_picture) -> None:
    mask = Image.new("L", (4, 4), 0)
    mask.paste(255, (1, 2, 3, 4))
    expected = torch.zeros(4, 4)
    expected[2:, 1:3] = 1
    subject = Subject("a", reference_picture(0), mask=mask)
    assert torch.equal(redraw_weights([subject], (0,), 4, 4)[0], expected)


def test_rows_of_a_batch_have_pictures_and_places_of_their_own(golden_pipeline, redrawing) -> None:
    whole = replace(redrawing, start=replace(redrawing.start, image=picture(2), redraw=()), seed=9)
    for name in ("euler", "euler_ancestral"):
        specs = [replace(spec, scheduler=name) for spec in (redrawing, whole)]
        for generation, single in zip(golden_pipeline.run(specs), specs, strict=True):
            alone = our_latents(golden_pipeline, single)
            torch.testing.assert_close(generation.latents, alone, atol=1e-3, rtol=1e-3)


def test_rows_share_the_strength(golden_pipeline, spec) -> None:
    other = replace(spec, start=replace(spec.start, strength=0.5))
    for mixed in ([spec, other], [spec, replace(spec, start=None)]):
        with pytest.raises(BatchMismatchError, match="strength") as caught:
            golden_pipeline.generate(mixed)
        assert caught.value.pointer == "/start/strength"


@pytest.mark.parametrize(("name", "steps"), [("euler", 4), ("heun", 7)])
def test_progress_counts_the_steps_that_are_really_done(golden_pipeline, spec, name: str, steps: int) -> None:
    spec = replace(spec, scheduler=name, start=replace(spec.start, strength=0.5))
    events = [event for event in golden_pipeline.generate(spec) if isinstance(event, Progress)]
    assert {event.num_inference_steps for event in events} == {steps}
    assert [event.step for event in events if event.phase == "denoise"] == list(range(steps + 1))


def test_a_strength_that_leaves_no_step_is_refused_at_the_call(golden_pipeline, spec) -> None:
    with pytest.raises(InvalidInputError, match=r"8 steps, a strength of 0.1 .* at least 0.13") as caught:
        golden_pipeline.generate(replace(spec, start=replace(spec.start, strength=0.1)))
    assert caught.value.pointer == "/start/strength"


@pytest.mark.parametrize("steps", range(1, 151))
def test_the_strength_that_is_named_leaves_a_step(steps: int) -> None:
    with pytest.raises(InvalidInputError) as caught:
        StartPicture(picture(1), 1e-6).num_kept_steps(steps)
    least = float(caught.value.detail.split("at least ")[1].split(",")[0])
    assert StartPicture(picture(1), least).num_kept_steps(steps) == 1


def test_the_auto_layout_has_no_places_to_redraw(redrawing) -> None:
    with pytest.raises(LayoutError, match="boxes") as caught:
        replace(redrawing, layout=AutoLayout())
    assert caught.value.pointer == "/start/redraw"
