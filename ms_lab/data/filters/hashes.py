"""Near-duplicates over the whole set, by a perceptual hash and an index of its parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import cv2
import numpy as np

from ms_lab.data.items import Pixels

_SIDE, _KEPT = 32, 8
_BITS = 64


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits: which of the lowest 8 x 8 frequencies of the grey picture lie above their median."""
    grey = cv2.cvtColor(cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(grey.astype(np.float64))[:_KEPT, :_KEPT].ravel()
    # The mean brightness is no form.
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits.tolist()), 2)


def duplicates(hashes: Iterable[tuple[str, int]], max_distance: int) -> dict[str, str]:
    """Which items are near-duplicates of which kept one: of those alike, the lowest id stays.

    Hashes that differ in at most ``max_distance`` bits agree in one of ``max_distance + 1`` parts, so only those are compared.

    Args:
        hashes: ids and their hashes, in any order.
        max_distance: in bits; -1 keeps everything.
    """
    found: dict[str, str] = {}
    if max_distance < 0:
        return found
    parts = _parts(max_distance + 1)
    kept: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for item, value in sorted(hashes):
        keys = [(index, (value >> low) & ((1 << count) - 1)) for index, (low, count) in enumerate(parts)]
        near = (other for key in keys for other, its in kept[key] if (value ^ its).bit_count() <= max_distance)
        original = min(near, default=None)
        if original is not None:
            found[item] = original
            continue
        for key in keys:
            kept[key].append((item, value))
    return found


def _parts(count: int) -> list[tuple[int, int]]:
    """First bit and number of bits of nearly equal parts of a hash."""
    bounds = [round(_BITS * part / count) for part in range(count + 1)]
    return [(low, high - low) for low, high in zip(bounds, bounds[1:], strict=False)]
