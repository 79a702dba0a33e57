"""Two memories on a machine without a GPU: what is parked in the one cannot be used in the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ms_core.device.residency import HOST

# The CPU, but not equal to ``HOST``.
DEVICE = torch.device("cpu", 0)


class TwoMemories:
    """Stands in for ``ms_core.device.residency.move_tensors``: parked weights are all NaN until they come back.

    So whatever computes with a parked module makes NaN, and a picture that equals another was made without any.

    Attributes:
        present: modules that are on the device.
        peak: most bytes of weights that were there at once.
        room: bytes there are; ``None`` for plenty.
        used: bytes of weights that are there.
    """

    def __init__(self) -> None:
        self.present: set[nn.Module] = set()
        self.peak = 0
        self.room: int | None = None
        self.used = 0
        self._parked: dict[Tensor, Tensor] = {}

    def __call__(self, module: nn.Module, place: torch.device) -> None:
        """Move a module's own tensors."""
        is_present = module in self.present
        if place == HOST:
            self.present.discard(module)
            self.used -= size(module) * is_present
            for tensor in own_weights(module):
                if tensor not in self._parked:
                    self._parked[tensor] = tensor.detach().clone()
                    tensor.data.fill_(torch.nan)
            return
        if is_present:
            return
        if self.room is not None and self.used + size(module) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for tensor in own_weights(module):
            if tensor in self._parked:
                tensor.data.copy_(self._parked.pop(tensor))
        self.present.add(module)
        self.used += size(module)
        self.peak = max(self.peak, self.used)


def own_weights(module: nn.Module) -> Iterator[Tensor]:
    return module.parameters(recurse=False)


def size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in own_weights(module))
