"""Words that subjects bring for their own cells: the formula, whose cells they are, and who keeps the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image

from ms_core.method.attention import (
    RegionText,
    explicit_attention,
    fused_attention,
    masked_subject_attention,
    read_in_regions,
)
from ms_core.method.attention_data import AttentionData, AutoLayoutMaps, KeyValue, RegionWords, SubjectBatch
from ms_core.method.boxes import boxes_to_masks
from ms_core.method.masks import Placement, SubjectMask, soften_edges
from ms_core.spec import AutoLayout, Box, Subject

HEADS, HEAD_DIM, TOKENS, CELLS = 2, 8, 7, 6
ATTENDS = pytest.mark.parametrize("attend", [fused_attention, explicit_attention])
LEFT, MIDDLE = Box(0.0, 0.0, 0.5, 1.0), Box(0.25, 0.25, 0.75, 0.75)
GRID = (16, 12)
PICTURE = Image.new("RGB", (4, 4))


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def key_value(rows: int, tokens: int, seed: int) -> KeyValue:
    return KeyValue(
        random(rows, HEADS, tokens, HEAD_DIM, seed=seed), random(rows, HEADS, tokens, HEAD_DIM, seed=seed + 1)
    )


def regions_of(shares: list[list[float]], rows: list[int]) -> RegionText:
    """Regions with these shares of the cells."""
    return RegionText(key_value(len(rows), TOKENS, seed=20), torch.tensor(shares)[:, None, :, None], tuple(rows))


def read_cell(query: torch.Tensor, text: KeyValue, row: int, head: int, cell: int) -> torch.Tensor:
    """One softmax attention of one cell, written out."""
    scores = torch.tensor([float(query[row, head, cell] @ key) / HEAD_DIM**0.5 for key in text.key[row, head]])
    return sum((weight * value for weight, value in zip(scores.softmax(0), text.value[row, head], strict=True)))  # pyright: ignore


@ATTENDS
def test_each_cell_mixes_prompt_and_words_by_their_shares(attend) -> None:
    query, prompt = random(2, HEADS, CELLS, HEAD_DIM, seed=0), key_value(2, TOKENS, seed=1)
    shares = [[1.0, 0.5, 0.0, 0.25, 0.0, 0.0], [0.0, 0.5, 1.0, 0.25, 0.0, 0.0]]
    regions = regions_of(shares, [1, 1])
    out = read_in_regions(attend(query, *prompt, None), query, regions, attend)
    for cell in range(CELLS):
        for head in range(HEADS):
            torch.testing.assert_close(out[0, head, cell], read_cell(query, prompt, 0, head, cell))
            expected = (1 - shares[0][cell] - shares[1][cell]) * read_cell(query, prompt, 1, head, cell)
            for region in range(2):
                words = KeyValue(*(part[[region]].expand(2, -1, -1, -1) for part in regions.text))
                expected = expected + shares[region][cell] * read_cell(query, words, 1, head, cell)
            torch.testing.assert_close(out[1, head, cell], expected)


def test_cells_of_no_region_read_the_prompt_and_wholly_claimed_ones_the_words_to_the_bit() -> None:
    query, prompt = random(2, HEADS, CELLS, HEAD_DIM, seed=0), key_value(2, TOKENS, seed=1)
    regions = regions_of([[1.0, 1.0, 0.0, 0.0, 0.5, 0.0]], [0])
    plain = fused_attention(query, *prompt, None)
    out = read_in_regions(plain, query, regions)
    assert torch.equal(out[1], plain[1])
    assert torch.equal(out[0, :, [2, 3, 5]], plain[0, :, [2, 3, 5]])
    assert torch.equal(out[0, :, :2], fused_attention(query[[0]], *regions.text, None)[0, :, :2])
    assert not torch.allclose(out[0, :, 4], plain[0, :, 4], atol=1e-3)


def test_unconditional_rows_never_read_words() -> None:
    query, prompt = random(3, HEADS, CELLS, HEAD_DIM, seed=0), key_value(3, TOKENS, seed=1)
    subjects, mask = key_value(1, 3, seed=5), SubjectMask(torch.zeros(1, 1, CELLS, 3), torch.ones(1, 1, CELLS, 1))
    regions = regions_of([[1.0] * CELLS], [0])
    plain = masked_subject_attention(query, prompt, subjects, mask)
    out = masked_subject_attention(query, prompt, subjects, mask, regions=regions)
    assert torch.equal(out[:2], plain[:2])
    subject_part = fused_attention(query[2:], *subjects, None)
    torch.testing.assert_close(out[2:], fused_attention(query[2:], *regions.text, None) + subject_part)


def subject(box: Box = LEFT, words: bool = True, picture: bool = True, **fields: Any) -> Subject:
    return Subject("cat", PICTURE if picture else None, box, prompt="a cat" if words else None, **fields)


def placed(*rows: Sequence[Subject], auto_layout: AutoLayoutMaps | None = None) -> AttentionData:
    """Attention data of subjects as the conditioner makes it, with random tokens and words."""
    tokens = [random(len(row), 3, 8, seed=len(row)) for row in rows]
    boxes = [torch.tensor([one.box.as_tuple() for one in row if isinstance(one.box, Box)]) for row in rows]
    pictured = [torch.tensor([bool(one.images) for one in row]) for row in rows]
    placement = Placement.from_rows(rows, torch.device("cpu"))
    batch = SubjectBatch.from_rows(tokens, boxes, [torch.ones(len(row)) for row in rows], placement, pictured)
    found = [(r, s) for r, row in enumerate(rows) for s, one in enumerate(row) if one.prompt is not None]
    rows_of_words, positions = zip(*found, strict=True)
    words = RegionWords(random(len(found), TOKENS, 8, seed=9), rows_of_words, positions)
    return AttentionData(batch, GRID, auto_layout, words)


def mask_and_shares(data: AttentionData) -> tuple[SubjectMask, torch.Tensor]:
    """What one layer gets: its mask, and the regions' shares ``[regions, height, width]``."""
    cells = GRID[0] * GRID[1]
    query, keys = (
        random(data.num_conditional, HEADS, cells, 8, seed=2),
        random(data.num_conditional, HEADS, 77, 8, seed=3),
    )
    mask = data.mask("layer", query, keys)
    assert data.words is not None
    return mask, data.word_shares(data.words, "layer", query)[:, 0, :, 0].unflatten(1, GRID)


