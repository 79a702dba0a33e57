"""What the UNet is conditioned on, and what the user is told about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw

from ms_core.conditions.cutout import cut_out
from ms_core.conditions.references import ReferencePreprocessor
from ms_core.conditions.vision import ReferenceReader
from ms_core.errors import PhraseNotFoundError
from ms_core.spec import AutoLayout, Box, GenerationSpec, Subject
from ms_core.spec.resolve import ResolvedSpec, resolve_batch

BOX = Box(0.1, 0.2, 0.6, 0.9)


@pytest.fixture
def spec(reference_picture) -> GenerationSpec:
    subjects = (Subject("dog", reference_picture(0), BOX), Subject("cat", reference_picture(1), BOX))
    return GenerationSpec("a dog and a cat on the beach", subjects, height=200, width=264)


def warnings_of(pipeline, spec: GenerationSpec):
    return pipeline.conditioner.find_warnings(ResolvedSpec.of(spec, pipeline.card))


@torch.no_grad()
def encode(pipeline, *specs: GenerationSpec):
    return pipeline.conditioner.encode(resolve_batch(specs, pipeline.card))


def test_unconditional_rows_come_first_for_guided_specs_only(golden_pipeline, spec) -> None:
    conditioning = encode(
        golden_pipeline, spec, replace(spec, guidance_scale=1.0), replace(spec, negative_prompt="red")
    )
    assert conditioning.guided.tolist() == [0, 2]
    assert conditioning.prompt_embeds.shape == (5, 77, 64)
    assert conditioning.attention_data.num_conditional == 3
    negative_embeds, embeds = conditioning.prompt_embeds[:2], conditioning.prompt_embeds[2:]
    torch.testing.assert_close(embeds[0], embeds[2])
    assert not torch.allclose(negative_embeds[0], negative_embeds[1], atol=1e-3)


def test_size_conditioning_is_height_before_width(golden_pipeline, spec) -> None:
    assert encode(golden_pipeline, spec).time_ids.tolist() == [[200, 264, 0, 0, 200, 264]] * 2


def test_masks_are_for_the_latents_size(golden_pipeline, spec) -> None:
    assert encode(golden_pipeline, spec).attention_data.latents_size == (25, 33)


def test_without_a_box_the_resampler_sees_four_zeros(golden_pipeline, spec) -> None:
    subjects = tuple(replace(subject, box=None) for subject in spec.subjects)
    data = encode(golden_pipeline, replace(spec, subjects=subjects, layout=AutoLayout())).attention_data
    assert not data.subjects.boxes.any()


def test_a_subject_keeps_its_proportions_and_its_mask_covers_the_whole_box(
    golden_pipeline, golden_directory, reference_picture
) -> None:
    conditioner = golden_pipeline.conditioner
    reference = replace(golden_pipeline.card.reference, keep_proportions=True)
    preprocessor = ReferencePreprocessor.load(golden_directory / "image_encoder", reference)
    reader = ReferenceReader(conditioner.reader.image_encoder, preprocessor, conditioner.residency)
    wide_picture = reference_picture(0).resize((200, 100))

    def encode_in(box: Box, conditioner):
        spec = GenerationSpec("a dog", (Subject("dog", wide_picture, box),), height=200, width=264)
        with torch.no_grad():
            return conditioner.encode(resolve_batch([spec], golden_pipeline.card)).attention_data.subjects

    # 79.2 pixels wide and 140 high: the largest box twice as wide as high within it is 79.2 by 39.6, in the middle.
    tall, fitted = Box(0.2, 0.1, 0.5, 0.8), Box(0.2, 0.351, 0.5, 0.549)
    kept = encode_in(tall, replace(conditioner, reader=reader))
    torch.testing.assert_close(kept.tokens, encode_in(fitted, conditioner).tokens, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(kept.tokens, encode_in(tall, conditioner).tokens, atol=1e-2)
    torch.testing.assert_close(kept.boxes[0, 0], torch.tensor(tall.as_tuple()))


def test_a_plain_request_has_no_warnings(golden_pipeline, spec) -> None:
    assert warnings_of(golden_pipeline, spec) == ()


def test_a_phrase_that_the_prompt_lacks_is_a_warning(golden_pipeline, spec) -> None:
    (warning,) = warnings_of(golden_pipeline, replace(spec, prompt="a dog on the beach"))
    assert (warning.code, warning.pointer) == ("phrase_not_found", "/subjects/1/phrase")
    assert '"cat"' in warning.detail


def test_the_text_that_is_cut_off_is_named(golden_pipeline, spec) -> None:
    (warning,) = warnings_of(golden_pipeline, replace(spec, prompt=spec.prompt + " the" * 67 + " sunset behind"))
    assert (warning.code, warning.pointer) == ("text_truncated", "/prompt")
    assert warning.detail.endswith('"sunset behind"')


def test_a_long_cut_is_quoted_in_part(golden_pipeline, spec) -> None:
    (warning,) = warnings_of(golden_pipeline, replace(spec, prompt=spec.prompt + " the" * 2400))
    assert len(warning.detail) < 700
    assert "more characters" in warning.detail


def test_a_negative_prompt_that_is_cut_off_is_named(golden_pipeline, spec) -> None:
    (warning,) = warnings_of(golden_pipeline, replace(spec, negative_prompt="the " * 75 + "fog"))
    assert (warning.pointer, warning.detail[-5:]) == ("/negative_prompt", '"fog"')


def test_more_subjects_than_in_training_is_a_warning(golden_pipeline, spec) -> None:
    many = replace(spec, subjects=spec.subjects * 2 + spec.subjects[:1])
    assert [warning.code for warning in warnings_of(golden_pipeline, many)] == ["too_many_subjects"]


def test_with_auto_layout_a_phrase_cut_off_is_an_error(golden_pipeline, spec) -> None:
    prompt = "a dog" + " the" * 80 + " cat"
    with pytest.raises(PhraseNotFoundError, match='"cat"') as caught:
        encode(golden_pipeline, replace(spec, prompt=prompt, layout=AutoLayout()))
    assert caught.value.pointer == "/subjects/1/phrase"


def test_with_boxes_a_phrase_cut_off_is_no_error(golden_pipeline, spec) -> None:
    assert (
        encode(golden_pipeline, replace(spec, prompt="a dog" + " the" * 80 + " cat")).attention_data.auto_layout is None
    )


def tokens_of(pipeline, *specs: GenerationSpec) -> torch.Tensor:
    """Subject tokens, one row for each spec."""
    return encode(pipeline, *specs).attention_data.subjects.tokens


@pytest.fixture
def with_pictures(spec, reference_picture):
    """The spec whose first subject has golden pictures of these numbers."""

    def make(*numbers: int) -> GenerationSpec:
        first, second = spec.subjects
        return replace(spec, subjects=(replace(first, image=tuple(map(reference_picture, numbers))), second))

    return make


def test_a_picture_given_twice_is_one_picture(golden_pipeline, with_pictures) -> None:
    torch.testing.assert_close(
        tokens_of(golden_pipeline, with_pictures(2, 2)), tokens_of(golden_pipeline, with_pictures(2)), atol=1e-5, rtol=0
    )


def test_several_pictures_give_the_mean_of_each_alones_tokens(golden_pipeline, with_pictures) -> None:
    alone = [tokens_of(golden_pipeline, with_pictures(number)) for number in (2, 4, 5)]
    together = tokens_of(golden_pipeline, with_pictures(2, 4, 5))
    torch.testing.assert_close(together, torch.stack(alone).mean(dim=0), atol=1e-5, rtol=0)
    assert not torch.allclose(together, alone[0], atol=1e-2)


def test_the_order_of_pictures_does_not_matter(golden_pipeline, with_pictures) -> None:
    torch.testing.assert_close(
        tokens_of(golden_pipeline, with_pictures(2, 4, 5)),
        tokens_of(golden_pipeline, with_pictures(5, 2, 4)),
        atol=1e-5,
        rtol=0,
    )


def test_a_batch_may_mix_numbers_of_pictures(golden_pipeline, with_pictures) -> None:
    specs = [with_pictures(2), with_pictures(3, 4), with_pictures(5, 0, 1)]
    together = tokens_of(golden_pipeline, *specs)
    for row, single in zip(together, specs, strict=True):
        torch.testing.assert_close(row, tokens_of(golden_pipeline, single)[0], atol=1e-5, rtol=0)


@pytest.fixture
def disc() -> Image.Image:
    picture = Image.new("RGB", (120, 120), "green")
    ImageDraw.Draw(picture).ellipse((30, 40, 89, 79), fill="red")
    return picture


def test_a_cutout_is_what_the_model_reads(golden_pipeline, spec, disc) -> None:
    cut, plain = (replace(spec.subjects[0], image=disc, cutout=cutout) for cutout in (True, False))
    by_hand = replace(plain, image=cut_out(disc).image)
    cut_tokens, plain_tokens, by_hand_tokens = (
        tokens_of(golden_pipeline, replace(spec, subjects=(subject,))) for subject in (cut, plain, by_hand)
    )
    assert torch.equal(cut_tokens, by_hand_tokens)
    assert not torch.allclose(cut_tokens, plain_tokens, atol=1e-2)


def test_a_preview_shows_what_the_model_reads(golden_pipeline, spec, disc) -> None:
    subject = replace(spec.subjects[0], image=(disc, disc), cutout=True)
    sheet = golden_pipeline.conditioner.preview(subject)
    assert (sheet.size, sheet.mode) == ((448, 224), "RGB")
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    assert sheet.crop((0, 0, 224, 224)).tobytes() == sheet.crop((224, 0, 448, 224)).tobytes()


def test_a_cutout_that_fails_is_told_with_the_picture(golden_pipeline, spec) -> None:
    uniform = replace(spec.subjects[1], image=Image.new("RGB", (64, 64), "teal"), cutout=True)
    failing = replace(spec, subjects=(spec.subjects[0], uniform), height=64, width=64, num_inference_steps=1)
    (generation,) = golden_pipeline.run(failing)
    assert {(warning.code, warning.pointer) for warning in generation.warnings} == {
        ("cutout_failed", "/subjects/1/image"),
        ("one_colour", "/subjects/1/image"),
    }


def test_each_subject_that_is_cut_out_is_a_sign_of_progress(golden_pipeline, spec, disc) -> None:
    subjects = tuple(replace(subject, image=disc, cutout=True) for subject in spec.subjects)
    events = golden_pipeline.generate(replace(spec, subjects=subjects))
    assert [next(events).phase for _ in range(4)] == ["encode", "encode", "encode", "denoise"]


def test_pictures_seen_before_are_not_encoded_again(golden_pipeline, spec) -> None:
    small = replace(spec, height=64, width=64, num_inference_steps=1)
    (first,) = golden_pipeline.run(small)
    calls = []
    encoder = golden_pipeline.conditioner.reader.image_encoder
    handle = encoder.register_forward_hook(lambda *_: calls.append(1))
    (again,) = golden_pipeline.run(replace(small))
    handle.remove()
    assert calls == []
    assert torch.equal(first.latents, again.latents)
