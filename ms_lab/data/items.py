"""What travels through the pipeline: sources, clips, frames, detections, pairs and chosen samples.

All of it is frozen; a stage returns changed copies. Ids are hashes of content and time, never of file names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from ms_core.spec import Box
from ms_lab.data.run_lengths import from_run_lengths

Pixels = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]
SOURCE_ID_LENGTH = 24
# A clip's note: its caption names nothing, or there is none.
NO_ENTITIES = "no_entities"


@dataclass(frozen=True, slots=True)
class Source:
    """What a clip is cut from: a video, or a folder of pictures.

    Attributes:
        id: of its content, or of the name that its notes give it; what the split and erasing go by.
        content: SHA-256 of the file, or of the folder's pictures.
        licence: SPDX name, or empty if nobody said.
        provenance: where it comes from, as its notes say.
    """

    id: str
    content: str
    licence: str = ""
    provenance: str = ""

    @property
    def known_as(self) -> frozenset[str]:
        """Ids that it has with and without a name: who was erased stays so, whatever its notes say later."""
        return frozenset((self.id, self.content[:SOURCE_ID_LENGTH]))


@dataclass(frozen=True, slots=True)
class Entity:
    """A noun phrase of a caption with its half-open character span there."""

    phrase: str
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing found in a frame.

    Attributes:
        phrase: what it was found by.
        box: normalised xyxy.
        score: of the detector, 0 to 1.
        mask: run lengths over the frame's rows, first run False; ``None`` if unknown.
    """

    phrase: str
    box: Box
    score: float
    mask: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One moment of a clip.

    Attributes:
        id: of the source's content and the time.
        clip: id of the clip that it was cut from.
        time_s: in the source.
        pixels: RGB, upright.
        caption: what it shows, empty if unknown.
        entities: noun phrases of the caption.
        detections: what was found of them.
    """

    id: str
    clip: str
    time_s: float
    pixels: Pixels
    caption: str = ""
    entities: tuple[Entity, ...] = ()
    detections: tuple[Detection, ...] = ()

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pixels.shape[1]

    def mask_of(self, detection: Detection) -> Mask:
        """Where a detection is; its whole box if it has no mask."""
        if detection.mask is not None:
            return from_run_lengths(detection.mask, self.height, self.width)
        mask = np.zeros((self.height, self.width), bool)
        x_min, y_min, x_max, y_max = self.pixel_box(detection.box)
        mask[y_min:y_max, x_min:x_max] = True
        return mask

    def pixel_box(self, box: Box) -> tuple[int, int, int, int]:
        """The box's pixels, half-open xyxy, at least one."""
        x_min, y_min = (int(round(v * side)) for v, side in ((box.x_min, self.width), (box.y_min, self.height)))
        x_max, y_max = (int(round(v * side)) for v, side in ((box.x_max, self.width), (box.y_max, self.height)))
        x_min, y_min = min(x_min, self.width - 1), min(y_min, self.height - 1)
        return x_min, y_min, max(x_max, x_min + 1), max(y_max, y_min + 1)

    def crop(self, box: Box) -> Pixels:
        """The pixels within a box."""
        x_min, y_min, x_max, y_max = self.pixel_box(box)
        return self.pixels[y_min:y_max, x_min:x_max]


class Place(NamedTuple):
    """A detection of a clip: index of its frame, and its index there."""

    frame: int
    detection: int


class Reason(NamedTuple):
    """Why something was dropped: the filter's name and the value that it measured."""

    filter: str
    value: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The same entity at two moments of a clip.

    Attributes:
        one, other: the earlier frame first.
        similarity: of the two, by the matcher and the clip's other frames.
        alike: the higher of that and the matcher's own similarity of just these two.
        same_pixels: correlation of both crops, pixel by pixel.
        reasons: filters that would drop it, in their order; its detections' included.
    """

    one: Place
    other: Place
    similarity: float
    alike: float
    same_pixels: float
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class ChosenSubject:
    """A subject of a sample: where it stands in the target, and where its reference is taken from.

    Attributes:
        target, reference: detections of the clip; the same one in single-frame samples.
        phrase_span: half-open, in the target's caption.
        similarity: of both; 1 in single-frame samples.
    """

    target: Place
    reference: Place
    phrase_span: tuple[int, int]
    similarity: float


@dataclass(frozen=True, slots=True)
class ChosenSample:
    """A sample as chosen: an id of its content, and subjects of one target frame."""

    id: str
    target: int
    subjects: tuple[ChosenSubject, ...]
    single_frame: bool


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One shot of a source, and all that the stages find out about it.

    Attributes:
        id: of the source's content and the times.
        start_s, end_s: in the source.
        reasons: of each detection, filters that would drop it.
        notes: what was left out on the way, such as ``too_many_entities``.
    """

    id: str
    source: Source
    start_s: float
    end_s: float
    frames: tuple[Frame, ...]
    pairs: tuple[Pair, ...] = ()
    reasons: dict[Place, tuple[Reason, ...]] = field(default_factory=dict[Place, tuple[Reason, ...]])
    samples: tuple[ChosenSample, ...] = ()
    notes: tuple[str, ...] = ()

    def at(self, place: Place) -> tuple[Frame, Detection]:
        """A frame and its detection."""
        frame = self.frames[place.frame]
        return frame, frame.detections[place.detection]

    def places(self) -> list[Place]:
        """All detections, frame by frame."""
        return [Place(f, d) for f, frame in enumerate(self.frames) for d in range(len(frame.detections))]


def content_id(*parts: object) -> str:
    """An id of 24 hexadecimal characters from what a thing is."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def microseconds(time_s: float) -> int:
    """A time as ids use it, so that no rounding of floats shows in them."""
    return round(time_s * 1e6)
