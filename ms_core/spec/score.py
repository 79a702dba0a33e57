"""How well a subject turned out."""

from __future__ import annotations

from typing import NamedTuple


class SubjectScore(NamedTuple):
    """How well one subject of a picture turned out, as the model's scorer sees it.

    All values are ``None`` where the references show no subject to compare with, or are all unlike what the scorer knows.

    Attributes:
        present: probability that the subject stands in its box at all.
        identity: probability that it is the one of the reference, and not one that only looks like it.
        box_iou: estimated overlap, intersection over union, of what stands there with what would fill the box; 0 to 1.
    """

    present: float | None
    identity: float | None
    box_iou: float | None

    @property
    def weaker(self) -> float | None:
        """The lower of both probabilities."""
        return min((value for value in (self.present, self.identity) if value is not None), default=None)


UNKNOWN_SCORE = SubjectScore(None, None, None)


class Redraw(NamedTuple):
    """One draw of a picture after its first.

    Attributes:
        subject: position of the subject at whose place alone it drew; ``None``: it drew the whole picture.
        kept: whether its picture was better than the best one before it, and took its place.
    """

    subject: int | None
    kept: bool
