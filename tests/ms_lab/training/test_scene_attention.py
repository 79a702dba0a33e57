"""Sharing keys and values between rows changes what a step costs, not what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ms_core.method.attention import SubjectAttentionProcessor, explicit_attention
from ms_lab.mini.recipe import LATENT_CHANNELS, build_model, train_tokenizer
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.dropout import Drops
from ms_lab.training.mini import train_ready
from ms_lab.training.scene_attention import SceneAttentionProcessor, share_subjects
from tests.support.small_scenes import random_batch


@pytest.fixture
def stage() -> DenoisingStage:
    torch.manual_seed(0)
    model = train_ready(build_model(train_tokenizer(["a cat", "a pot", "a tree"]), explicit_attention))
    return DenoisingStage(model, model.unet, random_batch())


def as_served(unet: Any) -> None:
    """Put the processors that serving uses back."""
    processors = {
        name: SubjectAttentionProcessor(old.layer, old.projection, old.attend)
        if isinstance(old, SceneAttentionProcessor)
        else old
        for name, old in unet.attn_processors.items()
    }
    unet.set_attn_processor(processors)


def error_and_gradients(stage: DenoisingStage) -> tuple[Tensor, dict[str, Tensor]]:
    """Of six rows of three scenes, in which a caption, an image and a grounding are dropped."""
    latents, noise = torch.randn(2, 6, LATENT_CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    drops = Drops(
        text=torch.tensor([True, False, False, False, False, False]),
        image=torch.tensor([False, False, False, True, False, False]),
        grounding=torch.tensor([False, False, False, False, True, True]),
    )
    parts = torch.nn.ModuleDict({"unet": stage.model.unet, "adapter": stage.model.adapter})
    parts["text"] = stage.model.text_encoder
    parts.zero_grad()
    error = stage.error(random_batch(), latents, noise, torch.tensor([100, 900, 500, 400, 300, 200]), drops)
    error.sum().backward()
    return error.detach(), {name: own.grad.clone() for name, own in parts.named_parameters() if own.grad is not None}


def test_rows_that_share_scenes_get_the_error_and_the_gradients_of_serving(stage: DenoisingStage) -> None:
    shared, shared_gradients = error_and_gradients(stage)
    as_served(stage.model.unet)
    alone, gradients = error_and_gradients(stage)
    torch.testing.assert_close(shared, alone)
    assert gradients.keys() == shared_gradients.keys()
    assert any(name.startswith("adapter.resampler") for name in gradients)
    # Some gradients are zero but for rounding: a bias of keys changes no softmax.
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        difference = float((shared_gradients[name] - gradient).norm())
        assert difference < 1e-4 * float(gradient.norm()) + 1e-6 * largest, name


def test_padding_and_repeated_rows_are_not_projected(stage: DenoisingStage) -> None:
    """Three scenes with five subjects and two rows each: five times 64 tokens, where six rows of two have 768."""
    projected: list[int] = []
    projection: Any = stage.model.adapter.projection(stage.model.adapter.layer_paths[0])
    handle = projection.to_k.register_forward_hook(
        lambda _module, inputs, _output: projected.append(inputs[0].shape[:-1].numel())
    )
    try:
        error_and_gradients(stage)
    finally:
        handle.remove()
    assert projected == [5 * 64]


def test_each_subject_of_a_row_is_found_among_those_that_are_present() -> None:
    tokens = torch.arange(1.0, 4.0)[:, None, None].expand(3, 2, 1)
    present = torch.tensor([[True, False], [True, True]])
    shared = share_subjects(tokens, present, torch.tensor([0, 1, 1, 0]))
    laid_out = shared.spread(tokens)
    assert laid_out.squeeze(-1).tolist() == [[1, 1, 0, 0], [2, 2, 3, 3], [2, 2, 3, 3], [1, 1, 0, 0]]
