"""Per-call data: padding, masks, what is cached and what is not, auto-layout maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from ms_core.method.attention_data import AttentionData, AutoLayoutMaps, KeyValue, SubjectBatch
from ms_core.method.boxes import boxes_to_masks
from ms_core.method.masks import Placement, SubjectMask, soften_edges
from ms_core.spec import AutoLayout, Box, Subject

LATENTS = (4, 6)


def batch(*counts: int) -> SubjectBatch:
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(count, 3, 8, generator=generator) for count in counts]
    boxes = [torch.tensor([[0.0, 0.0, 0.5, 0.5]]).repeat(count, 1) for count in counts]
    return SubjectBatch.from_rows(tokens, boxes, [torch.ones(count) for count in counts])


def query(rows: int, cells: int = 24) -> torch.Tensor:
    return torch.randn(rows, 2, cells, 4, generator=torch.Generator().manual_seed(1))


def text_key(rows: int) -> torch.Tensor:
    return torch.randn(rows, 2, 77, 4, generator=torch.Generator().manual_seed(2))


def test_rows_are_padded_to_the_most_subjects() -> None:
    subjects = batch(1, 3, 2)
    assert subjects.tokens.shape == (3, 3, 3, 8)
    assert subjects.present.tolist() == [[True, False, False], [True, True, True], [True, True, False]]


def test_padding_is_visible_nowhere_in_a_box() -> None:
    mask = AttentionData(batch(1, 2), LATENTS).mask("layer", query(2), text_key(2))
    inside = mask.coverage[0, 0, :, 0] > 0
    assert inside.any()
    assert mask.attn_mask[0, 0, inside, :3].eq(0).all()
    assert mask.attn_mask[0, 0, inside, 3:].isneginf().all()


def test_masks_follow_the_layers_grid() -> None:
    data = AttentionData(batch(1), (25, 33))
    for height, width in [(25, 33), (13, 17), (7, 9)]:
        coverage = data.mask("layer", query(1, height * width), text_key(1)).coverage
        expected = boxes_to_masks(torch.tensor([0.0, 0.0, 0.5, 0.5]), height, width)
        assert torch.equal(coverage.view(height, width), expected.float())


def test_keys_and_values_are_computed_once_without_gradients() -> None:
    data, source, calls = AttentionData(batch(1), LATENTS), torch.zeros(1), []

    def compute() -> KeyValue:
        calls.append(1)
        return KeyValue(torch.zeros(1), torch.zeros(1))

    with torch.no_grad():
        first, second = data.cached("layer", source, compute), data.cached("layer", source, compute)
    assert first is second
    assert len(calls) == 1


def test_another_text_is_never_read_from_the_cache() -> None:
    data = AttentionData(batch(1), LATENTS)
    with torch.no_grad():
        data.cached("layer", torch.zeros(1), lambda: KeyValue(torch.zeros(1), torch.zeros(1)))
        cached = data.cached("layer", torch.zeros(1), lambda: KeyValue(torch.ones(1), torch.ones(1)))
    assert cached.key.item() == 1.0


def test_nothing_is_cached_while_gradients_flow() -> None:
    data, source = AttentionData(batch(1), LATENTS), torch.zeros(1)
    values = [data.cached("layer", source, lambda: KeyValue(torch.rand(1), torch.rand(1))) for _ in range(2)]
    assert values[0] is not values[1]


def official_cells(maps: list[torch.Tensor], threshold: float) -> torch.Tensor:
    """Mean of all maps so far, scaled to [0, 1] for each subject, above the threshold."""
    mean = torch.stack(maps).mean(0)
    low, high = mean.min(0).values, mean.max(0).values
    return (mean - low) / (high - low + 1e-5) > threshold


def test_auto_layout_averages_all_calls_and_starts_at_its_step() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=3)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    box_cells, seen = torch.zeros(1, 2, *LATENTS), []
    for call in range(1, 6):
        states, key = query(1) * call, text_key(1)
        probabilities = torch.softmax(states[0] @ key[0].mT / 2.0, -1).mean(0)
        seen.append(torch.stack([probabilities[:, 2:4].mean(1), probabilities[:, 6]], 1))
        weights = maps.update("layer", states, key, box_cells)
        expected = official_cells(seen, 0.5).mT.unflatten(-1, LATENTS).float() if call >= 3 else box_cells[0]
        assert torch.equal(weights[0], expected)


def test_auto_layout_counts_each_layer_alone() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=2)], [[(2, 3)]], torch.device("cpu"))
    nothing = torch.zeros(1, 1, *LATENTS)
    maps.update("one", query(1), text_key(1), nothing)
    assert not maps.update("two", query(1), text_key(1), nothing).any()
    assert maps.update("one", query(1), text_key(1), nothing).any()


def test_rows_without_auto_layout_keep_their_boxes() -> None:
    spans = [[(2, 3)], [(2, 3)]]
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=1), None], spans, torch.device("cpu"))
    box_cells = torch.rand(2, 1, *LATENTS, generator=torch.Generator().manual_seed(4)).round()
    weights = maps.update("layer", query(2), text_key(2), box_cells)
    assert torch.equal(weights[1], box_cells[1])
    assert not torch.equal(weights[0], box_cells[0])


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_padding_is_never_found(threshold: float) -> None:
    layouts = [AutoLayout(threshold, start_step=1)] * 2
    maps = AutoLayoutMaps(layouts, [[(1, 2)], [(1, 2), (3, 4)]], torch.device("cpu"))
    mask = AttentionData(batch(1, 2), LATENTS, maps).mask("layer", query(2), text_key(2))
    assert mask.attn_mask[0, 0, mask.coverage[0, 0, :, 0] > 0, 3:].isneginf().all()


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


def mask_of(data: AttentionData) -> SubjectMask:
    rows, cells = data.num_conditional, GRID[0] * GRID[1]
    return data.mask("layer", query(rows, cells), text_key(rows))


def weights_of(data: AttentionData) -> torch.Tensor:
    """Each subject's weight ``[rows, subjects, height, width]``, read off its first token's bias."""
    mask = mask_of(data)
    weights = torch.where(mask.coverage > 0, mask.attn_mask.exp(), 0.0)[:, 0, :, ::3]
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
def test_hard_edges_give_masks_of_nothing_or_all(row: list[Subject]) -> None:
    mask = mask_of(placed(row))
    assert set(mask.attn_mask.unique().tolist()) <= {-torch.inf, 0.0}
    assert set(mask.coverage.unique().tolist()) <= {0.0, 1.0}


def test_a_hidden_subject_is_not_seen_where_the_front_stands() -> None:
    data = placed([subject(z_index=1), subject(MIDDLE)])
    front, back = box_weights(LEFT, MIDDLE)
    assert torch.equal(weights_of(data)[0], torch.stack([front, back * (1 - front)]))
    assert torch.equal(mask_of(data).coverage.view(GRID), torch.maximum(front, back))


def test_each_subjects_tokens_share_its_weight() -> None:
    mask = mask_of(placed([subject(feather=0.2), subject(MIDDLE, feather=0.1)])).attn_mask
    first, second = mask[..., :3], mask[..., 3:]
    assert torch.equal(first, first[..., :1].expand_as(first))
    assert torch.equal(second, second[..., :1].expand_as(second))
    assert not torch.equal(first, second)


def test_soft_edges_come_before_the_order() -> None:
    front, back = weights_of(placed([subject(feather=0.2, z_index=1), subject(MIDDLE)]))[0]
    hard_front, hard_back = box_weights(LEFT, MIDDLE)
    soft_front = soften_edges(hard_front[None], 2)[0]
    torch.testing.assert_close(front, soft_front)
    torch.testing.assert_close(back, hard_back * (1 - soft_front))


def test_a_soft_front_and_what_shows_behind_it_cover_a_cell_together() -> None:
    mask = mask_of(placed([subject(feather=0.2, z_index=1), subject(MIDDLE, feather=0.1)]))
    front, back = soften_edges(box_weights(LEFT), 2)[0], soften_edges(box_weights(MIDDLE), 1)[0]
    torch.testing.assert_close(mask.coverage.view(GRID), 1 - (1 - front) * (1 - back))


def test_padding_has_no_weight_and_every_row_its_own() -> None:
    rows = [[subject(feather=0.2)], [subject(MIDDLE), subject(LEFT)]]
    weights = weights_of(placed(*rows))
    torch.testing.assert_close(weights[0], torch.stack([soften_edges(box_weights(LEFT), 2)[0], torch.zeros(GRID)]))
    torch.testing.assert_close(weights[1], box_weights(MIDDLE, LEFT))


def test_a_dropped_subject_hides_nobody() -> None:
    data = placed([subject(z_index=1, feather=0.2), subject(MIDDLE)])
    data.subjects.present[0, 0] = False
    torch.testing.assert_close(weights_of(data)[0], torch.stack([torch.zeros(GRID), box_weights(MIDDLE)[0]]))


def test_a_subject_that_does_not_act_is_uncovered_until_it_acts_again() -> None:
    rows = [[subject(z_index=1, feather=0.2), subject(MIDDLE)], [subject(MIDDLE)]]
    data = placed(*rows)
    whole = mask_of(data)
    data.let_act([[False, True], [True]])
    torch.testing.assert_close(weights_of(data)[0], torch.stack([torch.zeros(GRID), box_weights(MIDDLE)[0]]))
    assert torch.equal(mask_of(data).coverage[0].view(GRID), box_weights(MIDDLE)[0])
    data.let_act([[False, False], [True]])
    assert not mask_of(data).coverage[0].any()
    assert torch.equal(mask_of(data).coverage[1].view(GRID), box_weights(MIDDLE)[0])
    data.let_act([[True, True], [True]])
    for again, before in zip(mask_of(data), whole, strict=True):
        assert torch.equal(again, before)


def test_who_is_dropped_or_padding_never_acts() -> None:
    data = placed([subject(), subject(MIDDLE)], [subject()])
    data.subjects.present[0, 0] = False
    data.let_act([[True, True], [True]])
    expected = torch.stack([torch.stack([torch.zeros(GRID), box_weights(MIDDLE)[0]]), torch.zeros(2, *GRID)])
    expected[1, 0] = box_weights(LEFT)[0]
    torch.testing.assert_close(weights_of(data), expected)


def test_masks_are_made_again_only_when_others_act(monkeypatch) -> None:
    data = placed([subject(), subject(MIDDLE)])
    made: list[int] = []
    original = SubjectMask.from_weights
    monkeypatch.setattr(SubjectMask, "from_weights", lambda *args: made.append(1) or original(*args))
    for acting in ([True, True], [True, True], [True, False], [True, False]):
        data.let_act([acting])
        mask_of(data)
    assert len(made) == 2


def test_who_was_found_by_auto_layout_but_does_not_act_is_uncovered() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    data = placed([subject(), subject()], auto_layout=maps)
    data.let_act([[False, True]])
    first, second = weights_of(data)[0]
    assert not first.any()
    assert second.any()


def test_a_mask_acts_until_auto_layout_has_found_the_subject() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.5, start_step=2)], [[(2, 4)]], torch.device("cpu"))
    data = placed([subject(mask=Image.new("L", (3, 3), 102))], auto_layout=maps)
    torch.testing.assert_close(weights_of(data), torch.full((1, 1, *GRID), 0.4))
    found = weights_of(data)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_found_subjects_get_soft_edges_and_an_order() -> None:
    """The same maps twice: once as found, once softened and ordered by hand."""

    maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    hard = weights_of(placed([subject(), subject()], auto_layout=maps))
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    soft = soften_edges(hard, 2)
    maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    weights = weights_of(placed([subject(feather=0.2), subject(feather=0.2, z_index=1)], auto_layout=maps))
    torch.testing.assert_close(weights[:, 1], soft[:, 1])
    torch.testing.assert_close(weights[:, 0], soft[:, 0] * (1 - soft[:, 1]))


def test_mask_and_coverage_are_of_the_querys_dtype() -> None:
    data = placed([subject(feather=0.2), subject(MIDDLE)])
    half = data.mask("layer", query(1, 192).half(), text_key(1).half())
    assert (half.attn_mask.dtype, half.coverage.dtype) == (torch.float16, torch.float16)
    assert half.attn_mask.isneginf().any()
    assert not half.attn_mask.isnan().any()
