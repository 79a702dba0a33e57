"""For footage whose notes have all the captions that there are to be: a captioner without a model."""

from __future__ import annotations

from collections.abc import Sequence

from ms_lab.data.items import Frame


class NoCaptions:
    """Says nothing; a clip without a caption gives no sample."""

    def caption(self, frames: Sequence[Frame]) -> list[str]:
        """An empty sentence for each frame."""
        return [""] * len(frames)
