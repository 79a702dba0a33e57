"""Making the pictures: several are asked for at once, and what is there is not made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.msbench.folder import BenchmarkFolder
from ms_lab.evaluation.msbench.samples import Sample

# Of one sitting: where so many jobs end without a picture, the next ones will as well.
MOST_FAILURES = 20

# The picture of a sample, encoded; the number tells how many jobs for it ended without one. It gives up when the event is set.
Paint = Callable[[Sample, int, Event], bytes]


class NoPictureError(Exception):
    """A job ended without its picture."""


def make_pictures(
    samples: Sequence[Sample], folder: BenchmarkFolder, paint: Paint, in_flight: int, advance: Callable[[int], None]
) -> None:
    """Make every picture that is missing.

    Args:
        samples: whose pictures are missing.
        folder: keeps them.
        paint: makes one; called from several threads.
        in_flight: how many are asked for at once.
        advance: called with the number of pictures that have just been made.

    Raises:
        InvalidInputError: some jobs ended without a picture; all others are kept.
        Exception: whatever else ``paint`` raises; pictures in flight are given up.
    """
    failures: list[str] = []
    stop = Event()

    def make(sample: Sample) -> None:
        try:
            content = paint(sample, folder.attempts(sample), stop)
        except NoPictureError as error:
            folder.add_attempt(sample)
            failures.append(f"{sample.name}: {error}")
            if len(failures) >= MOST_FAILURES:
                raise InvalidInputError(_failed(failures)) from error
            return
        folder.save_picture(sample, content)
        advance(1)

    with ThreadPoolExecutor(in_flight) as executor:
        try:
            _run(executor, make, samples, in_flight)
        finally:
            stop.set()
    if failures:
        raise InvalidInputError(_failed(failures))


def _run(executor: ThreadPoolExecutor, make: Callable[[Sample], None], samples: Sequence[Sample], most: int) -> None:
    """Make them in order, at most so many at once; raises the first error, and then begins no more."""
    running: set[Future[None]] = set()
    for sample in samples:
        if len(running) >= most:
            running = _settle(running)
        running.add(executor.submit(make, sample))
    while running:
        running = _settle(running)


def _settle(running: set[Future[None]]) -> set[Future[None]]:
    """Wait for one of them; those that go on."""
    done, left = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left


def _failed(failures: Sequence[str]) -> str:
    others = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
    return (
        f"No picture was made of {failures[0].removesuffix('.')}{others}. Run the same command again to try once more."
    )
