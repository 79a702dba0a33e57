"""What the stages ask of models: the interfaces, and how the configuration names an implementation."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from ms_core.errors import InvalidInputError
from ms_lab.data.config import PartConfig
from ms_lab.data.items import Detection, Frame, Mask, Pixels


class Seen(NamedTuple):
    """A detection in its frame."""

    frame: Frame
    detection: Detection

    @property
    def crop(self) -> Pixels:
        """The pixels within its box."""
        return self.frame.crop(self.detection.box)

    @property
    def crop_mask(self) -> Mask:
        """Where it is within its box."""
        x_min, y_min, x_max, y_max = self.frame.pixel_box(self.detection.box)
        return self.frame.mask_of(self.detection)[y_min:y_max, x_min:x_max]


class Captioner(Protocol):
    """Says what frames show."""

    def caption(self, frames: Sequence[Frame]) -> list[str]:
        """One sentence for each frame."""
        ...


class Detector(Protocol):
    """Finds phrases in frames."""

    def detect(self, frames: Sequence[Frame], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """What is found of each frame's own phrases, in any order, without masks."""
        ...


class Segmenter(Protocol):
    """Finds the silhouette of what a box holds."""

    def segment(self, frames: Sequence[Frame]) -> list[list[Mask]]:
        """A mask for each of the frames' detections."""
        ...


class Matcher(Protocol):
    """Says how alike detections are."""

    def compare(self, groups: Sequence[Sequence[Seen]]) -> list[Float[np.ndarray, "n n"]]:
        """For each group the similarities of all its members, -1 to 1, symmetrical."""
        ...


def load_class(name: str, where: str) -> Any:
    """The class ``module:Class``.

    Raises:
        InvalidInputError: there is none of this name.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"The configuration's {where} names {name!r}, which cannot be imported: {error}."
        ) from error


def load_part(config: PartConfig, where: str) -> Any:
    """A part as the configuration names it.

    Raises:
        InvalidInputError: there is no such class, or it does not take these options.
        ModelNotFoundError: its model is not on this machine.
    """
    made = load_class(config.use, f"{where}.use")
    try:
        return made(**config.options)
    except TypeError as error:
        raise InvalidInputError(f"The configuration's {where}.options do not fit {config.use}: {error}.") from error
