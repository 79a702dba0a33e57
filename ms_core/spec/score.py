"""How well a subject turned out."""

from __future__ import annotations

from typing import NamedTuple


class SubjectScore(NamedTuple):
    """How well one subject of a picture turned out, as the model's scorer sees it.

    Attributes:
        present: probability that the subject stands in its box at all.
        identity: probability that it is the one of the reference, and not one that only looks like it.
        box_iou: estimated overlap, intersection over union, of what stands there with what would fill the box; 0 to 1.
    """

    present: float
    identity: float
    box_iou: float

    @property
    def weaker(self) -> float:
        """The lower of both probabilities."""
        return min(self.present, self.identity)
