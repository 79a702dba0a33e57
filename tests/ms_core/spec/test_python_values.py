"""What Python users give for pictures, boxes and subjects: taken, or refused with a sentence of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec import Box, GenerationSpec, Subject
from ms_core.spec.resolve import resolve_batch

RED = Image.new("RGB", (4, 3), "red")
BOX = Box(0.0, 0.25, 0.5, 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    RED.save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_paths_and_arrays_are_pictures(path: Path) -> None:
    for given in (path, str(path), np.asarray(RED)):
        assert Subject("cat", given, BOX).images[0].tobytes() == RED.tobytes()  # pyright: ignore[reportArgumentType]
    grey, clear = np.full((3, 4), 9, np.uint8), np.full((3, 4, 4), 9, np.uint8)
    assert Subject("cat", [grey, clear], BOX).images[1].mode == "RGBA"  # pyright: ignore[reportArgumentType]
    assert Subject("cat", (path, RED), BOX, mask=grey).mask is not None  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("box", [[0, 0.25, 0.5, 1], (0.0, 0.25, 0.5, 1), np.array([0, 0.25, 0.5, 1], np.float32)])
def test_four_numbers_are_a_box(box: Any) -> None:
    assert Subject("cat", RED, box).box == BOX
    assert Subject("cat", RED, tuple(box)).box == BOX


@pytest.mark.parametrize(
    "picture",
    [
        "nothing.png",
        Path("."),
        b"bytes",
        None,
        5,
        [],
        [RED, 5],
        {"image": RED},
        np.zeros((3, 4), np.float32),
        np.zeros((3, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(5, np.uint8),
        "a\0b",
    ],
)
def test_other_pictures_are_refused(picture: Any) -> None:
    with pytest.raises(InvalidInputError):
        Subject("cat", picture, BOX)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(PictureError, match=r"Cannot read the picture nothing.png: No such file or directory\."):
        Subject("cat", "nothing.png", BOX)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("box", ["0,0,1,1", 5, [0, 0, 1], [[0, 0, 1, 1]], np.zeros((2, 2)), np.array(["a"] * 4), {}])
def test_other_boxes_are_refused(box: Any) -> None:
    with pytest.raises(InvalidInputError):
        Subject("cat", RED, box)


@pytest.mark.parametrize("subjects", [Subject("cat", RED, BOX), "cat", [("cat", RED, BOX)], 5, None, []])
def test_subjects_that_are_none_are_refused(subjects: Any) -> None:
    with pytest.raises(InvalidInputError):
        GenerationSpec("a cat", subjects)


def test_a_list_of_subjects_is_taken() -> None:
    assert GenerationSpec("a cat", [Subject("cat", RED, BOX)]).subjects[0].box == BOX  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("specs", ["a cat", None, 5, ["a cat"], [None], {"prompt": "a cat"}, []])
def test_specs_that_are_none_are_refused(specs: Any) -> None:
    with pytest.raises(InvalidInputError):
        resolve_batch(specs, ModelCard())
