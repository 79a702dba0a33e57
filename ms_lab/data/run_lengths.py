"""Masks as run lengths over their rows, as samples store them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> tuple[int, ...]:
    """Run lengths of a boolean array over its rows, the first run False."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = ([0] if flat[0] else []) + edges.tolist()
    return tuple(np.diff([0, *starts, flat.size]).tolist())


def from_run_lengths(runs: Sequence[int], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The boolean array of these run lengths."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
