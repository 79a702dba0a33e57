"""The paper's formula, against a slow reference that keeps the dummy tokens and materialises everything."""

from __future__ import annotations

import pytest
import torch

from ms_core.method.attention import explicit_attention, fused_attention, masked_subject_attention
from ms_core.method.attention_data import KeyValue, SubjectBias, SubjectMasks
from ms_core.method.places import union

HEADS, HEAD_DIM, QUERIES, DUMMIES = 2, 8, 3, 4
ATTENDS = pytest.mark.parametrize("attend", [fused_attention, explicit_attention])


def random(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def key_value(rows: int, tokens: int, seed: int) -> KeyValue:
    return KeyValue(
        random(rows, HEADS, tokens, HEAD_DIM, seed=seed), random(rows, HEADS, tokens, HEAD_DIM, seed=seed + 1)
    )


def official_attention(
    query: torch.Tensor, text: KeyValue, subjects: KeyValue, places: torch.Tensor, dummies: KeyValue
) -> torch.Tensor:
    """As the official code computes it: dummies in front, -10000 outside, background thrown away afterwards."""
    text_part = torch.softmax(query @ text.key.mT / HEAD_DIM**0.5, dim=-1) @ text.value
    key, value = torch.cat([dummies.key, subjects.key], 2), torch.cat([dummies.value, subjects.value], 2)
    inside = places.any(-1, keepdim=True)
    may_read = torch.cat([~inside.expand(-1, -1, DUMMIES), places.repeat_interleave(QUERIES, -1)], -1)[:, None]
    bias = torch.where(may_read, 0.0, -10000.0)
    subject_part = torch.softmax(query @ key.mT / HEAD_DIM**0.5 + bias, dim=-1) @ value
    return text_part + torch.where(inside[:, None], subject_part, 0.0)


@ATTENDS
@pytest.mark.parametrize("num_subjects", [1, 2, 3, 4])
def test_equals_the_official_formula_with_noise_for_dummies(attend, num_subjects: int) -> None:
    places = random(2, 30, num_subjects, seed=3) > 0.3
    query, text = random(2, HEADS, 30, HEAD_DIM, seed=0), key_value(2, 7, seed=1)
    subjects = key_value(2, num_subjects * QUERIES, seed=5)
    expected = official_attention(query, text, subjects, places, key_value(2, DUMMIES, seed=9))
    actual = masked_subject_attention(query, text, subjects, SubjectMasks.from_places(places, QUERIES), attend)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@ATTENDS
def test_places_outside_every_box_get_exactly_the_text(attend) -> None:
    places = torch.zeros(1, 12, 2, dtype=torch.bool)
    places[0, :5, 0] = True
    query, text = random(1, HEADS, 12, HEAD_DIM, seed=0), key_value(1, 7, seed=1)
    masks = SubjectMasks.from_places(places, QUERIES)
    out = masked_subject_attention(query, text, key_value(1, 2 * QUERIES, seed=5), masks, attend)
    assert torch.equal(out[:, :, 5:], attend(query, text.key, text.value, None)[:, :, 5:])
    assert not torch.equal(out[:, :, :5], attend(query, text.key, text.value, None)[:, :, :5])


@ATTENDS
def test_nothing_visible_at_all_is_finite_forward_and_backward(attend) -> None:
    query = random(1, HEADS, 6, HEAD_DIM, seed=0).requires_grad_()
    subjects = KeyValue(*(tensor.requires_grad_() for tensor in key_value(1, QUERIES, seed=5)))
    masks = SubjectMasks.from_places(torch.zeros(1, 6, 1, dtype=torch.bool), QUERIES)
    text = key_value(1, 7, seed=1)
    out = masked_subject_attention(query, text, subjects, masks, attend)
    assert torch.equal(out, attend(query, text.key, text.value, None))
    out.sum().backward()
    assert query.grad.isfinite().all()
    assert not subjects.key.grad.any()
    assert not subjects.value.grad.any()


@ATTENDS
def test_unconditional_rows_come_first_and_see_no_subject(attend) -> None:
    query, text = random(3, HEADS, 9, HEAD_DIM, seed=0), key_value(3, 7, seed=1)
    masks = SubjectMasks.from_places(torch.ones(2, 9, 1, dtype=torch.bool), QUERIES)
    out = masked_subject_attention(query, text, key_value(2, QUERIES, seed=5), masks, attend)
    plain = attend(query, text.key, text.value, None)
    assert torch.equal(out[:1], plain[:1])
    assert not torch.isclose(out[1:], plain[1:]).any()


def test_overlapping_subjects_share_one_softmax() -> None:
    query, text, one = random(1, HEADS, 4, HEAD_DIM, seed=0), key_value(1, 7, seed=1), key_value(1, QUERIES, seed=5)
    twice = KeyValue(torch.cat([one.key, one.key], 2), torch.cat([one.value, one.value], 2))
    alone, both = (
        masked_subject_attention(
            query, text, subjects, SubjectMasks.from_places(torch.ones(1, 4, count, dtype=torch.bool), QUERIES)
        )
        for subjects, count in ((one, 1), (twice, 2))
    )
    torch.testing.assert_close(alone, both)


def bias(weights: torch.Tensor, dtype: torch.dtype = torch.float32) -> SubjectBias:
    """Weights ``[rows, places, subjects]`` of subjects of one level, as attention reads them."""
    coverage = union(weights.transpose(1, 2).unsqueeze(-1)).squeeze(-1).unsqueeze(-1)
    return SubjectBias.from_weights(weights, coverage, QUERIES, dtype)


def slow_weighted_attention(
    query: torch.Tensor, text: KeyValue, subjects: KeyValue, weights: torch.Tensor
) -> torch.Tensor:
    """One row, head and place at a time: every token counts its subject's weight times, then all their cover."""
    out = torch.softmax(query @ text.key.mT / HEAD_DIM**0.5, dim=-1) @ text.value
    rows, heads, places, _ = query.shape
    for row in range(rows):
        for place in range(places):
            token_weights = weights[row, place].repeat_interleave(QUERIES)
            bare = 1.0
            for weight in weights[row, place].tolist():
                bare *= 1.0 - weight
            for head in range(heads):
                strengths = token_weights * (subjects.key[row, head] @ query[row, head, place] / HEAD_DIM**0.5).exp()
                if strengths.sum() > 0:
                    part = strengths / strengths.sum() @ subjects.value[row, head]
                    out[row, head, place] += (1.0 - bare) * part
    return out


def some_weights(rows: int, places: int, num_subjects: int) -> torch.Tensor:
    """Weights from 0 to 1, many of them 0 or 1, and every second place outside all subjects."""
    weights = random(rows, places, num_subjects, seed=3).add(0.5).clamp(0, 1)
    weights[:, ::2] *= random(rows, (places + 1) // 2, 1, seed=4) > 0
    return weights


@ATTENDS
@pytest.mark.parametrize("num_subjects", [1, 2, 3])
def test_weights_equal_the_slow_formula(attend, num_subjects: int) -> None:
    query, text = random(2, HEADS, 12, HEAD_DIM, seed=0), key_value(2, 7, seed=1)
    subjects, weights = key_value(2, num_subjects * QUERIES, seed=5), some_weights(2, 12, num_subjects)
    expected = slow_weighted_attention(query, text, subjects, weights)
    actual = masked_subject_attention(query, text, subjects, bias(weights), attend)
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
    hard = SubjectMasks.from_places(torch.ones(1, 6, 1, dtype=torch.bool), QUERIES)
    full = masked_subject_attention(query, text, subjects, hard, attend)
    part = masked_subject_attention(query, text, subjects, bias(torch.full((1, 6, 1), grey)), attend)
    torch.testing.assert_close(part - plain, grey * (full - plain), atol=1e-6, rtol=1e-4)


@ATTENDS
def test_rows_of_hard_weights_equal_hard_masks_to_the_last_bit(attend) -> None:
    query, text, subjects = random(3, HEADS, 30, HEAD_DIM, seed=0), key_value(3, 7, seed=1), key_value(2, 24, seed=5)
    weights = some_weights(2, 30, 8)
    weights[0] = (random(30, 8, seed=3) > 0.8).float()
    soft = masked_subject_attention(query, text, subjects, bias(weights), attend)
    masks = SubjectMasks.from_places(weights > 0, QUERIES)
    hard = masked_subject_attention(query, text, subjects, masks, attend)
    assert not (weights[0] > 0).any(-1).all()
    assert torch.equal(soft[:2], hard[:2])
    assert not torch.equal(soft[2], hard[2])


@ATTENDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_finite_in_half_precision(attend, dtype: torch.dtype) -> None:
    """The smallest weights too: behind a front of nearly 1, a float32 may leave next to nothing."""
    weights = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1e-45, 0.0], [1e-30, 1e-45], [1.0, 1e-38], [0.5, 0.25]]])
    query, text, subjects = (
        random(1, HEADS, 6, HEAD_DIM, seed=0),
        key_value(1, 7, seed=1),
        key_value(1, 2 * QUERIES, seed=5),
    )
    half = [KeyValue(*(tensor.to(dtype) for tensor in pair)) for pair in (text, subjects)]
    out = masked_subject_attention(query.to(dtype), *half, bias(weights, dtype), attend)
    assert out.dtype == dtype
    expected = slow_weighted_attention(query, text, subjects, weights)
    torch.testing.assert_close(out.float(), expected, atol=3e-2, rtol=3e-2)


def test_fused_and_explicit_attention_agree() -> None:
    query, text = random(2, HEADS, 9, HEAD_DIM, seed=0), key_value(2, 7, seed=1)
    mask = random(2, 1, 9, 7, seed=3) > -1.0
    mask[..., 0] = True
    for given in (mask, torch.where(mask, random(2, 1, 9, 7, seed=4), -torch.inf)):
        torch.testing.assert_close(fused_attention(query, *text, given), explicit_attention(query, *text, given))
