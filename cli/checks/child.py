"""Runs a check in a child process, so that a crash is only a finding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child process ended.

    Attributes:
        told: the JSON object of its last line on stdout; ``None`` if there is none.
        ending: how it ended if it told nothing, as the end of a sentence.
        killed_by: number of the signal that ended it.
        output: the last lines that it wrote to stderr.
    """

    told: dict[str, Any] | None
    ending: str = ""
    killed_by: int | None = None
    output: tuple[str, ...] = field(default=())


def run_child(module: str, arguments: Sequence[str], env: Mapping[str, str], timeout_s: float) -> Outcome:
    """Run ``python -m module`` to its end, for at most ``timeout_s`` seconds; ``env`` goes on top of this process's own."""
    try:
        ended = subprocess.run(  # noqa: S603 - the arguments are our own
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        output = (error.stderr or b"").decode(errors="replace")
        return Outcome(None, f"did not end within {timeout_s:.0f} s", output=_last(output))
    stderr = ended.stderr.decode(errors="replace")
    told = _read(ended.stdout.decode(errors="replace"))
    if told is not None:
        return Outcome(told, output=_last(stderr))
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        return Outcome(None, f"was ended by {name}", -ended.returncode, _last(stderr))
    words = (_last(stderr) or ("it said nothing",))[-1]
    return Outcome(None, f"ended with code {ended.returncode} ({words})", output=_last(stderr))


def _read(stdout: str) -> dict[str, Any] | None:
    lines = stdout.splitlines()
    try:
        told = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _last(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if line.strip())[-_LAST_LINES:]
