"""Painted masks, soft edges and z-order: against slow checks that walk every cell, and end to end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from ms_core.method.boxes import boxes_to_masks
from ms_core.method.masks import (
    BOXES_ALONE,
    Placement,
    feather_radius,
    layer_weights,
    mask_to_weights,
    picture_weights,
    place_warnings,
    soften_edges,
    subject_weights,
    union,
)
from ms_core.spec import SCENE_SCALE, WHOLE_PICTURE, AutoLayout, Box, GenerationSpec, Subject

CPU = torch.device("cpu")
PICTURE = Image.new("RGB", (4, 4))
SIDES = st.integers(1, 40)
# Height 96 and width 136 give latents of 12 x 17, and attention at 12 x 17 and 6 x 9.
HEIGHT, WIDTH = 96, 136


def subject(box: Box | None = WHOLE_PICTURE, **fields: Any) -> Subject:
    return Subject("cat", PICTURE, box, **fields)


def rectangle(height: int, width: int, pixel_box: tuple[int, int, int, int], grey: int = 255) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(grey, pixel_box)
    return mask


def random_weights(*shape: int, seed: int = 0) -> torch.Tensor:
    """Weights, a third of them 0 and a third 1."""
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (3 * values - 1).clamp(0, 1)


def place(subjects: list[Subject]) -> Placement:
    return Placement.from_rows([subjects], CPU)


# Painted masks


def slow_mask(mask: torch.Tensor, height: int, width: int) -> list[list[float]]:
    """The largest value of all pixels that overlap a cell, in whole numbers."""
    mask_height, mask_width = mask.shape

    def overlap(pixel: int, pixels: int, cell: int, cells: int) -> bool:
        return pixel * cells < (cell + 1) * pixels and (pixel + 1) * cells > cell * pixels

    return [
        [
            max(
                int(mask[y, x])
                for y in range(mask_height)
                for x in range(mask_width)
                if overlap(y, mask_height, row, height) and overlap(x, mask_width, column, width)
            )
            for column in range(width)
        ]
        for row in range(height)
    ]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_a_cell_takes_the_largest_value_of_the_pixels_it_overlaps(
    mask_height: int, mask_width: int, height: int, width: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 256, (mask_height, mask_width), generator=generator, dtype=torch.uint8)
    expected = torch.tensor(slow_mask(mask, height, width)) / 255
    assert torch.equal(mask_to_weights(mask, height, width), expected)


@st.composite
def pixel_boxes(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int]]:
    """Height and width of a picture, and a box on its pixels."""
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    x_min, y_min = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return height, width, (x_min, y_min, draw(st.integers(x_min + 1, width)), draw(st.integers(y_min + 1, height)))


def rounds_exactly(pixel: int, pixels: int, cells: int) -> bool:
    """Whether the official float32 arithmetic finds the same floor and ceil as whole numbers do."""
    product = np.float32(pixel / pixels) * np.float32(cells)
    return (math.floor(product), math.ceil(product)) == (pixel * cells // pixels, -(-pixel * cells // pixels))


@given(picture=pixel_boxes(), height=SIDES, width=SIDES)
def test_a_white_rectangle_covers_the_cells_of_its_box(
    picture: tuple[int, int, tuple[int, int, int, int]], height: int, width: int
) -> None:
    mask_height, mask_width, pixel_box = picture
    assume(all(rounds_exactly(pixel, mask_width, width) for pixel in pixel_box[::2]))
    assume(all(rounds_exactly(pixel, mask_height, height) for pixel in pixel_box[1::2]))
    painted = subject(None, mask=rectangle(mask_height, mask_width, pixel_box))
    assert painted.place is not None
    boxes = boxes_to_masks(torch.tensor([painted.place.as_tuple()]), height, width)
    assert torch.equal(place([painted]).paint(torch.zeros_like(boxes[None]))[0] > 0, boxes)


@given(
    bounds=st.tuples(SIDES, SIDES, SIDES, SIDES),
    grid=st.sampled_from([(64, 64), (32, 32), (52, 76), (25, 33), (13, 17)]),
)
def test_a_mask_of_1024_pixels_equals_every_pixel_box(bounds: tuple[int, int, int, int], grid: tuple[int, int]) -> None:
    """1024 is a power of two, so the official arithmetic is exact there and nothing has to be assumed."""
    x_min, y_min, width, height = (13 * number for number in bounds)
    pixel_box = (x_min, y_min, min(1024, x_min + width), min(1024, y_min + height))
    boxes = boxes_to_masks(torch.tensor(Box.from_pixels(pixel_box, 1024, 1024).as_tuple()), *grid)
    mask = torch.zeros(1024, 1024, dtype=torch.uint8)
    mask[pixel_box[1] : pixel_box[3], pixel_box[0] : pixel_box[2]] = 255
    assert torch.equal(mask_to_weights(mask, *grid), boxes.float())


def test_a_mask_takes_its_subjects_box_and_no_other() -> None:
    row = [subject(Box(0, 0, 0.5, 1)), subject(Box(0, 0, 0.5, 1), mask=rectangle(2, 2, (1, 0, 2, 2), grey=51))]
    boxes = boxes_to_masks(torch.tensor([[one.box.as_tuple() for one in row if one.box]]), 4, 4)
    weights = place(row).paint(boxes)[0, :, 0]
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.2, 0.2]]))


# Soft edges


def slow_soft_edges(weights: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over the window around each cell; beyond the border the nearest cell counts again."""
    height, width = weights.shape
    soft = torch.zeros_like(weights)
    window = range(-radius, radius + 1)
    for row in range(height):
        for column in range(width):
            cells = [
                float(weights[min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)])
                for down in window
                for right in window
            ]
            soft[row, column] = min(sum(cells) / len(cells), float(weights[row, column]))
    return soft


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_soft_edges_equal_the_slow_check(height: int, width: int, radius: int, seed: int) -> None:
    weights = random_weights(height, width, seed=seed)
    torch.testing.assert_close(soften_edges(weights[None], radius)[0], slow_soft_edges(weights, radius))


