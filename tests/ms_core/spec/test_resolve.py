"""Defaults of the card, and what the specs of one batch must share."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from ms_core.config import GenerationDefaults, ModelCard, Preset, PresetLora, UsableSchedulers
from ms_core.errors import BatchMismatchError, InvalidInputError, UnknownNameError, UnsupportedSchedulerError
from ms_core.spec import AutoLayout, Box, GenerationSpec, Lora, StartPicture, Subject
from ms_core.spec.resolve import SHARED_FIELDS, ResolvedSpec, resolve_batch

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
    presets={
        "quick": Preset(
            num_inference_steps=4,
            guidance_scale=1.0,
            scale=0.5,
            scheduler="euler",
            timestep_spacing="trailing",
            loras=(PresetLora("quick-lora", 0.9),),
        ),
        "plain": Preset(description="Changes nothing."),
    },
)
PICTURE = Image.new("RGB", (4, 4))
SPEC = GenerationSpec("a cat", (Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0)),))


def test_none_takes_the_cards_defaults() -> None:
    resolved = ResolvedSpec.of(SPEC, CARD)
    assert (resolved.height, resolved.width, resolved.num_inference_steps) == (128, 136, 20)
    assert (resolved.guidance_scale, resolved.scheduler, resolved.negative_prompt) == (4.0, "ddim", "blurry")
    assert resolved.subject_scales == (0.8,)


def test_a_preset_comes_before_the_cards_defaults() -> None:
    resolved = ResolvedSpec.of(replace(SPEC, preset="quick"), CARD)
    assert (resolved.num_inference_steps, resolved.guidance_scale, resolved.subject_scales) == (4, 1.0, (0.5,))
    assert (resolved.scheduler, resolved.timestep_spacing) == ("euler", "trailing")
    assert not resolved.do_classifier_free_guidance


def test_a_spec_comes_before_its_preset() -> None:
    own = {
        "num_inference_steps": 9,
        "guidance_scale": 3.0,
        "scale": 0.0,
        "scheduler": "heun",
        "timestep_spacing": "leading",
    }
    resolved = ResolvedSpec.of(replace(SPEC, preset="quick", **own), CARD)
    assert (resolved.num_inference_steps, resolved.guidance_scale, resolved.subject_scales) == (9, 3.0, (0.0,))
    assert (resolved.scheduler, resolved.timestep_spacing) == ("heun", "leading")


def test_a_preset_without_values_leaves_the_cards_defaults() -> None:
    plain, without = (ResolvedSpec.of(spec, CARD) for spec in (replace(SPEC, preset="plain"), SPEC))
    assert replace(plain, spec=without.spec, preset=Preset()) == without
    assert replace(plain.spec, preset=None) == without.spec


def test_a_presets_loras_come_before_the_specs_own() -> None:
    resolved = ResolvedSpec.of(replace(SPEC, preset="quick", loras=(Lora("own", -0.5),)), CARD)
    assert resolved.loras == (Lora("quick-lora", 0.9), Lora("own", -0.5))


def test_without_a_preset_there_are_only_the_specs_own_loras() -> None:
    assert ResolvedSpec.of(replace(SPEC, loras=(Lora("own"),)), CARD).loras == (Lora("own"),)


def test_a_preset_that_the_model_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(UnknownNameError, match="'turbo'; it has plain, quick") as caught:
        ResolvedSpec.of(replace(SPEC, preset="turbo"), CARD)
    assert caught.value.pointer == "/preset"


def test_a_scheduler_that_cannot_begin_is_refused_with_those_that_can() -> None:
    card = replace(CARD, schedulers=UsableSchedulers(("ddim", "euler"), {"leading": ("ddim", "heun")}))
    heun = replace(SPEC, scheduler="heun")
    with pytest.raises(UnsupportedSchedulerError, match="choose ddim, euler") as caught:
        ResolvedSpec.of(heun, card)
    assert caught.value.pointer == "/scheduler"
    # With another spacing, from a start picture, and where a worker's card does not say, it may begin.
    ResolvedSpec.of(replace(heun, timestep_spacing="leading"), card)
    ResolvedSpec.of(replace(heun, start=StartPicture(PICTURE, 0.5)), card)
    ResolvedSpec.of(heun, CARD)
    for refused in (replace(heun, timestep_spacing="trailing"), replace(heun, start=StartPicture(PICTURE, 1.0))):
        with pytest.raises(UnsupportedSchedulerError):
            ResolvedSpec.of(refused, card)


def test_zero_and_empty_are_not_none() -> None:
    resolved = ResolvedSpec.of(replace(SPEC, guidance_scale=0.0, scale=0.0, negative_prompt=""), CARD)
    assert (resolved.guidance_scale, resolved.negative_prompt, resolved.subject_scales) == (0.0, "", (0.0,))


def test_a_subjects_scale_replaces_the_global_one() -> None:
    subjects = (
        Subject("cat", PICTURE, Box(0.0, 0.0, 1.0, 1.0), scale=0.3),
        Subject("dog", PICTURE, Box(0.0, 0.0, 1.0, 1.0)),
    )
    assert ResolvedSpec.of(replace(SPEC, subjects=subjects, scale=0.5), CARD).subject_scales == (0.3, 0.5)


@pytest.mark.parametrize(("guidance_scale", "expected"), [(0.0, False), (1.0, False), (1.1, True)])
def test_guidance_needs_a_scale_above_one(guidance_scale: float, expected: bool) -> None:
    assert ResolvedSpec.of(replace(SPEC, guidance_scale=guidance_scale), CARD).do_classifier_free_guidance is expected


@pytest.mark.parametrize(("field", "limit"), [("height", 256), ("width", 512)])
def test_the_models_largest_size_is_the_limit(field: str, limit: int) -> None:
    assert getattr(ResolvedSpec.of(replace(SPEC, **{field: limit}), CARD), field) == limit
    with pytest.raises(InvalidInputError, match=str(limit)) as caught:
        ResolvedSpec.of(replace(SPEC, **{field: limit + 8}), CARD)
    assert caught.value.pointer == f"/{field}"


@pytest.mark.parametrize(
    ("field", "value"), [("height", 64), ("width", 64), ("num_inference_steps", 3), ("scheduler", "euler")]
)
def test_what_one_unet_call_shares_must_agree(field: str, value: object) -> None:
    assert field in SHARED_FIELDS
    with pytest.raises(BatchMismatchError, match=field) as caught:
        resolve_batch([SPEC, replace(SPEC, **{field: value})], CARD)
    assert caught.value.pointer == f"/{field}"


@pytest.mark.parametrize(
    ("loras", "listed"),
    [((), "none; style at 0.5"), ((Lora("style", 0.25), Lora("ink")), "style at 0.25, ink at 1; style at 0.5")],
)
def test_loras_must_agree_with_their_weights(loras: tuple[Lora, ...], listed: str) -> None:
    with pytest.raises(BatchMismatchError, match=listed) as caught:
        resolve_batch([replace(SPEC, loras=loras), replace(SPEC, loras=(Lora("style", 0.5),))], CARD)
    assert caught.value.pointer == "/loras"


def test_a_preset_agrees_with_the_same_values_written_out() -> None:
    written = {
        "num_inference_steps": 4,
        "scheduler": "euler",
        "timestep_spacing": "trailing",
        "loras": (Lora("quick-lora", 0.9),),
    }
    assert len(resolve_batch([replace(SPEC, preset="quick"), replace(SPEC, **written)], CARD)) == 2


def test_a_default_agrees_with_the_same_value_written_out() -> None:
    assert len(resolve_batch([SPEC, replace(SPEC, height=128, scheduler="ddim")], CARD)) == 2


def test_everything_else_may_differ() -> None:
    other = replace(SPEC, prompt="a dog", seed=7, guidance_scale=1.0, scale=0.1, grounding=False, negative_prompt="x")
    assert len(resolve_batch([SPEC, other], CARD)) == 2


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one"):
        resolve_batch([], CARD)


def test_auto_layout_is_refused_for_a_model_that_cannot() -> None:
    spec = replace(SPEC, subjects=(replace(SPEC.subjects[0], box=None),), layout=AutoLayout())
    ResolvedSpec.of(spec, CARD)
    with pytest.raises(InvalidInputError, match="a box or a mask") as caught:
        ResolvedSpec.of(spec, replace(CARD, auto_layout=False))
    assert caught.value.pointer == "/layout"
