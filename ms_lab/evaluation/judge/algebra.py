"""Matrix algebra on one thread.

The judge's matrices are small. On several threads, which wait for each other wherever another program runs, they take many
times as long, and numpy has no say in how many threads its algebra uses. Torch has.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@contextmanager
def one_thread() -> Generator[None]:
    """Within this context, torch uses one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def product(first: Float[np.ndarray, "*first"], second: Float[np.ndarray, "*second"]) -> Float[np.ndarray, "*result"]:
    """The matrix product of two arrays of one type, as ``numpy.matmul`` has it."""
    return torch.matmul(_to_tensor(first), _to_tensor(second)).numpy()


def eigenvectors(
    matrix: Float[np.ndarray, "side side"],
) -> tuple[Float[np.ndarray, " side"], Float[np.ndarray, "side side"]]:
    """Eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns."""
    # Untyped in torch.
    linalg: Any = torch.linalg
    values, vectors = linalg.eigh(_to_tensor(matrix))
    return values.numpy(), vectors.numpy()


def _to_tensor(array: Float[np.ndarray, "*shape"]) -> Tensor:
    tensor: Any = torch.as_tensor(np.ascontiguousarray(array))
    return tensor
