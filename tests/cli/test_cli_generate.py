"""How ``msd generate`` reads its subjects."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.generate import CommandError, SubjectOption, parse_subject

unit = st.floats(0, 1)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("cat=cat.png", SubjectOption("cat", Path("cat.png"), None, None)),
        ("cat=cat.png@0.05,0.3,.45,1", SubjectOption("cat", Path("cat.png"), (0.05, 0.3, 0.45, 1.0), None)),
        ("cat=cat.png*0.8", SubjectOption("cat", Path("cat.png"), None, 0.8)),
        ("cat=cat.png@0,0,1,1*2", SubjectOption("cat", Path("cat.png"), (0.0, 0.0, 1.0, 1.0), 2.0)),
        ("red tea pot=a=b@c*d.png", SubjectOption("red tea pot", Path("a=b@c*d.png"), None, None)),
        ("cat=me@home/cat.png@0,0,1,1", SubjectOption("cat", Path("me@home/cat.png"), (0.0, 0.0, 1.0, 1.0), None)),
        ("猫=猫.png@0,0,1,1", SubjectOption("猫", Path("猫.png"), (0.0, 0.0, 1.0, 1.0), None)),
    ],
)
def test_subjects_are_read(option: str, expected: SubjectOption) -> None:
    assert parse_subject(option) == expected


@given(box=st.tuples(unit, unit, unit, unit), scale=st.floats(0, 2))
def test_numbers_are_read_as_they_are(box: tuple[float, ...], scale: float) -> None:
    option = parse_subject(f"cat=cat.png@{','.join(map(repr, box))}*{scale!r}")
    assert (option.box, option.scale) == (box, scale)


@pytest.mark.parametrize("option", ["", "cat", "cat.png", "=cat.png", "cat="])
def test_other_forms_are_refused_with_the_right_one(option: str) -> None:
    with pytest.raises(CommandError, match="phrase=picture.png@x_min,y_min,x_max,y_max"):
        parse_subject(option)


def test_the_picture_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpeg"
    path.write_bytes(b"any bytes")
    subject = SubjectOption("cat", path, (0.0, 0.0, 1.0, 1.0), 0.5).to_json()
    header, _, content = subject["image"].partition(",")
    assert header == "data:image/jpeg;base64"
    assert base64.b64decode(content) == b"any bytes"
    assert (subject["phrase"], subject["box"], subject["scale"]) == ("cat", [0.0, 0.0, 1.0, 1.0], 0.5)


def test_what_is_not_given_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"x")
    assert set(SubjectOption("cat", path, None, None).to_json()) == {"phrase", "image"}
