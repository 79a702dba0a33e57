"""Reading reference pictures with a real image encoder: what is remembered, and that remembering changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from ms_core.conditions import references
from ms_core.conditions.references import ReferencePreprocessor
from ms_core.conditions.vision import FEATURES_BYTES, ReferenceReader, content_key
from ms_core.config import ReferenceConfig
from ms_core.device.residency import Residency
from ms_core.model_dir.loading import load_image_encoder
from ms_core.spec import Box, GenerationSpec, Subject

CPU = torch.device("cpu")
BOX = Box(0.1, 0.1, 0.9, 0.9)
Make = Callable[..., ReferenceReader]


@pytest.fixture(scope="module")
def image_encoder(golden_directory) -> Any:
    return load_image_encoder(golden_directory / "image_encoder", torch.float32)


@pytest.fixture
def make_reader(golden_directory, image_encoder) -> Make:
    """Makes a fresh reader of the golden encoder, or of another."""
    preprocessor = ReferencePreprocessor.load(golden_directory / "image_encoder", ReferenceConfig())

    def make(features_bytes: int = FEATURES_BYTES, encoder: Any = None) -> ReferenceReader:
        encoder = image_encoder if encoder is None else encoder
        residency = Residency({"image_encoder": encoder.modules}, CPU, "cpu")
        return ReferenceReader(encoder, preprocessor, residency, features_bytes)

    return make


@pytest.fixture
def subject(reference_picture) -> Callable[..., Subject]:
    """A subject with golden pictures of these numbers."""

    def make(*numbers: int, cutout: bool = False) -> Subject:
        return Subject("dog", tuple(map(reference_picture, numbers)), BOX, cutout=cutout)

    return make


@contextmanager
def counted(encoder: Any) -> Iterator[list[int]]:
    """How many pictures each call of the encoder gets."""
    calls: list[int] = []
    handle = encoder.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    yield calls
    handle.remove()


@torch.no_grad()
def read(reader: ReferenceReader, *subjects: Subject) -> torch.Tensor:
    return reader.features([picture for subject in subjects for picture in reader.see(subject)])


def test_features_are_the_penultimate_hidden_states_of_each_picture(make_reader, image_encoder, subject) -> None:
    reader = make_reader()
    pixel_values = reader.preprocessor([*subject(0, 1).images, *subject(2).images])
    with torch.no_grad():
        expected = image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(read(reader, subject(0, 1), subject(2)), expected, atol=1e-4, rtol=0)


def test_a_picture_is_encoded_once(make_reader, image_encoder, subject) -> None:
    reader = make_reader()
    with counted(image_encoder) as calls:
        read(reader, subject(0, 1), subject(0))
        read(reader, subject(1))
        assert calls == [1, 1]
        read(reader, subject(2, 1))
    assert calls == [1, 1, 1]


def test_remembering_changes_no_bit(make_reader, subject) -> None:
    reader, forgetful = make_reader(), make_reader(features_bytes=0)
    first, again = (read(reader, subject(0, 1, 2)) for _ in range(2))
    among_others = read(reader, subject(3), subject(1, 2), subject(0))
    afresh = read(forgetful, subject(0, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, afresh)
    assert torch.equal(first, among_others[[3, 1, 2]])


def test_without_room_every_request_is_encoded(make_reader, image_encoder, subject) -> None:
    reader = make_reader(features_bytes=0)
    with counted(image_encoder) as calls:
        read(reader, subject(0))
        read(reader, subject(0))
    assert calls == [1, 1]


def test_what_was_not_used_for_longest_is_forgotten(make_reader, image_encoder, subject) -> None:
    one = read(make_reader(), subject(0)).nbytes
    reader = make_reader(features_bytes=2 * one)
    read(reader, subject(0), subject(1))
    read(reader, subject(0))
    read(reader, subject(2))
    with counted(image_encoder) as calls:
        read(reader, subject(0, 2))
        assert calls == []
        read(reader, subject(1))
    assert calls == [1]


def test_another_picture_of_the_same_pixels_is_the_same(make_reader, image_encoder, reference_picture) -> None:
    reader = make_reader()
    picture = reference_picture(0).convert("RGB")
    read(reader, Subject("dog", picture, BOX))
    with counted(image_encoder) as calls:
        read(reader, Subject("cat", picture.convert("RGBA"), BOX))
    assert calls == []


def test_another_pixel_is_another_picture(make_reader, image_encoder, reference_picture) -> None:
    reader = make_reader()
    picture = reference_picture(0).convert("RGB")
    read(reader, Subject("dog", picture, BOX))
    ImageDraw.Draw(picture).rectangle((0, 0, 8, 8), fill="magenta")
    with counted(image_encoder) as calls:
        read(reader, Subject("dog", picture, BOX))
    assert calls == [1]


def test_encoders_share_nothing(make_reader, golden_directory, subject) -> None:
    other = load_image_encoder(golden_directory / "image_encoder", torch.float32)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    first = read(make_reader(), subject(0))
    with counted(other) as calls:
        second = read(make_reader(encoder=other), subject(0))
    assert calls == [1]
    assert not torch.equal(first, second)


def test_an_encoder_in_another_dtype_reads_anew(make_reader, golden_directory, subject) -> None:
    encoder = load_image_encoder(golden_directory / "image_encoder", torch.float32)
    reader = make_reader(encoder=encoder)
    read(reader, subject(0))
    encoder.bfloat16()
    assert read(reader, subject(0)).dtype == torch.bfloat16


def test_nothing_is_remembered_while_gradients_flow(make_reader, image_encoder, subject) -> None:
    reader = make_reader()
    features = reader.features(reader.see(subject(0)))
    assert features.requires_grad
    assert torch.equal(features.detach(), read(reader, subject(0)))
    with counted(image_encoder) as calls:
        reader.features(reader.see(subject(0)))
    assert calls == [1]


def test_the_encoder_stays_parked_when_all_is_remembered(make_reader, subject, monkeypatch) -> None:
    reader = make_reader()
    wanted: list[str] = []
    use = Residency.use
    monkeypatch.setattr(Residency, "use", lambda self, *parts: wanted.extend(parts) or use(self, *parts))
    read(reader, subject(0, 1))
    assert wanted == ["image_encoder"]
    read(reader, subject(1), subject(0))
    assert wanted == ["image_encoder"]


def test_a_picture_is_cut_out_once(make_reader, subject, monkeypatch) -> None:
    cut: list[Image.Image] = []
    real = references.cut_out
    monkeypatch.setattr(references, "cut_out", lambda image: cut.append(image) or real(image))
    reader = make_reader()
    first, again = reader.see(subject(0, 1, cutout=True)), reader.see(subject(1, 0, cutout=True))
    assert first == again[::-1]
    assert len(cut) == 2


def test_what_is_remembered_of_cutouts_is_no_answer_to_whole_pictures(make_reader, subject) -> None:
    reader = make_reader()
    (cut,) = reader.see(subject(0, cutout=True))
    (whole,) = reader.see(subject(0))
    assert cut.method is not None
    assert whole.method is None


def test_a_cutout_that_fails_is_a_warning(make_reader, subject) -> None:
    uniform = Image.new("RGB", (64, 64), "teal")
    one = Subject("cat", uniform, BOX, cutout=True)
    several = Subject("dog", (subject(0).images[0], uniform), BOX, cutout=True)
    spec = GenerationSpec("a cat and a dog", (one, several, Subject("cat", uniform, BOX)))
    warnings = make_reader().cutout_warnings(spec)
    assert [(warning.code, warning.pointer) for warning in warnings] == [
        ("cutout_failed", "/subjects/0/image"),
        ("cutout_failed", "/subjects/1/images/1"),
    ]


def test_equal_parts_have_one_key() -> None:
    assert content_key(b"picture", "size") == content_key(b"picture", "size")


@pytest.mark.parametrize("parts", [("ab", "cd"), ("abcd",), ("a", "bc"), ("abc", ""), ("c", "ab")])
def test_another_content_or_split_has_another_key(parts: tuple[str, ...]) -> None:
    assert content_key(*parts) != content_key("ab", "c")
