"""Reference pictures: every kind of file to the same pixels, and the encoder's preprocessing as transformers does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ms_core.conditions.references import (
    PREPROCESSOR_FILE,
    ReferencePreprocessor,
    SeenPicture,
    crop_to_subject,
    preview,
)
from ms_core.config import ReferenceConfig
from ms_core.errors import CheckpointError, ModelNotFoundError

pytestmark = pytest.mark.usefixtures("without_rembg")


@pytest.fixture
def preprocessor(golden_directory) -> ReferencePreprocessor:
    return ReferencePreprocessor.load(golden_directory / "image_encoder", ReferenceConfig())


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("number", range(6))
def test_pixels_equal_transformers_processor(golden_directory, preprocessor, reference_picture, number: int) -> None:
    picture = reference_picture(number)
    processor = CLIPImageProcessorPil.from_pretrained(golden_directory / "image_encoder")
    expected = processor(picture.resize((512, 512)), return_tensors="pt").pixel_values
    torch.testing.assert_close(preprocessor([picture]), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("size", "crop_size", "side"),
    [
        (56, 56, 56),
        ({"shortest_edge": 64}, {"height": 56, "width": 56}, 56),
        ({"height": 60, "width": 60}, {"height": 56, "width": 56}, 56),
    ],
)
def test_smaller_encoders_have_their_own_numbers(tmp_path, size, crop_size, side: int) -> None:
    config = {"size": size, "crop_size": crop_size, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / PREPROCESSOR_FILE).write_text(json.dumps({**config, "image_processor_type": "CLIPImageProcessor"}))
    actual = ReferencePreprocessor.load(tmp_path, ReferenceConfig(size=128))([noise(40, 70)])
    expected = CLIPImageProcessorPil(**config)(noise(40, 70).resize((128, 128)), return_tensors="pt").pixel_values
    assert actual.shape == (1, 3, side, side)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


def test_the_aspect_ratio_is_squashed_not_padded(preprocessor) -> None:
    picture = Image.new("RGB", (300, 100), "red")
    assert preprocessor.square(picture).getcolors() == [(512 * 512, (255, 0, 0))]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_card_may_want_references_cut_to_their_subject(golden_directory, mode: str) -> None:
    card = ReferenceConfig(size=64, background=(250, 250, 250), crop=True)
    picture = Image.new(mode, (300, 100), (250, 250, 250, 0)[: len(mode)])
    picture.paste((200, 0, 0, 255)[: len(mode)], (40, 20, 70, 90))
    square = ReferencePreprocessor.load(golden_directory / "image_encoder", card).square(picture)
    assert square.getcolors() == [(64 * 64, (200, 0, 0))]


def test_a_picture_of_nothing_but_background_is_not_cut() -> None:
    picture = Image.new("RGB", (30, 20), (250, 255, 255))
    assert crop_to_subject(picture, (255, 255, 255)).size == (30, 20)


def test_an_exif_turn_is_obeyed(preprocessor) -> None:
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste("blue", (0, 0, 64, 32))
    upright = preprocessor.square(picture)
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.getexif()[0x0112] = 6
    assert preprocessor.square(stored).tobytes() == upright.tobytes()


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_shows_the_cards_background(golden_directory, mode: str, background) -> None:
    picture = Image.new("RGBA", (32, 32), (10, 20, 30, 0)).convert(mode)
    square = ReferencePreprocessor.load(
        golden_directory / "image_encoder", ReferenceConfig(background=background)
    ).square(picture)
    assert square.getcolors() == [(512 * 512, background)]


def test_a_transparent_palette_colour_shows_the_background(preprocessor) -> None:
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([200, 0, 0])
    picture.info["transparency"] = 0
    assert preprocessor.square(picture).getcolors() == [(512 * 512, (255, 255, 255))]


def test_half_transparency_is_mixed(preprocessor) -> None:
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 51))
    assert preprocessor.square(picture).getpixel((0, 0)) == (204, 204, 204)


def test_sixteen_bit_greys_are_scaled_not_clipped(preprocessor) -> None:
    picture = Image.fromarray(np.full((16, 16), 0x8000, dtype=np.uint16))
    assert preprocessor.square(picture).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "RGB", "YCbCr"])
def test_every_mode_becomes_rgb_pixels(preprocessor, mode: str) -> None:
    picture = noise(20, 30).convert(mode)
    assert preprocessor([picture]).shape == (1, 3, 224, 224)


def test_one_pixel_is_enough(preprocessor) -> None:
    assert preprocessor([Image.new("RGB", (1, 1), "red")]).isfinite().all()


def test_the_picture_itself_is_left_alone(preprocessor) -> None:
    picture = noise(20, 30)
    before = picture.tobytes()
    preprocessor([picture])
    assert picture.tobytes() == before


def disc(ground: str = "green") -> Image.Image:
    """A red disc of 60 x 40 pixels in the middle of 120 x 120."""
    picture = Image.new("RGB", (120, 120), ground)
    ImageDraw.Draw(picture).ellipse((30, 40, 89, 79), fill="red")
    return picture


def test_what_is_seen_is_what_the_encoder_gets(preprocessor, reference_picture) -> None:
    seen = preprocessor.see(reference_picture(2))
    values = preprocessor([reference_picture(2)])[0]
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (preprocessor.mean, preprocessor.std))
    pixels = ((values * std + mean) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(seen.image), pixels)
    assert (seen.method, seen.found) == (None, True)


def test_a_preview_shows_all_pictures_from_left_to_right(preprocessor, reference_picture) -> None:
    seen = [preprocessor.see(reference_picture(number)) for number in range(3)]
    sheet = preview(seen)
    assert (sheet.size, sheet.mode) == ((3 * 224, 224), "RGB")
    for column, picture in enumerate(seen):
        crop = sheet.crop((224 * column, 0, 224 * (column + 1), 224))
        assert crop.tobytes() == picture.image.tobytes()


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0)])
def test_a_cutout_lies_on_the_cards_background(golden_directory, background) -> None:
    preprocessor = ReferencePreprocessor.load(
        golden_directory / "image_encoder", ReferenceConfig(background=background)
    )
    seen = preprocessor.see(disc(), cutout=True)
    assert (seen.method, seen.found) == ("grabcut", True)
    assert seen.image.getpixel((0, 0)) == background
    red, green, _ = seen.image.getpixel((112, 112))
    assert (red > 200, green < 50) == (True, True)


def test_a_cutout_fills_the_encoders_square(preprocessor) -> None:
    seen = preprocessor.see(disc("white"), cutout=True).image
    not_white = seen.convert("L").point([255] * 128 + [0] * 128).getbbox()
    assert not_white is not None
    left, top, right, bottom = not_white
    # The margin is one for both directions, so the flat disc keeps more of it above and below.
    assert (left < 20, right > 204) == (True, True)
    assert (top < 28, bottom > 196) == (True, True)


def test_the_proportions_of_what_is_seen_are_known(golden_directory: Path) -> None:
    picture = Image.new("RGB", (90, 60), "white")
    picture.paste("teal", (10, 20, 50, 40))
    for crop, aspect in ((False, 1.5), (True, 2.0)):
        preprocessor = ReferencePreprocessor.load(golden_directory / "image_encoder", ReferenceConfig(crop=crop))
        assert preprocessor.see(picture).aspect == aspect


def test_a_picture_without_a_subject_is_seen_whole(preprocessor) -> None:
    picture = Image.new("RGB", (90, 60), "teal")
    assert preprocessor.see(picture, cutout=True) == SeenPicture(
        preprocessor.see(picture).image, 1.5, "grabcut", found=False
    )


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=PREPROCESSOR_FILE):
        ReferencePreprocessor.load(tmp_path, ReferenceConfig())


@pytest.mark.parametrize("text", ["{", "{}", '{"size": {"height": 3, "width": 4}, "crop_size": 3}'])
def test_an_unusable_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / PREPROCESSOR_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=PREPROCESSOR_FILE):
        ReferencePreprocessor.load(tmp_path, ReferenceConfig())
