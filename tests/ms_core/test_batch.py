"""Defaults of the card, and what the specs of one batch must share."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from ms_core.batch import SHARED_FIELDS, resolve, resolve_batch
from ms_core.config import GenerationDefaults, ModelCard
from ms_core.errors import BatchMismatchError, InvalidInputError
from ms_core.spec import Box, GenerationSpec, Subject

CARD = ModelCard(
    defaults=GenerationDefaults(
        height=128,
        width=136,
        num_inference_steps=20,
        guidance_scale=4.0,
        scale=0.8,
        negative_prompt="blurry",
        scheduler="ddim",
    ),
    max_height=256,
    max_width=512,
)
PICTURE = Image.new("RGB", (4, 4))
SPEC = GenerationSpec("a cat", (Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0)),))


def test_none_takes_the_cards_defaults() -> None:
    resolved = resolve(SPEC, CARD)
    assert (resolved.height, resolved.width, resolved.num_inference_steps) == (128, 136, 20)
    assert (resolved.guidance_scale, resolved.scheduler, resolved.negative_prompt) == (4.0, "ddim", "blurry")
    assert resolved.subject_scales == (0.8,)


def test_zero_and_empty_are_not_none() -> None:
    resolved = resolve(replace(SPEC, guidance_scale=0.0, scale=0.0, negative_prompt=""), CARD)
    assert (resolved.guidance_scale, resolved.negative_prompt, resolved.subject_scales) == (0.0, "", (0.0,))


def test_a_subjects_scale_replaces_the_global_one() -> None:
    subjects = (
        Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0), scale=0.3),
        Subject("dog", PICTURE, Box(0.0, 0.0, 1.0, 1.0)),
    )
    assert resolve(replace(SPEC, subjects=subjects, scale=0.5), CARD).subject_scales == (0.3, 0.5)


@pytest.mark.parametrize(("guidance_scale", "expected"), [(0.0, False), (1.0, False), (1.1, True)])
def test_guidance_needs_a_scale_above_one(guidance_scale: float, expected: bool) -> None:
    assert resolve(replace(SPEC, guidance_scale=guidance_scale), CARD).do_classifier_free_guidance is expected


@pytest.mark.parametrize(("field", "limit"), [("height", 256), ("width", 512)])
def test_the_models_largest_size_is_the_limit(field: str, limit: int) -> None:
    assert getattr(resolve(replace(SPEC, **{field: limit}), CARD), field) == limit
    with pytest.raises(InvalidInputError, match=str(limit)) as caught:
        resolve(replace(SPEC, **{field: limit + 8}), CARD)
    assert caught.value.pointer == f"/{field}"


@pytest.mark.parametrize(
    ("field", "value"), [("height", 64), ("width", 64), ("num_inference_steps", 3), ("scheduler", "euler")]
)
def test_what_one_unet_call_shares_must_agree(field: str, value: object) -> None:
    assert field in SHARED_FIELDS
    with pytest.raises(BatchMismatchError, match=field) as caught:
        resolve_batch([SPEC, replace(SPEC, **{field: value})], CARD)
    assert caught.value.pointer == f"/{field}"


def test_a_default_agrees_with_the_same_value_written_out() -> None:
    assert len(resolve_batch([SPEC, replace(SPEC, height=128, scheduler="ddim")], CARD)) == 2


def test_everything_else_may_differ() -> None:
    other = replace(SPEC, prompt="a dog", seed=7, guidance_scale=1.0, scale=0.1, grounding=False, negative_prompt="x")
    assert len(resolve_batch([SPEC, other], CARD)) == 2


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one"):
        resolve_batch([], CARD)
