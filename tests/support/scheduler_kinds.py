"""Schedulers for tests that take long with each: one of every kind in ``make test``, all in ``make faults``."""

from __future__ import annotations

import pytest

from ms_core.spec import SCHEDULERS

# Without memory, with noise of its own, with two calls a step, with a memory of several steps.
_KINDS = {"euler", "euler_ancestral", "heun", "unipc"}

KINDS_FIRST = [pytest.param(name, marks=[] if name in _KINDS else [pytest.mark.faults]) for name in SCHEDULERS]