def test_a_soft_edge_is_full_in_the_middle_falls_to_the_edge_and_ends_there() -> None:
    box = boxes_to_masks(torch.tensor([0.25, 0.25, 0.75, 0.75]), 32, 32)
    row = soften_edges(box[None].float(), 3)[0, 16]
    assert torch.equal(row[11:21], torch.ones(10))
    assert (row[8:12].diff() > 0).all()
    assert (row[20:24].diff() < 0).all()
    assert 0.5 < row[8] < 0.6
    assert not row[:8].any()
    assert not row[24:].any()


def test_at_the_pictures_border_nothing_is_softened() -> None:
    box = boxes_to_masks(torch.tensor([0.0, 0.0, 0.5, 1.0]), 20, 30)
    soft = soften_edges(box[None].float(), 4)[0]
    assert torch.equal(soft[:, :11], torch.ones(20, 11))
    assert (soft[:, 14] < 0.6).all()


@given(st.integers(1, 254), st.integers(1, 8))
def test_an_even_grey_stays_as_it_is(grey: int, radius: int) -> None:
    weights = torch.full((1, 6, 9), grey / 255)
    torch.testing.assert_close(soften_edges(weights, radius), weights)


@pytest.mark.parametrize(
    ("feather", "grid", "radius"),
    [
        (0.0, (64, 64), 0),
        (0.1, (64, 64), 6),
        (0.1, (32, 48), 3),
        (0.1, (48, 32), 3),
        (0.125, (4, 4), 1),
        (0.1, (4, 4), 0),
    ],
)
def test_a_feather_is_a_part_of_the_shorter_side(feather: float, grid: tuple[int, int], radius: int) -> None:
    assert feather_radius(feather, *grid) == radius


def test_each_subject_has_its_own_feather() -> None:
    row = [subject(feather=feather) for feather in (0.0, 0.1, 0.25, 0.1)]
    weights = random_weights(1, 4, 10, 14)
    soft = place(row).soften(weights)
    for index, radius in enumerate((0, 1, 3, 1)):
        expected = soften_edges(weights[0, index][None], radius)[0] if radius else weights[0, index]
        assert torch.equal(soft[0, index], expected)


def test_a_feather_of_less_than_half_a_cell_leaves_the_grid_hard() -> None:
    placement = place([subject(feather=0.05)])
    weights = boxes_to_masks(torch.tensor([[[0.2, 0.2, 0.8, 0.8]]]), 8, 9).float()
    assert torch.equal(placement.soften(weights), weights)
    larger = boxes_to_masks(torch.tensor([[[0.2, 0.2, 0.8, 0.8]]]), 10, 10).float()
    assert not torch.equal(placement.soften(larger), larger)


# Who stands in front


