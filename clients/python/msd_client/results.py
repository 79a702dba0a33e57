"""Finished pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from PIL import Image

from msd_client.jobs import Job, JobImage, JobWarning, Score
from msd_client.recipes import recipe_of


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture.

    Attributes:
        image: decoded.
        content: encoded, as the service made it.
        seed: gives this picture in its first draw.
        score: how well its subjects turned out; ``None`` unless it was asked for.
        recipe: what it was made of, as the file carries it; ``None`` if it carries none.
    """

    image: Image.Image
    content: bytes = field(repr=False)
    content_type: str
    seed: int
    score: Score | None
    recipe: Mapping[str, Any] | None = field(repr=False)

    @classmethod
    def read(cls, content: bytes, of: JobImage) -> Self:
        """Decode a picture of a job."""
        image = Image.open(io.BytesIO(content))
        image.load()
        recipe = recipe_of(image)
        return cls(
            image=image,
            content=content,
            content_type=of.content_type,
            seed=of.seed,
            score=of.score,
            recipe=recipe,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The pictures of a job that succeeded."""

    job: Job
    pictures: tuple[Picture, ...]

    @property
    def images(self) -> list[Image.Image]:
        """The pictures, decoded."""
        return [picture.image for picture in self.pictures]

    @property
    def warnings(self) -> tuple[JobWarning, ...]:
        """What the user should know."""
        return self.job.warnings
