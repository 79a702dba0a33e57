"""Each variant leaves out what its name says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from ms_core.method.attention_data import AttentionData, SubjectBatch
from ms_core.method.resampler import GroundingResampler
from ms_core.model_dir.loading import IMAGE_ENCODER, load_image_encoder, load_vae
from ms_lab.ablation.training import VariantStage, build_variant, config_of, trained_parts
from ms_lab.ablation.variants import FULL, IP_ADAPTER, NO_GROUNDING, NO_MASKS, NO_ZEROING, VARIANTS
from ms_lab.mini.recipe import MiniModel
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.mini import FULL as FULL_RECIPE
from ms_lab.training.scene_attention import SceneAttentionProcessor
from tests.support.paths import ROOT
from tests.support.small_scenes import random_batch

ORIGIN = ROOT / "models" / "mini"
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2"
# Of a grid of 4 x 4 cells: the first subject stands in the left column, the second in the right one, nobody in the middle.
BOXES = torch.tensor([[[0.0, 0.0, 0.25, 1.0], [0.75, 0.0, 1.0, 1.0]]])
FIRST, SECOND, NOBODY = 0, 3, [1, 2]
# What reads phrase and box.
IDLE = {
    "adapter.resampler.query_proj.0.weight",
    "adapter.resampler.query_proj.0.bias",
    "adapter.resampler.query_proj.2.weight",
    "adapter.resampler.query_proj.2.bias",
    "adapter.resampler.query_norm.weight",
    "adapter.resampler.query_norm.bias",
    "adapter.resampler.picture_parts.to_query.weight",
    "adapter.resampler.picture_parts.to_token.weight",
}


@cache
def built(name: str) -> MiniModel:
    """A variant with the same seed; not to be changed."""
    return build_variant(ORIGIN, name, seed=5)


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    yield
    built.cache_clear()


def subjects(tokens: Tensor, boxes: Tensor = BOXES, present: bool = True) -> AttentionData:
    """One row of two subjects."""
    shown = torch.full((1, 2), present)
    return AttentionData(SubjectBatch(tokens, boxes, torch.ones(1, 2), shown), (4, 4))


def attended(name: str, data: AttentionData) -> Tensor:
    """What one layer makes of the cells, by row and column of the grid."""
    generator = torch.Generator().manual_seed(1)
    layer: Any = built(name).unet.get_submodule(LAYER)
    cells = torch.randn(1, 16, layer.to_q.in_features, generator=generator)
    text = torch.randn(1, 7, layer.to_k.in_features, generator=generator)
    with torch.no_grad():
        return layer(cells, encoder_hidden_states=text, attention_data=data).view(4, 4, -1)


def some_tokens(seed: int = 2) -> Tensor:
    return torch.randn(1, 2, 3, 320, generator=torch.Generator().manual_seed(seed))


def changed_columns(name: str, one: AttentionData, other: AttentionData) -> list[bool]:
    """In which columns of the grid any cell changes."""
    difference = (attended(name, one) - attended(name, other)).abs().amax((0, 2))
    return (difference > 1e-6).tolist()


def with_another_first_subject() -> Tensor:
    tokens = some_tokens()
    return torch.cat([some_tokens(3)[:, :1], tokens[:, 1:]], 1)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        (FULL, [True, False, False, False]),
        (NO_GROUNDING, [True, False, False, False]),
        (NO_ZEROING, [True, False, False, False]),
        (NO_MASKS, [True] * 4),
        (IP_ADAPTER, [True] * 4),
    ],
)
def test_a_subjects_tokens_act_in_its_box_or_everywhere(name: str, where: list[bool]) -> None:
    one, other = subjects(some_tokens()), subjects(with_another_first_subject())
    assert changed_columns(name, one, other) == where


@pytest.mark.parametrize("name", [NO_MASKS, IP_ADAPTER])
def test_without_masks_boxes_mean_nothing_to_attention(name: str) -> None:
    moved = subjects(some_tokens(), BOXES.flip(1))
    assert changed_columns(name, subjects(some_tokens()), moved) == [False] * 4
    assert changed_columns(FULL, subjects(some_tokens()), moved) == [True, False, False, True]


@pytest.mark.parametrize("name", [FULL, NO_MASKS, IP_ADAPTER])
def test_a_row_whose_references_are_dropped_sees_the_text_alone(name: str) -> None:
    hidden = subjects(some_tokens(), present=False)
    assert changed_columns(name, hidden, subjects(some_tokens(3), present=False)) == [False] * 4
    no_subjects = SubjectBatch(
        torch.empty(0, 2, 3, 320), torch.empty(0, 2, 4), torch.empty(0, 2), torch.empty(0, 2) > 0
    )
    assert changed_columns(name, hidden, AttentionData(no_subjects, (4, 4))) == [False] * 4


@pytest.mark.parametrize(("present", "where"), [(True, [False, True, True, False]), (False, [True] * 4)])
def test_without_zeroing_the_background_sees_the_dummy_tokens(present: bool, where: list[bool]) -> None:
    before = attended(NO_ZEROING, subjects(some_tokens(), present=present))
    dummies = built(NO_ZEROING).adapter.dummy_tokens
    kept = dummies.detach().clone()
    try:
        with torch.no_grad():
            dummies.add_(1.0)
        difference = (attended(NO_ZEROING, subjects(some_tokens(), present=present)) - before).abs().amax((0, 2))
    finally:
        with torch.no_grad():
            dummies.copy_(kept)
    assert (difference > 1e-6).tolist() == where


def test_the_dummy_tokens_are_trained_without_zeroing_and_with_it_they_are_not() -> None:
    def trained(name: str) -> bool:
        return any(key == "dummy_tokens" for key, _ in built(name).adapter.named_parameters())

    assert (trained(NO_ZEROING), trained(FULL)) == (True, False)


def test_without_zeroing_what_stands_in_the_boxes_is_that_of_the_full_method() -> None:
    full, other = (attended(name, subjects(some_tokens())) for name in (FULL, NO_ZEROING))
    torch.testing.assert_close(full[:, [FIRST, SECOND]], other[:, [FIRST, SECOND]])
    assert not torch.allclose(full[:, NOBODY], other[:, NOBODY])


def read(name: str, phrase: Tensor, box: Tensor) -> Tensor:
    features = torch.randn(1, 65, 192, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return built(name).adapter.resampler(features, phrase, box, True)


@pytest.mark.parametrize(
    ("name", "matters"), [(FULL, True), (NO_MASKS, True), (NO_GROUNDING, False), (IP_ADAPTER, False)]
)
def test_phrase_and_box_enter_the_resampler_or_do_not(name: str, matters: bool) -> None:
    phrase, box = torch.ones(1, 128), torch.tensor([[0.1, 0.2, 0.6, 0.9]])
    tokens = read(name, phrase, box)
    assert torch.equal(tokens, read(name, -phrase, box)) != matters
    assert torch.equal(tokens, read(name, phrase, box / 2)) != matters


def test_the_ip_adapter_projects_one_embedding_to_four_tokens() -> None:
    resampler = built(IP_ADAPTER).adapter.resampler
    features = torch.randn(2, 65, 192, generator=torch.Generator().manual_seed(4))
    tokens = resampler(features, torch.zeros(2, 128), torch.zeros(2, 4))
    assert tokens.shape == (2, 4, 320)
    # Where something stands on the picture is lost in the mean.
    torch.testing.assert_close(tokens, resampler(features.flip(1), torch.zeros(2, 128), torch.zeros(2, 4)))


@pytest.mark.parametrize("name", VARIANTS)
def test_all_variants_start_from_the_same_weights_wherever_they_have_them(name: str) -> None:
    full, other = built(FULL), built(name)
    for part in ("unet", "text_encoder", "text_encoder_2", "vae", "image_encoder"):
        ours, theirs = getattr(full, part).state_dict(), getattr(other, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours, theirs = full.adapter.state_dict(), other.adapter.state_dict()
    shared = [key for key in ours if key in theirs and not key.startswith(("resampler.", "dummy_tokens"))]
    assert len(shared) == 2 * len(full.adapter.layer_paths)
    if name != IP_ADAPTER:
        assert ours.keys() == theirs.keys()
        shared = [key for key in ours if key != "dummy_tokens"]
    assert all(torch.equal(ours[key], theirs[key]) for key in shared)


def test_vae_and_image_encoder_are_the_origins_and_all_else_follows_the_seed() -> None:
    model, other = built(FULL), build_variant(ORIGIN, FULL, seed=6)
    for own, theirs in (
        (model.vae, load_vae(ORIGIN)),
        (model.image_encoder, load_image_encoder(ORIGIN / IMAGE_ENCODER, torch.float32)),
    ):
        assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in own.state_dict().items())
        assert not any(parameter.requires_grad for parameter in own.parameters())
    assert not torch.equal(model.unet.conv_in.weight, other.unet.conv_in.weight)
    assert not torch.equal(model.adapter.resampler.proj_in.weight, other.adapter.resampler.proj_in.weight)


def test_the_full_method_is_what_msd_train_mini_trains() -> None:
    model = built(FULL)
    processors = [each for name, each in model.unet.attn_processors.items() if "attn2" in name]
    assert {type(each) for each in processors} == {SceneAttentionProcessor}
    assert type(model.adapter.resampler) is GroundingResampler
    config = config_of(seed=1, pictures=20_000)
    assert config == replace(FULL_RECIPE.base, pictures=20_000, seed=1)
    losses = []
    for kind in (VariantStage, DenoisingStage):
        torch.manual_seed(0)
        losses.append(kind(model, trained_parts(model), random_batch()).loss(random_batch(), 0.5))
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_part_of_a_variant_is_trained(name: str) -> None:
    model = built(name)
    trained = trained_parts(model)
    torch.manual_seed(0)
    DenoisingStage(model, trained, random_batch()).loss(random_batch(), 0.0).backward()
    without = {key for key, value in trained.named_parameters() if value.grad is None or not value.grad.any()}
    trained.zero_grad(set_to_none=True)
    idle = {key for key in without if key.startswith("adapter.")}
    assert idle == (IDLE if name == NO_GROUNDING else idle & {"adapter.resampler.learned_queries"})
