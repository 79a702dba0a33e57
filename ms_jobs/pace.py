"""Estimates how long a job takes by its shape, from the jobs that succeeded.

Redis holds only a short list of samples, which every reader reads whole and evaluates itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations
from statistics import median, median_low
from typing import TYPE_CHECKING, NamedTuple, Self

from redis import Redis

from ms_jobs import keys
from ms_jobs.records import LARGEST_COUNT, as_text

if TYPE_CHECKING:
    from ms_jobs.job_request import GenerateRequest

REMEMBERED_JOBS = 200
PACE_TTL_S = 30 * 24 * 3600
# The newest jobs of a shape that count; below the least a shape is unknown, since a worker's first job is slow.
COUNTED_JOBS = 9
LEAST_JOBS = 2
# All pairs of the newest shapes are compared: enough for a line, and fast.
COMPARED_SHAPES = 40
_MEGAPIXEL = 1e6


class Shape(NamedTuple):
    """The parts of a request that decide how long it takes.

    Attributes:
        steps: calls of the UNet.
        height, width: of a picture, in pixels.
        guided: whether each step runs with and without the prompt.
        redraws: how often its pictures may be redrawn; such jobs take longer, by an unknown amount.
    """

    steps: int
    images: int
    height: int
    width: int
    guided: bool
    subjects: int
    controls: int
    redraws: int = 0

    @classmethod
    def of(cls, request: GenerateRequest) -> Self | None:
        """Get the shape of a request; ``None`` if it leaves defaults to the worker."""
        steps, height, width = request.num_unet_calls, request.height, request.width
        if steps is None or height is None or width is None or request.guidance_scale is None:
            return None
        return cls(
            steps,
            request.num_images,
            height,
            width,
            request.guidance_scale > 1,
            len(request.subjects),
            len(request.controls),
            request.retries,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse what ``str`` wrote.

        Raises:
            ValueError: the text is not a shape.
        """
        steps, images, height, width, guided, *others = map(int, text.split("-"))
        if len(others) < 2 or not all(0 <= number <= LARGEST_COUNT for number in (steps, images, height, width)):
            raise ValueError(f"{text!r} is not a shape")
        # A newer version may write more numbers.
        return cls(steps, images, height, width, guided == 1, *others[:3])

    @property
    def work(self) -> float:
        """Megapixels through the UNet, over all steps of the first draw."""
        pixels = self.height * self.width / _MEGAPIXEL
        return self.steps * self.images * pixels * (2 if self.guided else 1)

    def __str__(self) -> str:
        # Without redraws, as older versions of the service write and read it.
        return "-".join(str(int(value)) for value in (self if self.redraws else self[:-1]))


class Estimates:
    """Estimated durations of jobs, from samples."""

    def __init__(self, samples: Iterable[tuple[str, float]]) -> None:
        """``samples`` are shapes and seconds, newest first."""
        by_shape: dict[str, list[float]] = {}
        for shape, seconds in samples:
            by_shape.setdefault(shape, []).append(seconds)
        newest = {shape: seconds[:COUNTED_JOBS] for shape, seconds in by_shape.items()}
        # The lower of the middle two, since outliers are slow, never fast.
        self._by_shape = {shape: median_low(seconds) for shape, seconds in newest.items()}
        self._well_known = {shape for shape, seconds in newest.items() if len(seconds) >= LEAST_JOBS}
        self._usual = median(seconds for group in newest.values() for seconds in group) if newest else None
        shapes = [(Shape.parse(shape), seconds) for shape, seconds in self._by_shape.items() if shape]
        points = [(shape.work, seconds) for shape, seconds in shapes if not shape.redraws]
        self._overhead_s, self._s_per_work = _line(points[:COMPARED_SHAPES])

    @property
    def usual_s(self) -> float | None:
        """Estimate for a job of unknown shape; ``None`` before the first job."""
        return self._usual

    def seconds(self, shape: str) -> float | None:
        """Estimate for ``str(shape)``, or '' for an unknown shape; ``None`` before the first job.

        Raises:
            ValueError: the text is not a shape.
        """
        if shape in self._well_known:
            return self._by_shape[shape]
        if not shape or self._s_per_work is None:
            return self._usual
        return self._overhead_s + self._s_per_work * Shape.parse(shape).work


class Pace:
    """Stores how long the newest jobs of one model took.

    Errors of the client, such as ``redis.exceptions.ConnectionError``, pass through unchanged.
    """

    def __init__(self, client: Redis, model: str) -> None:
        self._client = client
        self.key = keys.pace(model)

    def learn(self, shape: str, seconds: float) -> None:
        """Store a succeeded job: its shape, '' if unknown, and its running time."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.lpush(self.key, f"{shape} {seconds:.3f}")
            pipeline.ltrim(self.key, 0, REMEMBERED_JOBS - 1)
            pipeline.expire(self.key, PACE_TTL_S)
            pipeline.execute()

    def estimates(self) -> Estimates:
        """Read the estimates, in one round trip."""
        return read_estimates(self._client.lrange(self.key, 0, -1))


def read_estimates(entries: Iterable[bytes | str]) -> Estimates:
    """Make estimates of the entries of the list."""
    return Estimates(sample for entry in entries for sample in _sample(as_text(entry)))


def _sample(entry: str) -> Iterator[tuple[str, float]]:
    """A job's shape and seconds; nothing if the entry cannot be read."""
    shape, _, seconds = entry.rpartition(" ")
    try:
        known = str(Shape.parse(shape)) if shape else ""
        sample = known, float(seconds)
    except (ValueError, OverflowError):
        return
    if 0 <= sample[1] < math.inf:
        yield sample


def _line(points: list[tuple[float, float]]) -> tuple[float, float | None]:
    """Fit seconds as a line over work, by the Theil-Sen estimator, which is robust to outliers.

    Returns:
        Seconds at zero work, and seconds per unit of work; ``None`` for the latter without points.
    """
    if not points:
        return 0.0, None
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0]]
    slope = median(slopes) if slopes else 0.0
    if slope <= 0:
        return 0.0, median(seconds / work for work, seconds in points)
    overhead_s = median(seconds - slope * work for work, seconds in points)
    return max(0.0, overhead_s), slope
