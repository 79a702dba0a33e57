"""From requests to verdicts: pictures are made, kept and judged."""
