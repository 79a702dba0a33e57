"""A bar on standard error that shows how far a call of the pipeline is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm

from ms_core.sampling.events import Event, Progress


def with_bar(events: Iterable[Event]) -> Iterator[Event]:
    """The same events; the bar goes with their denoising steps, and begins again with each further draw."""
    bar: Any = tqdm(unit="step")
    with bar:
        for event in events:
            if isinstance(event, Progress):
                bar.set_description(event.phase, refresh=False)
                bar.total, bar.n = event.num_inference_steps, event.step
                bar.refresh()
            yield event
