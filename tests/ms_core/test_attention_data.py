"""Per-call data: padding, masks, what is kept and what is not, auto-layout maps."""

from __future__ import annotations

import pytest
import torch

from ms_core.attention_data import AttentionData, AutoLayoutMaps, KeyValue, SubjectBatch
from ms_core.boxes import boxes_to_masks
from ms_core.spec import AutoLayout

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
    masks = AttentionData(batch(1, 2), LATENTS).masks("layer", query(2), text_key(2))
    inside = masks.covered[0, 0, :, 0]
    assert masks.visible[0, 0, inside, :3].all()
    assert not masks.visible[0, 0, inside, 3:].any()


def test_masks_follow_the_layers_grid() -> None:
    data = AttentionData(batch(1), (25, 33))
    for height, width in [(25, 33), (13, 17), (7, 9)]:
        covered = data.masks("layer", query(1, height * width), text_key(1)).covered
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
    masks = AttentionData(batch(1, 2), LATENTS, maps).masks("layer", query(2), text_key(2))
    assert not masks.visible[0, 0, masks.covered[0, 0, :, 0], 3:].any()
