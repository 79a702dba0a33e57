"""When subjects act: outside its time a subject's cells are uncovered, and by default nothing changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from ms_core.method.attention_data import AttentionData
from ms_core.method.masks import SubjectMask
from ms_core.sampling.starts import redraw_weights
from ms_core.spec import Box, GenerationSpec, StartPicture, Subject

STEPS = 4


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subjects = (
        Subject("dog", reference_picture(0), Box(0.05, 0.3, 0.6, 0.8), feather=0.1, z_index=1),
        Subject("cat", reference_picture(1), Box(0.5, 0.2, 0.95, 0.9)),
    )
    return GenerationSpec(
        "a dog and a cat on the beach", subjects, height=96, width=136, num_inference_steps=STEPS, seed=3
    )


@pytest.fixture
def masks(golden_pipeline, monkeypatch) -> Any:
    """Runs a spec; returns the masks of the first layer that is called, step by step."""

    def run(spec: GenerationSpec) -> list[SubjectMask]:
        seen: dict[str, list[SubjectMask]] = {}
        original = AttentionData.mask

        def mask(data: AttentionData, layer: str, *args: Any) -> SubjectMask:
            made = original(data, layer, *args)
            seen.setdefault(layer, []).append(made)
            return made

        with monkeypatch.context() as patch:
            patch.setattr(AttentionData, "mask", mask)
            golden_pipeline.run(spec)
        return next(iter(seen.values()))

    return run


def timed(spec: GenerationSpec, **times: float) -> GenerationSpec:
    """With these times for the first subject."""
    first, second = spec.subjects
    return replace(spec, subjects=(replace(first, **times), second))


def without_first(spec: GenerationSpec) -> GenerationSpec:
    return replace(spec, subjects=spec.subjects[1:])


def latents(pipeline, *specs: GenerationSpec) -> list[torch.Tensor]:
    return [generation.latents for generation in pipeline.run(list(specs))]


def test_outside_its_time_a_subject_is_uncovered(masks, spec) -> None:
    always, never, timed_masks = masks(spec), masks(without_first(spec)), masks(timed(spec, start=0.25, end=0.75))
    assert len(timed_masks) == STEPS
    for step, mask in enumerate(timed_masks):
        if step in (1, 2):
            assert torch.equal(mask.attn_mask, always[step].attn_mask)
            assert torch.equal(mask.coverage, always[step].coverage)
            continue
        assert torch.equal(mask.coverage, never[step].coverage)
        first, second = mask.attn_mask.tensor_split(2, dim=-1)
        assert torch.equal(second, never[step].attn_mask)
        assert first[mask.coverage.expand_as(first) > 0].isneginf().all()


def test_the_times_at_their_defaults_change_no_bit(golden_pipeline, spec) -> None:
    [plain], [timed_latents] = latents(golden_pipeline, spec), latents(golden_pipeline, timed(spec, start=0.0, end=1.0))
    assert torch.equal(plain, timed_latents)


@pytest.mark.parametrize("times", [{"start": 0.8}, {"start": 0.3, "end": 0.45}])
def test_a_subject_whose_time_has_no_step_is_as_if_it_were_not_there(golden_pipeline, spec, times) -> None:
    [absent] = latents(golden_pipeline, without_first(spec))
    [generation] = golden_pipeline.run(timed(spec, **times))
    torch.testing.assert_close(generation.latents, absent, atol=1e-3, rtol=0)
    assert ("subject_never_acts", "/subjects/0/end") in {
        (warning.code, warning.pointer) for warning in generation.warnings
    }


@pytest.mark.parametrize("times", [{"start": 0.25}, {"end": 0.75}, {"start": 0.25, "end": 0.5}])
def test_times_have_an_effect_and_each_row_has_its_own(golden_pipeline, spec, times) -> None:
    early = timed(spec, **times)
    together = latents(golden_pipeline, spec, early)
    [plain], [alone] = latents(golden_pipeline, spec), latents(golden_pipeline, early)
    assert (plain - alone).abs().max() > 1e-3
    torch.testing.assert_close(torch.cat(together), torch.cat([plain, alone]), atol=1e-3, rtol=0)


def test_one_request_leaves_the_times_of_another_alone(golden_pipeline, spec) -> None:
    early = timed(spec, end=0.5)
    [alone] = latents(golden_pipeline, early)
    first, second = golden_pipeline.generate(early), golden_pipeline.generate(spec)
    for _ in range(STEPS + 2):
        next(first)
        next(second)
    *_, last = first
    assert torch.equal(last.generations[0].latents, alone)


@pytest.mark.parametrize(
    ("changes", "acts"),
    [
        # Of four steps, a strength of a half keeps two.
        ({"start": StartPicture(Image.new("RGB", (136, 96), "teal"), 0.5)}, [True, False]),
        (
            {"start": StartPicture(Image.new("RGB", (136, 96), "teal"), 1.0), "scheduler": "heun"},
            [True] * 4 + [False] * 3,
        ),
        ({"num_inference_steps": 1}, [True]),
    ],
)
def test_the_steps_that_are_really_done_count(masks, spec, changes: dict[str, Any], acts: list[bool]) -> None:
    changed = timed(replace(spec, **changes), end=0.5)
    covered = [float(mask.coverage.sum()) for mask in masks(changed)]
    assert [area == max(covered) for area in covered] == acts


def test_where_a_picture_is_redrawn_does_not_depend_on_times(spec) -> None:
    always, early = (one.subjects for one in (spec, timed(spec, end=0.25)))
    for redraw in ((0,), (1,)):
        assert torch.equal(redraw_weights(early, redraw, 12, 17), redraw_weights(always, redraw, 12, 17))
