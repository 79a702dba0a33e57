"""How far the stages are, as a table that is drawn again and again."""

from __future__ import annotations

import time

from rich.table import Table

from ms_lab.data.engine.tally import ALL_STAGES, READ, WRITE, StageCount

LINE_S = 30.0


class StageTable:
    """Counts of all stages with their rates, for ``rich.live.Live``."""

    def __init__(self) -> None:
        self.begun = self._last_line = time.monotonic()

    def line(self, counts: dict[str, StageCount]) -> str | None:
        """Once in ``LINE_S`` seconds how far it is, for a log; else nothing."""
        if time.monotonic() - self._last_line < LINE_S:
            return None
        self._last_line = time.monotonic()
        read, written = (counts.get(name, StageCount()).clips for name in (READ, WRITE))
        return f"{self._last_line - self.begun:.0f} s: {read} clips read, {written} written."

    def draw(self, counts: dict[str, StageCount]) -> Table:
        """The table of these counts."""
        elapsed = max(time.monotonic() - self.begun, 1e-6)
        table = Table("stage", "clips", "clips/s", "ms/clip", "failed", "so far", box=None, header_style="bold")
        for name in ALL_STAGES:
            count = counts.get(name, StageCount())
            own = 1000 * count.seconds / count.clips if count.clips else 0.0
            facts = ", ".join(f"{number} {fact}" for fact, number in count.facts.items())
            rate = f"{count.clips / elapsed:.1f}"
            table.add_row(name, str(count.clips), rate, f"{own:.0f}", str(count.failed or ""), facts)
        return table
