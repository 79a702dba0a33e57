"""A small batch of scenes of random pixels."""

from __future__ import annotations

import torch

from ms_lab.mini.batches import SceneBatch


def random_batch() -> SceneBatch:
    """Three rows with two, one and two subjects; latents of 4 x 4 cells."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]]).repeat(3, 1, 1)
    return SceneBatch(
        images=torch.randint(256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8),
        references=torch.randint(256, (3, 2, 3, 64, 64), generator=generator, dtype=torch.uint8),
        boxes=boxes,
        places=boxes.clone(),
        present=torch.tensor([[True, True], [True, False], [True, True]]),
        captions=("a cat and a pot", "a pot", "a pot and a cat"),
        phrases=(("cat", "pot"), ("pot",), ("pot", "cat")),
    )
