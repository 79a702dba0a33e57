"""The grounding resampler beyond what the golden cases show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ms_core.config import ResamplerConfig
from ms_core.method.place_codes import encode_places
from ms_core.method.resampler import FourierEmbedder, GroundingResampler, PictureParts

CONFIG = ResamplerConfig(
    dim=32, depth=2, heads=2, dim_head=8, num_queries=4, feature_dim=12, phrase_dim=10, output_dim=20, ff_mult=2
)

PARTS = replace(CONFIG, patches_per_query=2)


@pytest.fixture(params=[0, 2], ids=["paper", "parts"])
def resampler(request: pytest.FixtureRequest) -> GroundingResampler:
    torch.manual_seed(0)
    return GroundingResampler(replace(CONFIG, patches_per_query=request.param)).eval()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = ((3, 17, 12), (3, 10), (3, 4))
    features, phrases, boxes = (torch.rand(*size, generator=generator) for size in sizes)
    return features, phrases, boxes


def test_box_features_are_ordered_frequency_then_sine_then_coordinate() -> None:
    box = [0.1, 0.2, 0.3, 0.4]
    expected = [
        function(100 ** (k / 8) * coordinate)
        for k in range(8)
        for function in (math.sin, math.cos)
        for coordinate in box
    ]
    torch.testing.assert_close(FourierEmbedder(8, 100.0)(torch.tensor([box]))[0], torch.tensor(expected))


def test_each_query_looks_at_its_own_part_of_the_box() -> None:
    parts = PictureParts(PARTS)
    box = torch.tensor([[0.2, 0.4, 0.6, 1.0]])
    middles = [(0.3, 0.55), (0.5, 0.55), (0.3, 0.85), (0.5, 0.85)]
    torch.testing.assert_close(parts.codes(box)[0], encode_places(torch.tensor(middles)))


def test_each_query_starts_from_its_own_part_of_the_picture(inputs) -> None:
    parts = PictureParts(PARTS)
    features = inputs[0].clone().requires_grad_(True)
    parts.parts(features)[:, 1].sum().backward()
    read = features.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    # Of the 4 x 4 patches behind the class token, the upper right quarter.
    assert read == [3, 4, 7, 8]


def test_the_papers_resampler_has_no_weights_for_parts() -> None:
    assert not any("parts" in name for name in GroundingResampler(CONFIG).state_dict())


def test_output_is_a_few_tokens_per_subject(resampler, inputs) -> None:
    assert resampler(*inputs).shape == (3, 4, 20)


def test_without_grounding_phrase_and_box_do_not_matter(resampler, inputs) -> None:
    features, phrases, boxes = inputs
    assert torch.equal(resampler(features, phrases, boxes, False), resampler(features, phrases + 1, boxes / 2, False))


def test_with_grounding_phrase_and_box_matter(resampler, inputs) -> None:
    features, phrases, boxes = inputs
    out = resampler(features, phrases, boxes)
    assert not torch.allclose(out, resampler(features, phrases + 1, boxes), atol=1e-3)
    assert not torch.allclose(out, resampler(features, phrases, boxes / 2), atol=1e-3)


def test_grounding_is_chosen_for_each_subject(resampler, inputs) -> None:
    mixed = resampler(*inputs, torch.tensor([True, False, True]))
    grounded, learned = resampler(*inputs, True), resampler(*inputs, False)
    torch.testing.assert_close(mixed, torch.stack([grounded[0], learned[1], grounded[2]]))


def test_every_weight_learns(resampler, inputs) -> None:
    resampler(*inputs, torch.tensor([True, False, True])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in resampler.parameters())


def test_bfloat16_runs_in_its_own_dtype(resampler, inputs) -> None:
    half = resampler.bfloat16()
    features, phrases, boxes = inputs
    assert half(features.bfloat16(), phrases.bfloat16(), boxes).dtype == torch.bfloat16
