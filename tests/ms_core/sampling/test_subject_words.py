"""Subjects with words of their own, with and without pictures, through the whole pipeline on the tiny golden model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import AutoLayout, Box, GenerationSpec, StartPicture, Subject
from ms_core.spec.resolve import resolve_batch

WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    dog = Subject("dog", reference_picture(0), Box(0.05, 0.3, 0.45, 0.8))
    cat = Subject("cat", reference_picture(1), Box(0.5, 0.2, 0.95, 0.9))
    return GenerationSpec("a dog and a cat", (dog, cat), height=64, width=88, num_inference_steps=2, seed=3)


def with_words(spec: GenerationSpec, words: str | None, picture: bool = True) -> GenerationSpec:
    """The spec whose second subject brings these words."""
    dog, cat = spec.subjects
    return replace(spec, subjects=(dog, replace(cat, prompt=words, image=cat.image if picture else None)))


def latents(pipeline: MSDiffusionPipeline, *specs: GenerationSpec) -> torch.Tensor:
    return torch.cat([generation.latents for generation in pipeline.run(list(specs))])


@torch.no_grad()
def encode(pipeline: MSDiffusionPipeline, *specs: GenerationSpec):
    return pipeline.conditioner.encode(resolve_batch(specs, pipeline.card))


def test_without_words_nothing_of_them_is_computed(golden_pipeline, spec) -> None:
    data = encode(golden_pipeline, spec).attention_data
    assert (data.words, data.subjects.pictured) == (None, None)


def test_only_the_words_are_encoded_beside_the_prompts(golden_pipeline, spec) -> None:
    plain, worded = encode(golden_pipeline, spec), encode(golden_pipeline, spec, with_words(spec, "a red cat"))
    words = worded.attention_data.words
    assert words is not None
    assert (words.rows, words.positions, words.embeds.shape) == ((1,), (1,), (1, 77, 64))
    (alone,) = encode(golden_pipeline, replace(spec, prompt="a red cat")).prompt_embeds[1:]
    torch.testing.assert_close(words.embeds[0], alone)
    for name in ("prompt_embeds", "pooled_prompt_embeds", "time_ids"):
        rows = getattr(plain, name)
        torch.testing.assert_close(getattr(worded, name), rows[[0, 0, 1, 1]], msg=name)


def test_rows_with_and_without_words_are_as_each_alone(golden_pipeline, spec) -> None:
    specs = [spec, with_words(spec, "a red cat"), with_words(spec, "a tree", picture=False)]
    specs += [replace(with_words(spec, "snow"), guidance_scale=1.0)]
    together = latents(golden_pipeline, *specs)
    alone = torch.cat([latents(golden_pipeline, one) for one in specs])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)
    apart = [float((alone[0] - other).abs().max()) for other in alone[1:3]]
    assert min(apart) > 0.01


def test_the_prompts_own_words_change_nothing_but_roundings(golden_pipeline, spec) -> None:
    torch.testing.assert_close(
        latents(golden_pipeline, with_words(spec, spec.prompt)), latents(golden_pipeline, spec), atol=1e-3, rtol=0
    )


def test_a_place_of_words_alone_over_the_whole_picture_is_another_prompt_with_the_pooled_one_kept(
    golden_pipeline, spec
) -> None:
    """Without pictures nothing but text is read, so the text of the region's words takes the prompt's place."""
    words = replace(spec, subjects=(Subject("tree", box=WHOLE, prompt="a tree in the snow"),), guidance_scale=1.0)
    conditioning = encode(golden_pipeline, words)
    other = encode(golden_pipeline, replace(words, prompt="a tree in the snow"))
    unet, noise = golden_pipeline.unet, torch.randn(1, 4, 8, 11, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def call(text: torch.Tensor, data) -> torch.Tensor:
        added = {"text_embeds": conditioning.pooled_prompt_embeds, "time_ids": conditioning.time_ids}
        kwargs = {"attention_data": data}
        return unet(noise, 501, text, added_cond_kwargs=added, cross_attention_kwargs=kwargs).sample

    expected = call(other.prompt_embeds, replace_words(other.attention_data))
    torch.testing.assert_close(
        call(conditioning.prompt_embeds, conditioning.attention_data), expected, atol=1e-4, rtol=0
    )
    assert not torch.allclose(
        call(conditioning.prompt_embeds, replace_words(conditioning.attention_data)), expected, atol=1e-3
    )


def replace_words(data):
    """The same attention data without words."""
    return type(data)(data.subjects, data.latents_size)


def test_a_subject_without_a_picture_is_not_read_by_encoder_and_resampler(golden_pipeline, spec, monkeypatch) -> None:
    rows: list[int] = []
    handle = golden_pipeline.adapter.resampler.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        data = encode(golden_pipeline, with_words(spec, "a tree", picture=False)).attention_data
        alone = replace(spec, subjects=(replace(spec.subjects[0], image=None, prompt="a tree"),))
        latents(golden_pipeline, alone)
    finally:
        handle.remove()
    assert rows == [1]
    assert data.subjects.pictured is not None
    assert data.subjects.pictured.tolist() == [[True, False]]
    assert not data.subjects.tokens[0, 1].any()


def test_words_need_no_projections_once_a_request_is_prepared(golden_pipeline, spec) -> None:
    """In small memory modes the projections leave the device then."""
    conditioning = encode(golden_pipeline, with_words(spec, "a red cat"))
    with torch.no_grad():
        golden_pipeline.adapter.project(golden_pipeline.unet, conditioning.prompt_embeds, conditioning.attention_data)
    layers = [golden_pipeline.unet.get_submodule(path) for path in golden_pipeline.adapter.layer_paths]
    calls: list[object] = []
    handles = [
        part.register_forward_pre_hook(lambda *_: calls.append(_))
        for layer in layers
        for part in (layer.to_k, layer.to_v)
    ]
    try:
        added = {"text_embeds": conditioning.pooled_prompt_embeds, "time_ids": conditioning.time_ids}
        with torch.no_grad():
            golden_pipeline.unet(
                torch.zeros(2, 4, 8, 11),
                501,
                conditioning.prompt_embeds,
                added_cond_kwargs=added,
                cross_attention_kwargs={"attention_data": conditioning.attention_data},
            )
    finally:
        for handle in handles:
            handle.remove()
    assert calls == []


def test_auto_layout_places_a_subject_of_words_alone(golden_pipeline, spec) -> None:
    auto = replace(spec, layout=AutoLayout(0.4, start_step=1))
    unplaced = [
        replace(one, subjects=tuple(replace(subject, box=None) for subject in one.subjects))
        for one in (auto, with_words(auto, "a red car", picture=False))
    ]
    plain, words = (latents(golden_pipeline, one) for one in unplaced)
    assert words.isfinite().all()
    assert not torch.allclose(plain, words, atol=1e-2)


def test_a_place_of_words_alone_can_be_redrawn(golden_pipeline, spec) -> None:
    start = StartPicture(Image.new("RGB", (88, 64), "navy"), strength=1.0, redraw=(1,))
    redrawn = latents(golden_pipeline, replace(with_words(spec, "a tree", picture=False), start=start))
    kept = latents(golden_pipeline, replace(with_words(spec, "a boat", picture=False), start=start))
    changed = (redrawn - kept).abs().amax(1)[0] > 0
    assert changed[:, 6:10].any()
    assert not changed[:, :5].any()
