"""Pictures of a request: how masks, pictures to follow and pictures to start from reach the spec."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from app.requests.decoding import PictureLimits
from app.requests.intake import parse_request
from ms_core.spec.resolve import resolve
from tests.app.completed_requests import (
    CARD,
    CAT,
    PICTURE,
    complete,
    control,
    mask_uri,
    on_a_busy_machine,
    problems,
    spec_of,
    subject_without,
    warnings,
)
from tests.support.sample_requests import data_uri, good_request, good_subject, picture_uri


def test_pictures_of_the_request_are_decoded() -> None:
    uri = picture_uri(Image.new("CMYK", (3, 5)), "JPEG")
    sent = parse_request(json.dumps(good_request(subjects=[good_subject(image=uri)])).encode(), PictureLimits())
    (png,) = sent.pictures.pngs.values()
    assert png.startswith(b"\x89PNG")


def test_controls_reach_the_spec_with_their_own_pixels() -> None:
    """Larger than the side to which references are reduced."""
    edges = Image.effect_noise((320, 8), 90)
    request = {"name": "depth", "image": picture_uri(edges), "scale": 0.5, "start": 0.1, "end": 0.8}
    (depth,) = spec_of(controls=[request], width=320, height=8).controls
    assert (depth.name, depth.scale, depth.start, depth.end) == ("depth", 0.5, 0.1, 0.8)
    assert depth.image.convert("L").tobytes() == edges.tobytes()


def test_a_jpeg_to_follow_is_not_reduced_either() -> None:
    """References are decoded at half their size where that is enough."""
    uri = picture_uri(Image.new("L", (640, 640)), "JPEG")
    assert spec_of(controls=[{"name": "canny", "image": uri}], width=640, height=512 + 128, card=None).controls


def test_masks_and_start_pictures_are_reduced_as_references_are() -> None:
    large = mask_uri((600, 300), (0, 0, 300, 300))
    spec = spec_of(subjects=[subject_without("box", mask=large)], start={"image": large})
    assert spec.start is not None
    assert spec.subjects[0].mask is not None
    assert (spec.start.image.size, spec.subjects[0].mask.size) == ((300, 150), (300, 150))


def test_a_start_picture_reaches_the_spec() -> None:
    start = spec_of(start={"image": PICTURE, "strength": 0.5, "redraw": [1, 0]}).start
    assert start is not None
    assert (start.strength, start.redraw, start.image.size) == (0.5, (1, 0), (4, 4))


@pytest.mark.parametrize(
    ("size", "warned"),
    [((256, 128), False), ((64, 32), False), ((65, 32), False), ((128, 128), True), ((67, 32), True)],
)
def test_a_picture_of_another_shape_is_stretched_with_a_warning(size: tuple[int, int], warned: bool) -> None:
    mask = mask_uri(size, (0, 0, *size))
    request = good_request(subjects=[CAT | {"mask": mask}], start={"image": mask})
    expected = {"/subjects/0/mask": "mask_stretched", "/start/image": "start_stretched"} if warned else {}
    assert warnings(request) == expected


def test_a_broken_mask_is_told_in_its_own_place() -> None:
    request = good_request(subjects=[CAT | {"mask": data_uri(b"nonsense")}, CAT | {"image": "x"}])
    assert problems(request) == {"/subjects/0/mask": "invalid_picture", "/subjects/1/image": "invalid_picture"}


@on_a_busy_machine
@given(start=st.floats(0, 1), end=st.floats(0, 1))
def test_a_control_acts_for_some_time_or_is_refused(start: float, end: float) -> None:
    request = good_request(controls=[control(start=start, end=end)])
    if start < end:
        assert (complete(request)[1][0].controls[0].start, complete(request)[1][0].controls[0].end) == (start, end)
    else:
        assert problems(request) == {"/controls/0/end": "invalid_input"}


def test_no_picture_is_decoded_again_to_look_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = picture_uri(Image.new("RGB", (256, 128)))
    request = good_request(controls=[{"name": "canny", "image": picture}], start={"image": picture})
    sent = parse_request(json.dumps(request).encode(), PictureLimits())
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert resolve(sent.request, CARD).errors == ()
