"""Shapes in annotations are checked while the tests run: a wrong one fails in each wing, and no module is left out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from ms_core.conditions.grabcut import _silhouette
from ms_core.method.boxes import boxes_to_masks
from ms_core.mini.vae import MiniVAE
from ms_core.model_dir.vae import encode_pixels
from ms_core.sampling.latents import decode_latents
from ms_core.scoring.views import reference_view

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("wing", "call"),
    [
        ("ms_core.conditions", lambda: _silhouette(np.zeros((4, 4, 1), bool))),
        ("ms_core.method", lambda: boxes_to_masks(torch.zeros(2, 3), 8, 8)),
        ("ms_core.mini", lambda: MiniVAE.encode(MiniVAE.__new__(MiniVAE), torch.zeros(3, 8, 8))),
        ("ms_core.model_dir", lambda: encode_pixels(None, torch.zeros(3, 8, 8))),
        ("ms_core.sampling", lambda: decode_latents(None, torch.zeros(4, 8, 8))),
        ("ms_core.scoring", lambda: reference_view(torch.zeros(1, 3, 8, 8), 8)),
    ],
)
def test_a_wrong_shape_fails(wing: str, call: Callable[[], object]) -> None:
    with pytest.raises(TypeCheckError, match=wing):
        call()


def test_every_module_of_the_model_that_states_shapes_is_checked(pytestconfig: pytest.Config) -> None:
    *packages, _ = pytestconfig.getoption("--jaxtyping-packages").split(",")
    unchecked = {name for name in modules_with_shapes() if not any(f"{name}.".startswith(f"{p}.") for p in packages)}
    assert unchecked == set()


def modules_with_shapes() -> Iterator[str]:
    """Modules of the model that import from jaxtyping."""
    for path in (ROOT / "ms_core").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if any(isinstance(node, ast.ImportFrom) and node.module == "jaxtyping" for node in nodes):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)
