"""Per-call data: padding, masks, what is kept and what is not, auto-layout maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from ms_core.method.attention_data import (
    AttentionData,
    AutoLayoutMaps,
    KeyValue,
    SubjectBatch,
    SubjectBias,
    SubjectMasks,
)
from ms_core.method.boxes import boxes_to_masks
from ms_core.method.places import Placement, soften_edges
from ms_core.spec import AutoLayout, Box, Subject

LATENTS = (4, 6)


def batch(*counts: int) -> SubjectBatch:
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(count, 3, 8, generator=generator) for count in counts]
    boxes = [torch.tensor([[0.0, 0.0, 0.5, 0.5]]).repeat(count, 1) for count in counts]
    return SubjectBatch.from_rows(tokens, boxes, [torch.ones(count) for count in counts])


def query(rows: int, places: int = 24) -> torch.Tensor:
    return torch.randn(rows, 2, places, 4, generator=torch.Generator().manual_seed(1))


def text_key(rows: int) -> torch.Tensor:
    return torch.randn(rows, 2, 77, 4, generator=torch.Generator().manual_seed(2))


def test_rows_are_padded_to_the_most_subjects() -> None:
    subjects = batch(1, 3, 2)
    assert subjects.tokens.shape == (3, 3, 3, 8)
    assert subjects.present.tolist() == [[True, False, False], [True, True, True], [True, True, False]]


def test_padding_is_visible_nowhere_in_a_box() -> None:
    masks = AttentionData(batch(1, 2), LATENTS).places("layer", query(2), text_key(2))
    inside = masks.covered[0, 0, :, 0]
    assert masks.visible[0, 0, inside, :3].all()
    assert not masks.visible[0, 0, inside, 3:].any()


def test_masks_follow_the_layers_grid() -> None:
    data = AttentionData(batch(1), (25, 33))
    for height, width in [(25, 33), (13, 17), (7, 9)]:
        covered = data.places("layer", query(1, height * width), text_key(1)).covered
        expected = boxes_to_masks(torch.tensor([0.0, 0.0, 0.5, 0.5]), height, width)
        assert torch.equal(covered.view(height, width), expected)


def test_keys_and_values_are_computed_once_without_gradients() -> None:
    data, source, calls = AttentionData(batch(1), LATENTS), torch.zeros(1), []

    def compute() -> KeyValue:
        calls.append(1)
        return KeyValue(torch.zeros(1), torch.zeros(1))

    with torch.no_grad():
        first, second = data.keep("layer", source, compute), data.keep("layer", source, compute)
    assert first is second
    assert len(calls) == 1


def test_another_text_is_never_read_from_what_was_kept() -> None:
    data = AttentionData(batch(1), LATENTS)
    with torch.no_grad():
        data.keep("layer", torch.zeros(1), lambda: KeyValue(torch.zeros(1), torch.zeros(1)))
        kept = data.keep("layer", torch.zeros(1), lambda: KeyValue(torch.ones(1), torch.ones(1)))
    assert kept.key.item() == 1.0


def test_nothing_is_kept_while_gradients_flow() -> None:
    data, source = AttentionData(batch(1), LATENTS), torch.zeros(1)
    values = [data.keep("layer", source, lambda: KeyValue(torch.rand(1), torch.rand(1))) for _ in range(2)]
    assert values[0] is not values[1]


def official_places(maps: list[torch.Tensor], threshold: float) -> torch.Tensor:
    """Mean of all maps so far, scaled to [0, 1] for each subject, above the threshold."""
    mean = torch.stack(maps).mean(0)
    low, high = mean.min(0).values, mean.max(0).values
    return (mean - low) / (high - low + 1e-5) > threshold


def test_auto_layout_averages_all_calls_and_starts_at_its_step() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=3)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    box_places, seen = torch.zeros(1, 24, 2, dtype=torch.bool), []
    for call in range(1, 6):
        states, key = query(1) * call, text_key(1)
        probabilities = torch.softmax(states[0] @ key[0].mT / 2.0, -1).mean(0)
        seen.append(torch.stack([probabilities[:, 2:4].mean(1), probabilities[:, 6]], 1))
        places = maps.update("layer", states, key, box_places)
        expected = official_places(seen, 0.5) if call >= 3 else box_places[0]
        assert torch.equal(places[0], expected)


def test_auto_layout_counts_each_layer_alone() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=2)], [[(2, 3)]], torch.device("cpu"))
    nothing = torch.zeros(1, 24, 1, dtype=torch.bool)
    maps.update("one", query(1), text_key(1), nothing)
    assert not maps.update("two", query(1), text_key(1), nothing).any()
    assert maps.update("one", query(1), text_key(1), nothing).any()


def test_rows_without_auto_layout_keep_their_boxes() -> None:
    spans = [[(2, 3)], [(2, 3)]]
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=1), None], spans, torch.device("cpu"))
    box_places = torch.rand(2, 24, 1, generator=torch.Generator().manual_seed(4)) > 0.5
    places = maps.update("layer", query(2), text_key(2), box_places)
    assert torch.equal(places[1], box_places[1])
    assert not torch.equal(places[0], box_places[0])


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_padding_is_never_found(threshold: float) -> None:
    layouts = [AutoLayout(threshold, start_step=1)] * 2
    maps = AutoLayoutMaps(layouts, [[(1, 2)], [(1, 2), (3, 4)]], torch.device("cpu"))
    masks = AttentionData(batch(1, 2), LATENTS, maps).places("layer", query(2), text_key(2))
    assert not masks.visible[0, 0, masks.covered[0, 0, :, 0], 3:].any()


PICTURE = Image.new("RGB", (4, 4))
LEFT, MIDDLE = Box(0.0, 0.0, 0.5, 1.0), Box(0.25, 0.0, 0.75, 1.0)
GRID = (16, 12)


def subject(box: Box = LEFT, **fields: Any) -> Subject:
    return Subject("cat", PICTURE, box, **fields)


def placed(*rows: Sequence[Subject], auto_layout: AutoLayoutMaps | None = None) -> AttentionData:
    """Attention data of subjects as the conditioner makes it, with random tokens, on a grid of 16 x 12."""
    tokens = [torch.randn(len(row), 3, 8, generator=torch.Generator().manual_seed(len(row))) for row in rows]
    boxes = [torch.tensor([one.box.as_tuple() for one in row if one.box is not None]) for row in rows]
    placement = Placement.from_rows(rows, torch.device("cpu"))
    batch = SubjectBatch.from_rows(tokens, boxes, [torch.ones(len(row)) for row in rows], placement)
    return AttentionData(batch, GRID, auto_layout)


def places_of(data: AttentionData) -> SubjectMasks | SubjectBias:
    rows, places = data.num_conditional, GRID[0] * GRID[1]
    return data.places("layer", query(rows, places), text_key(rows))


def weights_of(data: AttentionData) -> torch.Tensor:
    """Each subject's weight ``[rows, subjects, height, width]``, read off its first token's bias."""
    places = places_of(data)
    assert isinstance(places, SubjectBias)
    covered = places.coverage > 0
    weights = torch.where(covered, places.attention_bias.exp(), 0.0)[:, 0, :, ::3]
    return weights.mT.unflatten(-1, GRID)


def box_weights(*boxes: Box) -> torch.Tensor:
    return boxes_to_masks(torch.tensor([box.as_tuple() for box in boxes]), *GRID).float()


@pytest.mark.parametrize(
    "row",
    [
        [subject()],
        [subject(z_index=1), subject(MIDDLE)],
        [subject(feather=0.01)],
        [subject(mask=Image.new("1", (3, 3), 1))],
    ],
)
def test_hard_places_are_read_as_masks(row: list[Subject]) -> None:
    assert isinstance(places_of(placed(row)), SubjectMasks)


def test_a_hidden_subject_is_not_seen_where_the_front_stands() -> None:
    masks = places_of(placed([subject(z_index=1), subject(MIDDLE)]))
    assert isinstance(masks, SubjectMasks)
    front, back = box_weights(LEFT, MIDDLE) > 0
    by_hand = SubjectMasks.from_places(torch.stack([front, back & ~front]).flatten(1).mT[None], 3)
    assert torch.equal(masks.visible, by_hand.visible)
    assert torch.equal(masks.covered, by_hand.covered)


def test_soft_edges_come_before_the_order() -> None:
    front, back = weights_of(placed([subject(feather=0.2, z_index=1), subject(MIDDLE)]))[0]
    hard_front, hard_back = box_weights(LEFT, MIDDLE)
    soft_front = soften_edges(hard_front[None], 2)[0]
    torch.testing.assert_close(front, soft_front)
    torch.testing.assert_close(back, hard_back * (1 - soft_front))


def test_a_soft_front_and_what_shows_behind_it_cover_the_place_together() -> None:
    places = places_of(placed([subject(feather=0.2, z_index=1), subject(MIDDLE, feather=0.1)]))
    assert isinstance(places, SubjectBias)
    front, back = soften_edges(box_weights(LEFT), 2)[0], soften_edges(box_weights(MIDDLE), 1)[0]
    torch.testing.assert_close(places.coverage.view(GRID), 1 - (1 - front) * (1 - back))


def test_padding_has_no_weight_and_every_row_its_own() -> None:
    rows = [[subject(feather=0.2)], [subject(MIDDLE), subject(LEFT)]]
    weights = weights_of(placed(*rows))
    torch.testing.assert_close(weights[0], torch.stack([soften_edges(box_weights(LEFT), 2)[0], torch.zeros(GRID)]))
    torch.testing.assert_close(weights[1], box_weights(MIDDLE, LEFT))


def test_a_dropped_subject_hides_nobody() -> None:
    data = placed([subject(z_index=1, feather=0.2), subject(MIDDLE)])
    data.subjects.present[0, 0] = False
    torch.testing.assert_close(weights_of(data)[0], torch.stack([torch.zeros(GRID), box_weights(MIDDLE)[0]]))


def test_a_mask_acts_until_auto_layout_has_found_the_places() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=2)], [[(2, 4)]], torch.device("cpu"))
    data = placed([subject(mask=Image.new("L", (3, 3), 102))], auto_layout=maps)
    torch.testing.assert_close(weights_of(data), torch.full((1, 1, *GRID), 0.4))
    found = weights_of(data)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_found_places_get_soft_edges_and_an_order() -> None:
    """The same maps twice: once as found, once softened and ordered by hand."""

    def found(row: list[Subject]) -> SubjectMasks | SubjectBias:
        maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
        return places_of(placed(row, auto_layout=maps))

    plain = found([subject(), subject()])
    assert isinstance(plain, SubjectMasks)
    hard = (plain.visible & plain.covered)[:, 0, :, ::3].mT.unflatten(-1, GRID).float()
    soft = soften_edges(hard, 2)
    maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    weights = weights_of(placed([subject(feather=0.2), subject(feather=0.2, z_index=1)], auto_layout=maps))
    torch.testing.assert_close(weights[:, 1], soft[:, 1])
    torch.testing.assert_close(weights[:, 0], soft[:, 0] * (1 - soft[:, 1]))


def test_bias_and_coverage_are_of_the_querys_dtype() -> None:
    data = placed([subject(feather=0.2), subject(MIDDLE)])
    half = data.places("layer", query(1, 192).half(), text_key(1).half())
    assert isinstance(half, SubjectBias)
    assert (half.attention_bias.dtype, half.coverage.dtype) == (torch.float16, torch.float16)
    assert half.attention_bias.isneginf().any()
    assert not half.attention_bias.isnan().any()
