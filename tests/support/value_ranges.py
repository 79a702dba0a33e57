"""What each field of a request may hold at the least and at the most: for the tests of the spec, the API and the service."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from tests.support.sample_requests import good_request, good_subject, picture_uri

NO_NUMBERS = (math.nan, math.inf, -math.inf)
SIDE = 64


@dataclass(frozen=True)
class ValueRange:
    """Values of one field: ``good`` ones at the edges of what is taken, ``bad`` ones beyond, and what is said of those."""

    pointer: str
    good: tuple[Any, ...]
    bad: tuple[Any, ...]
    says: str

    @property
    def field(self) -> str:
        return self.pointer.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """Pointer to what has the field; empty for the request itself."""
        return self.pointer.rpartition("/")[0]

    def is_said_by(self, sentence: str) -> bool:
        """Whether a sentence says what is taken; 4.0 and 4 are the same."""
        return self.says in re.sub(r"\.0\b", "", sentence)


@dataclass(frozen=True)
class CountRange(ValueRange):
    """The same of a list; the values are how many items it has."""


# What belongs to the picture: the spec knows these fields, too.
SPEC_RANGES = (
    ValueRange("/prompt", ("猫", "x" * 20_000), ("", "  ", " \n"), "prompt is empty"),
    ValueRange("/prompt", (), ("x" * 20_001,), "At most 20000 characters"),
    ValueRange("/prompt", (), ("a\0b", "a cat\0 and a teapot"), "NUL"),
    ValueRange("/negative_prompt", ("", "x" * 20_000), ("x" * 20_001,), "At most 20000 characters"),
    ValueRange("/negative_prompt", (), ("\0", "a\0b"), "NUL"),
    ValueRange("/seed", (0, 2**53 - 1), (-1, 2**53, 10**400), "from 0 to 9007199254740991"),
    ValueRange("/num_inference_steps", (1, 150), (0, 151), "from 1 to 150"),
    ValueRange("/guidance_scale", (0.0, 50.0), (-0.1, 50.1, 51, *NO_NUMBERS), "from 0 to 50"),
    ValueRange("/scale", (0.0, 2.0), (-0.1, 2.1, *NO_NUMBERS), "from 0 to 2"),
    ValueRange("/height", (8, 136), (0, -8, 12, 129), "multiple of 8"),
    ValueRange("/width", (8, 136), (0, -8, 12, 129), "multiple of 8"),
    ValueRange("/height", (), (16_392, 10**400), "at most 16384 pixels"),
    ValueRange("/width", (), (16_392, 10**400), "at most 16384 pixels"),
    ValueRange("/retries", (0, 3), (-1, 4), "from 0 to 3"),
    ValueRange("/layout/threshold", (0.0, 1.0), (-0.1, 1.1, *NO_NUMBERS), "from 0 to 1"),
    ValueRange("/layout/start_step", (1, 150), (0, 151), "from 1 to 150"),
    CountRange("/subjects", (1, 16), (0, 17), "1 to 16 subjects"),
    ValueRange("/subjects/0/phrase", ("猫", "x" * 200), ("", " ", "   "), "needs a phrase"),
    ValueRange("/subjects/0/phrase", (), ("x" * 201,), "At most 200 characters"),
    ValueRange("/subjects/0/phrase", (), ("a\0",), "NUL"),
    CountRange("/subjects/0/images", (1, 8), (0, 9), "1 to 8 pictures of a subject"),
    ValueRange("/subjects/0/scale", (0.0, 2.0), (-0.1, 2.1, 3, *NO_NUMBERS), "from 0 to 2"),
    ValueRange("/subjects/0/feather", (0.0, 0.5), (-0.1, -0.01, 0.51, 0.6, *NO_NUMBERS), "from 0 to 0.5"),
    ValueRange("/subjects/0/z_index", (-100, 100), (-101, 101), "from -100 to 100"),
    ValueRange("/subjects/0/start", (0.0, 0.9), (-0.1, 1.1, *NO_NUMBERS), "from 0 to 1"),
    ValueRange("/subjects/0/end", (0.1, 1.0), (-0.1, 1.1, *NO_NUMBERS), "from 0 to 1"),
    CountRange("/loras", (0, 8), (9,), "at most 8 LoRAs"),
    ValueRange("/loras/0/weight", (-4.0, 4.0), (-4.1, 4.1, 4.5, 5, *NO_NUMBERS), "from -4 to 4"),
    CountRange("/controls", (0, 4), (5,), "at most 4 controls"),
    ValueRange("/controls/0/scale", (0.0, 2.0), (-0.1, 2.1, 2.5, *NO_NUMBERS), "from 0 to 2"),
    ValueRange("/controls/0/start", (0.0, 0.9), (-0.1, -0.5, 1.1, *NO_NUMBERS), "from 0 to 1"),
    ValueRange("/controls/0/end", (0.1, 1.0), (-0.1, 1.1, *NO_NUMBERS), "from 0 to 1"),
    ValueRange("/start/strength", (0.05, 1.0), (0, -0.1, 1.01, 1.5, *NO_NUMBERS), "above 0 and at most 1"),
)
# All that a client may send.
REQUEST_RANGES = (
    *SPEC_RANGES,
    ValueRange("/num_images", (1, 8), (0, 9), "from 1 to 8"),
    ValueRange("/quality", (1, 100), (0, 101), "from 1 to 100"),
    CountRange("/start/redraw", (0, 16), (17,), "at most 16 subjects to redraw"),
)


def request_with(ranged: ValueRange, value: Any) -> dict[str, Any]:
    """A small request that is right but, perhaps, for this value of this field."""
    if isinstance(ranged, CountRange):
        value = [_item(ranged.pointer)] * value
    request = good_request(width=SIDE, height=SIDE, subjects=[good_subject()])
    if ranged.pointer == "/retries":
        request["score"] = True
    if ranged.pointer == "/quality":
        request["output_format"] = "webp"
    if ranged.pointer == "/subjects/0/images":
        del request["subjects"][0]["image"]
    parent, _, index = ranged.parent.removeprefix("/").partition("/")
    if parent and parent != "subjects":
        request[parent] = [_item(f"/{parent}")] if index else _item(f"/{parent}")
    owner = request[parent] if parent else request
    (owner[int(index)] if index else owner)[ranged.field] = value
    return request


def _item(pointer: str) -> Any:
    """What a list of this name holds; of what is no list, the thing itself."""
    picture = picture_uri(Image.new("L", (SIDE, SIDE)))
    return {
        "/subjects": good_subject(),
        "/subjects/0/images": picture,
        "/loras": {"name": "paper"},
        "/controls": {"name": "canny", "image": picture},
        "/start": {"image": picture},
        "/start/redraw": 0,
        "/layout": {"mode": "auto"},
    }[pointer]