def test_in_front_hard_cells_are_taken_out_of_those_behind() -> None:
    front, back, beside = (random_weights(5, 7, seed=seed) > 0.5 for seed in range(3))
    placement = place([subject(z_index=-1), subject(z_index=3), subject(z_index=-1)])
    left = placement.hide(torch.stack([back, front, beside]).float()[None])[0] > 0
    assert torch.equal(left, torch.stack([back & ~front, front, beside & ~front]))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=5), st.integers(0, 99))
def test_each_weight_is_what_all_in_front_leave(levels: list[int], seed: int) -> None:
    weights = random_weights(1, len(levels), 3, 4, seed=seed)
    placement = place([subject(z_index=level) for level in levels])
    left = placement.hide(weights)
    for behind, low in enumerate(levels):
        expected = weights[0, behind].clone()
        for before, high in enumerate(levels):
            if high > low:
                expected *= 1 - weights[0, before]
        torch.testing.assert_close(left[0, behind], expected)


def test_padding_hides_nobody_and_is_hidden_by_nobody() -> None:
    rows = [[subject(z_index=-5)], [subject(z_index=-5), subject(z_index=2), subject()]]
    placement = Placement.from_rows(rows, CPU)
    assert placement.in_front is not None
    assert not placement.in_front[0].any()
    assert placement.in_front[1].nonzero().tolist() == [[1, 0], [1, 2], [2, 0]]


@given(st.integers(1, 5), st.integers(0, 99))
def test_together_subjects_cover_as_layers_of_paint_do(count: int, seed: int) -> None:
    weights = random_weights(2, count, 3, 4, seed=seed)
    torch.testing.assert_close(union(weights), 1 - (1 - weights).prod(1))


