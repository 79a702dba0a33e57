"""Counting memory without any: tensors without values, and a tally of those that are alive at once."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Within its ``with`` block, counts the bytes of all tensors that operations make, until they are freed.

    Attributes:
        peak: most bytes alive at once.
    """

    def __init__(self, *modules: nn.Module) -> None:
        """``modules`` are those whose weights are not counted."""
        super().__init__()
        self.peak = 0
        self._alive = 0
        self._seen: weakref.WeakKeyDictionary[torch.UntypedStorage, None] = weakref.WeakKeyDictionary()
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self._seen[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = None
        self._alive += storage.nbytes()
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self._alive -= size


def fused(query: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """What a fused kernel of attention keeps: its output, no scores."""
    return torch.empty_like(query)
