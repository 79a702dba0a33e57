"""Footage filmed from photographs by camera motion, to try the guide "training data from your own videos" on.

    pip download scikit-image --no-deps && unzip scikit_image-*.whl 'skimage/data/*'
    python benchmarks/data_photographs.py skimage/data runs/photographs

Writes ``videos/`` with notes beside each video, and the side file that tells the stand-ins for detector and segmenter where things
are; ``own.toml`` names these stand-ins and the matcher without a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ms_lab.data.geometry import mask_box
from ms_lab.data.items import Mask, Pixels, content_id, microseconds
from ms_lab.data.run_lengths import run_lengths
from ms_lab.footage.films import TRUTH, VIDEOS, encode_video
from ms_lab.footage.truth import TrueFrame, TrueSubject, Truth

HEIGHT, WIDTH, FRAMES_PER_S, SHOT_S = 288, 288, 8, 4.0


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph and what stands in it.

    Attributes:
        caption: of it.
        things: ellipses by their names in the caption: left, top, right, bottom in pixels.
        licence, provenance: for the notes.
    """

    caption: str
    things: dict[str, tuple[int, int, int, int]]
    licence: str
    provenance: str


PHOTOGRAPHS = {
    "astronaut.png": Photograph(
        "a smiling face and a round patch on an orange suit",
        {"smiling face": (154, 16, 301, 189), "round patch": (132, 349, 210, 424)},
        "PDM-1.0",
        "scikit-image, astronaut: NASA",
    ),
    "chelsea.png": Photograph(
        "a green eye and a red nose of a cat",
        {"green eye": (134, 82, 208, 147), "red nose": (226, 222, 292, 266)},
        "CC0-1.0",
        "scikit-image, chelsea: Stefan van der Walt",
    ),
    "coffee.png": Photograph(
        "a white cup and a spoon on a wooden table",
        {"white cup": (173, 18, 410, 278), "spoon": (325, 235, 406, 326)},
        "CC0-1.0",
        "scikit-image, coffee: Rachel Michetti",
    ),
    "rocket.jpg": Photograph(
        "a tall rocket in front of the evening sky",
        {"tall rocket": (308, 122, 341, 405)},
        "CC0-1.0",
        "scikit-image, rocket: SpaceX",
    ),
}


class View(NamedTuple):
    """Where the camera looks: middle in shares of the photograph, what share of it is seen, and how far it is turned."""

    x: float
    y: float
    share: float
    degrees: float


# For each shot the first and the last view.
SHOTS = ((View(0.5, 0.5, 0.98, -20), View(0.5, 0.48, 0.8, 12)), (View(0.5, 0.55, 0.7, 30), View(0.5, 0.5, 0.98, -25)))


def views() -> Iterator[tuple[int, View]]:
    """The number of the shot and the view of each frame."""
    steps = round(SHOT_S * FRAMES_PER_S)
    for shot, (first, last) in enumerate(SHOTS):
        for step in range(steps):
            way = np.asarray(first) + (np.asarray(last) - np.asarray(first)) * step / (steps - 1)
            yield shot, View(*map(float, way))


def look(pixels: np.ndarray, view: View) -> np.ndarray:
    """What the camera sees of a photograph, or of a mask of it."""
    height, width = pixels.shape[:2]
    scale = max(WIDTH / width, HEIGHT / height) / view.share
    matrix = cv2.getRotationMatrix2D((view.x * width, view.y * height), view.degrees, scale)
    matrix[:, 2] += WIDTH / 2 - view.x * width, HEIGHT / 2 - view.y * height
    return cv2.warpAffine(pixels, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)


def ellipse(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> Mask:
    """A thing's mask in the photograph."""
    x_min, y_min, x_max, y_max = box
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    across = (columns + 0.5 - (x_min + x_max) / 2) / (x_max - x_min)
    down = (rows + 0.5 - (y_min + y_max) / 2) / (y_max - y_min)
    return across**2 + down**2 <= 0.25


def film(path: Path, pixels: Pixels, photograph: Photograph) -> list[TrueFrame]:
    """Write a film of a photograph and its notes; returns what its frames show."""
    seen = list(views())
    content = encode_video([look(pixels, view) for _, view in seen], FRAMES_PER_S)
    path.write_bytes(content)
    caption = [{"text": photograph.caption, "start_s": 0, "end_s": 1000}]
    notes = {"licence": photograph.licence, "provenance": photograph.provenance, "captions": caption}
    path.with_name(f"{path.name}.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")
    digest = hashlib.sha256(content).hexdigest()
    masks = {name: ellipse(box, pixels.shape).astype(np.uint8) for name, box in photograph.things.items()}
    found: list[TrueFrame] = []
    for number, (shot, view) in enumerate(seen):
        time_s = number / FRAMES_PER_S
        subjects = [
            _subject(index, name, look(mask, view) > 0, view) for index, (name, mask) in enumerate(masks.items())
        ]
        there = tuple(subject for subject in subjects if subject is not None)
        frame = content_id("frame", digest, microseconds(time_s))
        found.append(TrueFrame(frame, f"{path.stem}/{shot}", time_s, photograph.caption, there))
    return found


def _subject(index: int, name: str, mask: Mask, view: View) -> TrueSubject | None:
    box = mask_box(mask)
    if box is None:
        return None
    return TrueSubject(
        actor=index,
        identity=name,
        phrase=name,
        box=box.as_tuple(),
        mask=run_lengths(mask),
        visible=1.0,
        cut=0.0,
        blurred=False,
        named=True,
        pose=(view.x, view.y, 1 / view.share, view.degrees),
        fault="",
    )


def configuration(truth: Path) -> str:
    """A configuration without any model: captions from the notes, stand-ins that read the side file."""
    options = f"options = {{ truth = {json.dumps(str(truth))}, errors = false }}"
    return "\n".join(
        [
            '[caption]\nuse = "ms_lab.data.models.no_captions:NoCaptions"\noptions = {}\n',
            f'[grounding]\nuse = "ms_lab.footage.stand_ins:StandInDetector"\n{options}\n',
            f'[masks]\nuse = "ms_lab.footage.stand_ins:StandInSegmenter"\n{options}\n',
            '[match]\nuse = "ms_lab.data.models.colour_shape:ColourShapeMatcher"\noptions = {}\n',
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="scikit-image's folder of pictures")
    parser.add_argument("footage", type=Path)
    options = parser.parse_args()
    (options.footage / VIDEOS).mkdir(parents=True, exist_ok=True)
    truth: list[TrueFrame] = []
    for name, photograph in PHOTOGRAPHS.items():
        pixels = np.asarray(Image.open(options.photographs / name).convert("RGB"))
        truth += film(options.footage / VIDEOS / f"{Path(name).stem}.mp4", pixels, photograph)
    Truth.save(options.footage / TRUTH, truth)
    (options.footage / "own.toml").write_text(configuration((options.footage / TRUTH).absolute()), encoding="utf-8")


if __name__ == "__main__":
    main()