def test_one_subject_covers_exactly_its_weight() -> None:
    weights = torch.zeros(1, 3, 16, 16)
    weights[0, 1] = torch.arange(256).view(16, 16) / 255
    assert torch.equal(union(weights), weights[:, 1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_soft_front_over_a_full_back_leaves_no_gap(order: tuple[int, int]) -> None:
    """What is left of the subjects sums up to what they cover: the front's soft edge shows the one behind."""
    weights = torch.stack([torch.linspace(0, 1, 12).view(3, 4), torch.ones(3, 4)])[list(order)][None]
    placement = place([subject(z_index=1 - order[0]), subject(z_index=1 - order[1])])
    torch.testing.assert_close(placement.hide(weights).sum(1), union(weights))
    assert torch.equal(union(weights), torch.ones(1, 3, 4))


# All steps together


def test_weights_are_painted_then_softened_then_hidden() -> None:
    mask = rectangle(9, 12, (2, 1, 9, 8))
    row = [subject(Box(0.1, 0.0, 0.7, 0.9), feather=0.2, z_index=1), subject(mask=mask, feather=0.1)]
    boxes = torch.tensor([[one.box.as_tuple() for one in row if one.box]])
    weights = subject_weights(boxes, place(row), (18, 24))
    painted = torch.stack(
        [boxes_to_masks(boxes[0, 0], 18, 24).float(), mask_to_weights(torch.tensor(np.array(mask)), 18, 24)]
    )
    front, back = (soften_edges(one[None], radius)[0] for one, radius in zip(painted, (4, 2), strict=True))
    assert torch.equal(weights.painted[0], painted)
    assert torch.equal(weights.softened[0], torch.stack([front, back]))
    assert torch.equal(weights.visible[0], torch.stack([front, back * (1 - front)]))


def test_start_pictures_and_warnings_see_the_weights_of_attention() -> None:
    row = [subject(Box(0.1, 0.0, 0.7, 0.9), feather=0.2, z_index=1), subject(mask=rectangle(9, 12, (2, 1, 9, 8), 99))]
    boxes = torch.tensor([[one.box.as_tuple() for one in row if one.box]])
    for ours, theirs in zip(picture_weights(row, (12, 17)), subject_weights(boxes, place(row), (12, 17)), strict=True):
        assert torch.equal(ours, theirs)


def test_a_subject_that_is_not_present_has_no_weight_and_hides_nobody() -> None:
    row = [subject(mask=rectangle(4, 4, (0, 0, 4, 4)), z_index=1, feather=0.3), subject(Box(0.0, 0.0, 0.5, 1.0))]
    present = torch.tensor([[False, True]])
    boxes = torch.tensor([[one.box.as_tuple() for one in row if one.box]])
    given = subject_weights(boxes, place(row), (8, 8), present)
    found = layer_weights(torch.ones(1, 2, 8, 8), place(row), present)
    for weights, behind in ((given, boxes_to_masks(boxes[0, 1], 8, 8).float()), (found, torch.ones(8, 8))):
        for step in weights:
            assert torch.equal(step[0], torch.stack([torch.zeros(8, 8), behind]))


# What is off by default, and what users are told


def test_plain_subjects_and_equal_levels_ask_for_nothing() -> None:
    rows = [[subject(z_index=7), subject(z_index=7)], [subject(scene=True), subject(Box(0.1, 0.1, 0.5, 0.5))]]
    assert Placement.from_rows(rows, CPU) == BOXES_ALONE


def codes(*subjects: Subject, num_steps: int = 4) -> list[tuple[str, str]]:
    return [(warning.code, warning.pointer) for warning in place_warnings(subjects, 24, 34, num_steps)]


def test_a_subject_that_is_wholly_hidden_is_a_warning() -> None:
    back, front = subject(Box(0.3, 0.3, 0.5, 0.5)), subject(Box(0.2, 0.2, 0.6, 0.6), z_index=1)
    assert codes(front, back) == [("subject_hidden", "/subjects/1/z_index")]
    assert codes(front, replace(back, box=Box(0.3, 0.3, 0.7, 0.5))) == []
    assert codes(replace(front, feather=0.2), back) == []


@pytest.mark.parametrize("times", [{"end": 0.5}, {"start": 0.25}])
def test_a_subject_that_is_seen_while_those_in_front_do_not_act_is_not_called_hidden(times: dict[str, float]) -> None:
    back, front = subject(Box(0.3, 0.3, 0.5, 0.5)), subject(Box(0.2, 0.2, 0.6, 0.6), z_index=1)
    assert codes(replace(front, **times), back) == []
    assert codes(replace(front, **times), replace(back, **times)) == [("subject_hidden", "/subjects/1/z_index")]
    # In one step only the first begins.
    assert codes(replace(front, end=0.5), back, num_steps=1) == [("subject_hidden", "/subjects/1/z_index")]


def test_a_feather_without_a_middle_is_a_warning_that_tells_the_strength() -> None:
    narrow = Box(0.4, 0.0, 0.6, 1.0)
    assert codes(subject(narrow, feather=0.05)) == []
    assert codes(subject(narrow, feather=0.3)) == [("feather_too_wide", "/subjects/0/feather")]
    (warning,) = place_warnings([subject(narrow, feather=0.5)], 24, 34, 4)
    # Eight columns of a window of 25.
    assert "at 32 %" in warning.detail


def test_a_box_too_thin_for_any_cell_is_not_called_hidden() -> None:
    assert codes(subject(Box(0.5, 0.0, 0.5 + 1e-9, 1.0), z_index=1), subject()) == []


def test_greys_that_the_user_painted_are_no_warning() -> None:
    assert codes(subject(mask=Image.new("L", (8, 8), 20), feather=0.2)) == []


# End to end


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subjects = (
        Subject("dog", reference_picture(0), Box.from_pixels((5, 20, 80, 90), HEIGHT, WIDTH)),
        Subject("cat", reference_picture(1), Box.from_pixels((47, 10, 131, 71), HEIGHT, WIDTH), scale=0.9),
    )
    return GenerationSpec("a dog and a cat on the beach", subjects, height=HEIGHT, width=WIDTH, num_inference_steps=2)


def latents(pipeline, spec: GenerationSpec) -> torch.Tensor:
    return pipeline.run(spec)[0].latents


def with_subject(spec: GenerationSpec, index: int, **fields: Any) -> GenerationSpec:
    subjects = list(spec.subjects)
    subjects[index] = replace(subjects[index], **fields)
    return replace(spec, subjects=tuple(subjects))


def test_a_painted_rectangle_gives_the_boxs_latents_to_the_last_bit(golden_pipeline, spec) -> None:
    dog = rectangle(HEIGHT, WIDTH, (5, 20, 80, 90)).convert("RGBA")
    painted = with_subject(spec, 0, box=None, mask=dog)
    painted = with_subject(painted, 1, mask=rectangle(HEIGHT, WIDTH, (47, 10, 131, 71)))
    assert painted.subjects[0].place == spec.subjects[0].box
    assert torch.equal(latents(golden_pipeline, painted), latents(golden_pipeline, spec))


def test_an_even_grey_over_the_picture_equals_that_part_of_the_scale(golden_pipeline, spec) -> None:
    """The scale is in the values, the weight in the mask; both are factors of the same sum."""
    one = replace(spec, subjects=(replace(spec.subjects[0], box=WHOLE_PICTURE, scale=0.8),))
    grey = with_subject(one, 0, mask=Image.new("L", (3, 5), 51))
    weaker = with_subject(one, 0, scale=0.8 * 51 / 255)
    torch.testing.assert_close(latents(golden_pipeline, grey), latents(golden_pipeline, weaker), atol=1e-3, rtol=0)
    assert (latents(golden_pipeline, grey) - latents(golden_pipeline, one)).abs().max() > 1e-2


def test_a_subject_that_is_wholly_hidden_has_no_effect(golden_pipeline, spec) -> None:
    hidden = with_subject(spec, 0, z_index=1, box=WHOLE_PICTURE)
    swapped = with_subject(hidden, 1, image=Image.new("RGB", (9, 9), "red"))
    assert torch.equal(latents(golden_pipeline, hidden), latents(golden_pipeline, swapped))
    shared = with_subject(hidden, 0, z_index=0)
    assert not torch.equal(latents(golden_pipeline, hidden), latents(golden_pipeline, shared))


def test_in_front_equals_a_mask_without_the_overlap(golden_pipeline, spec) -> None:
    """On cell bounds of the coarsest grid that has attention, so that the same cells are cut out on every grid."""
    front, back = (0, 0, 64, 96), (32, 32, 128, 96)
    pixels = replace(spec, height=128, width=128)
    boxes = with_subject(pixels, 0, box=Box.from_pixels(front, 128, 128))
    boxes = with_subject(boxes, 1, box=Box.from_pixels(back, 128, 128))
    cut = rectangle(128, 128, back)
    cut.paste(0, front)
    by_hand = with_subject(boxes, 1, mask=cut)
    ordered = latents(golden_pipeline, with_subject(boxes, 0, z_index=1))
    assert torch.equal(ordered, latents(golden_pipeline, by_hand))
    assert not torch.equal(ordered, latents(golden_pipeline, boxes))


def test_a_scene_is_the_whole_picture_at_its_own_scale(golden_pipeline, spec) -> None:
    scene = with_subject(spec, 1, box=None, scale=None, scene=True)
    by_hand = with_subject(spec, 1, box=Box(0, 0, 1, 1), scale=SCENE_SCALE)
    assert torch.equal(latents(golden_pipeline, scene), latents(golden_pipeline, by_hand))
    assert scene.subjects[1].own_scale == 0.4


@pytest.mark.parametrize(
    "fields",
    [{"feather": 0.2}, {"mask": rectangle(12, 17, (2, 3, 9, 9), 99)}, {"z_index": 1}],
    ids=["feather", "mask", "z_index"],
)
def test_every_wish_acts_and_with_auto_layout_too(golden_pipeline, spec, fields: dict[str, Any]) -> None:
    found = replace(spec, layout=AutoLayout(threshold=0.2, start_step=2))
    for before in (spec, found):
        after = with_subject(before, 0, **fields)
        assert (latents(golden_pipeline, after) - latents(golden_pipeline, before)).abs().max() > 1e-4


def test_a_batch_of_soft_and_hard_rows_equals_each_alone(golden_pipeline, spec) -> None:
    soft = with_subject(spec, 0, feather=0.15, z_index=2)
    painted = with_subject(spec, 1, mask=rectangle(40, 30, (3, 9, 25, 31), 130), box=None)
    one = replace(with_subject(spec, 0, feather=0.3), subjects=(replace(spec.subjects[0], feather=0.3),))
    specs = [
        soft,
        spec,
        painted,
        one,
        replace(soft, layout=AutoLayout(0.3, start_step=2)),
        replace(spec, guidance_scale=1),
    ]
    for generation, single in zip(golden_pipeline.run(specs), specs, strict=True):
        torch.testing.assert_close(generation.latents, latents(golden_pipeline, single), atol=1e-3, rtol=0)


def test_nothing_soft_stays_behind(golden_pipeline, spec) -> None:
    before = latents(golden_pipeline, spec)
    golden_pipeline.run(with_subject(spec, 0, feather=0.3, z_index=1))
    assert torch.equal(latents(golden_pipeline, spec), before)


def test_the_picture_comes_with_its_warnings(golden_pipeline, spec) -> None:
    hidden = with_subject(spec, 0, z_index=1, box=WHOLE_PICTURE)
    assert [warning.code for warning in golden_pipeline.run(hidden)[0].warnings] == ["subject_hidden"]
    with_layout = replace(hidden, layout=AutoLayout(start_step=2))
    assert golden_pipeline.run(with_layout)[0].warnings == ()