def cells_of(*boxes: Box) -> torch.Tensor:
    return boxes_to_masks(torch.tensor([box.as_tuple() for box in boxes]), *GRID).float()


def test_words_are_read_in_their_subjects_cells_and_nowhere_else() -> None:
    _, shares = mask_and_shares(placed([subject(words=False), subject(MIDDLE, z_index=1)], [subject(LEFT)]))
    assert torch.equal(shares, cells_of(MIDDLE, LEFT))


def test_the_front_subjects_words_hide_those_behind() -> None:
    front, back = cells_of(LEFT, MIDDLE)
    _, shares = mask_and_shares(placed([subject(z_index=1), subject(MIDDLE)]))
    assert torch.equal(shares, torch.stack([front, back * (1 - front)]))
    _, shares = mask_and_shares(placed([subject(words=False, z_index=1), subject(MIDDLE)]))
    assert torch.equal(shares, (back * (1 - front))[None])


def test_equals_share_a_cell_and_one_without_words_keeps_the_prompt_in_its_part() -> None:
    left, middle = cells_of(LEFT, MIDDLE)
    _, both = mask_and_shares(placed([subject(), subject(MIDDLE)]))
    torch.testing.assert_close(both, torch.stack([left, middle]) / (left + middle).clamp(min=1))
    _, one = mask_and_shares(placed([subject(words=False), subject(MIDDLE)]))
    torch.testing.assert_close(one[0], both[1])


def test_soft_edges_mix_in_part() -> None:
    _, shares = mask_and_shares(placed([subject(feather=0.2)]))
    torch.testing.assert_close(shares, soften_edges(cells_of(LEFT), 2))


def test_words_wait_for_their_subjects_time() -> None:
    data = placed([subject(), subject(MIDDLE)])
    mask_and_shares(data)
    data.let_act([[False, True]])
    _, shares = mask_and_shares(data)
    assert torch.equal(shares, torch.stack([torch.zeros(GRID), cells_of(MIDDLE)[0]]))


def test_with_auto_layout_words_act_where_their_subject_was_found() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    data = placed([subject(words=False), subject(MIDDLE, z_index=1)], auto_layout=maps)
    mask, shares = mask_and_shares(data)
    weights = torch.where(mask.coverage > 0, mask.attn_mask.exp(), 0.0)[0, 0, :, 3]
    assert torch.equal(shares.flatten(), weights)
    assert 0 < shares.mean() < 1


def test_with_auto_layout_words_wait_for_their_subjects_time_too() -> None:
    maps = AutoLayoutMaps([AutoLayout(0.4, start_step=1)], [[(2, 4), (6, 7)]], torch.device("cpu"))
    data = placed([subject(words=False), subject(MIDDLE, z_index=1)], auto_layout=maps)
    data.let_act([[True, False]])
    mask, shares = mask_and_shares(data)
    assert not shares.any()
    assert mask.attn_mask[0, 0, mask.coverage[0, 0, :, 0] > 0, 3:].isneginf().all()


@pytest.mark.parametrize("z_index", [0, 1])
def test_nobody_attends_to_a_subject_without_a_picture_and_it_takes_its_part(z_index: int) -> None:
    mask, _ = mask_and_shares(placed([subject(words=False), subject(MIDDLE, picture=False, z_index=z_index)]))
    left, middle = cells_of(LEFT, MIDDLE)
    assert not mask.attn_mask.isnan().any()
    inside = mask.coverage[0, 0, :, 0] > 0
    assert mask.attn_mask[0, 0, inside, 3:].isneginf().all()
    overlap = 1.0 if z_index == 0 else 0.0
    torch.testing.assert_close(mask.coverage.view(GRID), left * (1 - middle) + overlap * left * middle / 2)


def test_a_soft_front_without_a_picture_lets_the_rest_of_the_back_through() -> None:
    mask, _ = mask_and_shares(placed([subject(words=False), subject(picture=False, feather=0.2, z_index=1)]))
    torch.testing.assert_close(mask.coverage.view(1, *GRID), cells_of(LEFT) - soften_edges(cells_of(LEFT), 2))


def test_where_all_have_pictures_it_is_said_or_not_without_a_difference() -> None:
    row = [subject(feather=0.2), subject(MIDDLE, z_index=1, feather=0.1)]
    said, data = placed(row), placed(row)
    data.subjects = SubjectBatch(
        *(getattr(data.subjects, name) for name in ("tokens", "boxes", "scales", "present", "placement"))
    )
    for one, other in zip(mask_and_shares(said)[0], mask_and_shares(data)[0], strict=True):
        torch.testing.assert_close(one, other)
