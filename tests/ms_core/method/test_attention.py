"""The paper's formula, against a slow reference that keeps the dummy tokens and materialises everything."""

from __future__ import annotations

import pytest
import torch

from ms_core.method.attention import explicit_attention, fused_attention, masked_subject_attention
from ms_core.method.attention_data import KeyValue
from ms_core.method.masks import SubjectMask, SubjectWeights

HEADS, HEAD_DIM, QUERIES, DUMMIES = 2, 8, 3, 4
ATTENDS = pytest.mark.parametrize("attend", [fused_attention, explicit_attention])


def random(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def key_value(rows: int, tokens: int, seed: int) -> KeyValue:
    return KeyValue(
        random(rows, HEADS, tokens, HEAD_DIM, seed=seed), random(rows, HEADS, tokens, HEAD_DIM, seed=seed + 1)
    )


def mask_of(weights: torch.Tensor, dtype: torch.dtype = torch.float32) -> SubjectMask:
    """Weights ``[rows, subjects, cells]`` of subjects of one level, as attention reads them."""
    on_grid = weights.float().unsqueeze(-1)
    return SubjectMask.from_weights(SubjectWeights(on_grid, on_grid, on_grid), QUERIES, dtype)


def official_attention(
    query: torch.Tensor, text: KeyValue, subjects: KeyValue, cells: torch.Tensor, dummies: KeyValue
) -> torch.Tensor:
    """As the official code computes it: dummies in front, -10000 outside, background thrown away afterwards."""
    text_part = torch.softmax(query @ text.key.mT / HEAD_DIM**0.5, dim=-1) @ text.value
    key, value = torch.cat([dummies.key, subjects.key], 2), torch.cat([dummies.value, subjects.value], 2)
    inside = cells.any(1).unsqueeze(-1)
    may_read = torch.cat([~inside.expand(-1, -1, DUMMIES), cells.mT.repeat_interleave(QUERIES, -1)], -1)[:, None]
    bias = torch.where(may_read, 0.0, -10000.0)
    subject_part = torch.softmax(query @ key.mT / HEAD_DIM**0.5 + bias, dim=-1) @ value
    return text_part + torch.where(inside[:, None], subject_part, 0.0)


@ATTENDS
@pytest.mark.parametrize("num_subjects", [1, 2, 3, 4])
def test_equals_the_official_formula_with_noise_for_dummies(attend, num_subjects: int) -> None:
    cells = random(2, num_subjects, 30, seed=3) > 0.3
    query, text = random(2, HEADS, 30, HEAD_DIM, seed=0), key_value(2, 7, seed=1)
    subjects = key_value(2, num_subjects * QUERIES, seed=5)
    expected = official_attention(query, text, subjects, cells, key_value(2, DUMMIES, seed=9))
    actual = masked_subject_attention(query, text, subjects, mask_of(cells), attend)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@ATTENDS
def test_cells_outside_every_box_get_exactly_the_text(attend) -> None:
    cells = torch.zeros(1, 2, 12)
    cells[0, 0, :5] = 1
    query, text = random(1, HEADS, 12, HEAD_DIM, seed=0), key_value(1, 7, seed=1)
    out = masked_subject_attention(query, text, key_value(1, 2 * QUERIES, seed=5), mask_of(cells), attend)
    assert torch.equal(out[:, :, 5:], attend(query, text.key, text.value, None)[:, :, 5:])
    assert not torch.equal(out[:, :, :5], attend(query, text.key, text.value, None)[:, :, :5])


@ATTENDS
def test_nothing_visible_at_all_is_finite_forward_and_backward(attend) -> None:
    query = random(1, HEADS, 6, HEAD_DIM, seed=0).requires_grad_()
    subjects = KeyValue(*(tensor.requires_grad_() for tensor in key_value(1, QUERIES, seed=5)))
    text = key_value(1, 7, seed=1)
    out = masked_subject_attention(query, text, subjects, mask_of(torch.zeros(1, 1, 6)), attend)
    assert torch.equal(out, attend(query, text.key, text.value, None))
    out.sum().backward()
    assert query.grad.isfinite().all()
    assert not subjects.key.grad.any()
    assert not subjects.value.grad.any()


@ATTENDS
def test_unconditional_rows_come_first_and_see_no_subject(attend) -> None:
    query, text = random(3, HEADS, 9, HEAD_DIM, seed=0), key_value(3, 7, seed=1)
    out = masked_subject_attention(query, text, key_value(2, QUERIES, seed=5), mask_of(torch.ones(2, 1, 9)), attend)
    plain = attend(query, text.key, text.value, None)
    assert torch.equal(out[:1], plain[:1])
    assert not torch.isclose(out[1:], plain[1:]).any()


def test_overlapping_subjects_share_one_softmax() -> None:
    query, text, one = random(1, HEADS, 4, HEAD_DIM, seed=0), key_value(1, 7, seed=1), key_value(1, QUERIES, seed=5)
    twice = KeyValue(torch.cat([one.key, one.key], 2), torch.cat([one.value, one.value], 2))
    alone, both = (
        masked_subject_attention(query, text, subjects, mask_of(torch.ones(1, count, 4)))
        for subjects, count in ((one, 1), (twice, 2))
    )
    torch.testing.assert_close(alone, both)


def slow_weighted_attention(
    query: torch.Tensor, text: KeyValue, subjects: KeyValue, weights: torch.Tensor
) -> torch.Tensor:
    """One row, head and cell at a time: every token counts its subject's weight times, then all their cover."""
    out = torch.softmax(query @ text.key.mT / HEAD_DIM**0.5, dim=-1) @ text.value
    rows, heads, cells, _ = query.shape
    for row in range(rows):
        for cell in range(cells):
            token_weights = weights[row, :, cell].repeat_interleave(QUERIES)
            bare = 1.0
            for weight in weights[row, :, cell].tolist():
                bare *= 1.0 - weight
            for head in range(heads):
                strengths = token_weights * (subjects.key[row, head] @ query[row, head, cell] / HEAD_DIM**0.5).exp()
                if strengths.sum() > 0:
                    part = strengths / strengths.sum() @ subjects.value[row, head]
                    out[row, head, cell] += (1.0 - bare) * part
    return out


def some_weights(rows: int, num_subjects: int, cells: int) -> torch.Tensor:
    """Weights from 0 to 1, many of them 0 or 1, and about a quarter of the cells outside all subjects."""
    weights = random(rows, num_subjects, cells, seed=3).add(0.5).clamp(0, 1)
    weights[..., ::2] *= random(rows, 1, (cells + 1) // 2, seed=4) > 0
    return weights


@ATTENDS
@pytest.mark.parametrize("num_subjects", [1, 2, 3])
def test_weights_equal_the_slow_formula(attend, num_subjects: int) -> None:
    query, text = random(2, HEADS, 12, HEAD_DIM, seed=0), key_value(2, 7, seed=1)
    subjects, weights = key_value(2, num_subjects * QUERIES, seed=5), some_weights(2, num_subjects, 12)
    expected = slow_weighted_attention(query, text, subjects, weights)
    actual = masked_subject_attention(query, text, subjects, mask_of(weights), attend)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@ATTENDS
@pytest.mark.parametrize("grey", [1 / 255, 0.3, 254 / 255])
def test_one_subject_in_part_adds_that_part_of_what_it_adds_in_full(attend, grey: float) -> None:
    query, text, subjects = (
        random(1, HEADS, 6, HEAD_DIM, seed=0),
        key_value(1, 7, seed=1),
        key_value(1, QUERIES, seed=5),
    )
    plain = attend(query, text.key, text.value, None)
    full = masked_subject_attention(query, text, subjects, mask_of(torch.ones(1, 1, 6)), attend)
    part = masked_subject_attention(query, text, subjects, mask_of(torch.full((1, 1, 6), grey)), attend)
    torch.testing.assert_close(part - plain, grey * (full - plain), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_0_and_1_equal_boolean_masks_to_the_last_bit(dtype: torch.dtype) -> None:
    """As the masks are released: tokens that may be read or not, and the sum set to zero outside."""
    query, text, subjects = random(2, HEADS, 30, HEAD_DIM, seed=0), key_value(2, 7, seed=1), key_value(2, 24, seed=5)
    query, text, subjects = query.to(dtype), *(KeyValue(*(one.to(dtype) for one in pair)) for pair in (text, subjects))
    cells = random(2, 8, 30, seed=3) > 0.8
    covered = cells.any(1)[:, None, :, None]
    may_read = cells.mT.repeat_interleave(QUERIES, -1).unsqueeze(1) | ~covered
    part = fused_attention(query, *subjects, may_read).masked_fill(~covered, 0.0)
    expected = fused_attention(query, *text, None) + part
    assert not covered.all()
    assert torch.equal(masked_subject_attention(query, text, subjects, mask_of(cells, dtype)), expected)


@ATTENDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_finite_in_half_precision(attend, dtype: torch.dtype) -> None:
    """The smallest weights too: behind a front of nearly 1, a float32 may leave next to nothing."""
    weights = torch.tensor([[[0.0, 1.0, 1e-45, 1e-30, 1.0, 0.5], [0.0, 0.0, 0.0, 1e-45, 1e-38, 0.25]]])
    query, text, subjects = (
        random(1, HEADS, 6, HEAD_DIM, seed=0),
        key_value(1, 7, seed=1),
        key_value(1, 2 * QUERIES, seed=5),
    )
    half = [KeyValue(*(tensor.to(dtype) for tensor in pair)) for pair in (text, subjects)]
    out = masked_subject_attention(query.to(dtype), *half, mask_of(weights, dtype), attend)
    assert out.dtype == dtype
    expected = slow_weighted_attention(query, text, subjects, weights)
    torch.testing.assert_close(out.float(), expected, atol=3e-2, rtol=3e-2)


def test_fused_and_explicit_attention_agree() -> None:
    query, text = random(2, HEADS, 9, HEAD_DIM, seed=0), key_value(2, 7, seed=1)
    may_read = random(2, 1, 9, 7, seed=3) > -1.0
    may_read[..., 0] = True
    mask = torch.where(may_read, random(2, 1, 9, 7, seed=4), -torch.inf)
    torch.testing.assert_close(fused_attention(query, *text, mask), explicit_attention(query, *text, mask))
