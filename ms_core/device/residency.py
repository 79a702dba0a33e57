"""Where the parts of a model are: on the device, or parked in the host's memory until they are needed.

accelerate's offload hooks move whole modules when their ``forward`` is called. Here a part of the UNet must stay away while
the rest runs, and the VAE and the resampler are reached by other ways, so each phase says what it needs::

    with residency.use("text_encoders"):
        ...                                  # on the device; parked afterwards, if the mode says so
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast
from weakref import WeakSet

import torch
from torch import nn

from ms_core.device.devices import release_cached_memory
from ms_core.device.modes import MODES, MemoryMode, Part, resident_parts

# Gives the modules of a part whose own tensors are moved; asked each time, because peft puts modules into others.
PartModules = Callable[[], Iterable[nn.Module]]

HOST = torch.device("cpu")


class Residency:
    """Moves the parts of one model between device and host.

    Attributes:
        device: where they work.
    """

    def __init__(self, parts: Mapping[Part, PartModules], device: torch.device, mode: MemoryMode) -> None:
        """Put every part where it is between phases.

        Raises:
            torch.OutOfMemoryError: the parts that stay on the device do not fit.
        """
        self.device = device
        self._base_mode: MemoryMode = mode
        self._switches: list[list[MemoryMode]] = []
        self._parts = dict(parts)
        # Parts that are wholly on the device: going over all modules of SDXL takes some 25 ms.
        self._here = set[Part | nn.Module]()
        self._users = Counter[Part | nn.Module]()
        self._controlnets = WeakSet[nn.Module]()
        self._park(self._parts)
        for part in self._parts:
            if self._stays(part):
                self._put(part, self.device)

    @property
    def mode(self) -> MemoryMode:
        """The mode in force: the smallest of those that were switched to, else the one it began with."""
        modes: list[MemoryMode] = [self._base_mode, *(switch[0] for switch in self._switches)]
        return modes[0] if len(modes) == 1 else max(modes[1:], key=lambda mode: MODES.index(mode))

    @contextmanager
    def use(self, *parts: Part | nn.Module) -> Generator[None]:
        """Have parts on the device for the length of a ``with`` block.

        Blocks may overlap, as those of requests in turn do: a part is parked when the last block that uses it ends.

        Args:
            parts: by name, or a ControlNet itself.

        Raises:
            torch.OutOfMemoryError: they do not fit.
        """
        self._controlnets.update(part for part in parts if isinstance(part, nn.Module))
        self._users.update(parts)
        try:
            for part in parts:
                self._put(part, self.device)
            yield
        finally:
            # Adding nothing drops the parts that no one uses any more.
            self._users = self._users - Counter(parts)
            self._park(parts)

    @contextmanager
    def switched(self, mode: MemoryMode) -> Generator[None]:
        """Work in another mode for the length of a ``with`` block.

        Parts that are parked for it come back when they are next used: if there is no room for them then, it is that
        request's trouble, not this one's.
        """
        # Requests in turn may end in another order than they began: each takes back its own switch only.
        switch: list[MemoryMode] = [mode]
        self._switches.append(switch)
        try:
            self._park([*self._parts, *self._controlnets])
            yield
        finally:
            self._switches = [other for other in self._switches if other is not switch]

    def _stays(self, part: Part | nn.Module) -> bool:
        return ("controlnets" if isinstance(part, nn.Module) else part) in resident_parts(self.mode)

    def _park(self, parts: Iterable[Part | nn.Module]) -> None:
        """Park those of ``parts`` that no one uses and that do not stay."""
        leaving: list[Part | nn.Module] = [part for part in parts if not self._users[part] and not self._stays(part)]
        for part in leaving:
            self._put(part, HOST)
        if leaving:
            release_cached_memory(self.device)

    def _put(self, part: Part | nn.Module, device: torch.device) -> None:
        if device == self.device and part in self._here:
            return
        self._here.discard(part)
        for module in modules_below(part) if isinstance(part, nn.Module) else self._parts[part]():
            move_tensors(module, device)
        if device == self.device and not isinstance(part, nn.Module):
            self._here.add(part)


def move_tensors(module: nn.Module, device: torch.device) -> None:
    """Move a module's own parameters and buffers to ``device``, not those of its children."""
    for parameter in module.parameters(recurse=False):
        # As ``nn.Module.to`` does it: who holds the parameter goes on holding it.
        parameter.data = parameter.data.to(device)
    for name, buffer in list(module.named_buffers(recurse=False)):
        setattr(module, name, buffer.to(device))


def modules_below(*roots: nn.Module, without: Iterable[nn.Module] = ()) -> Iterator[nn.Module]:
    """All modules of some trees except the trees of ``without``, each once."""
    seen = set(without)
    for root in roots:
        modules = cast("Iterator[tuple[str, nn.Module]]", root.named_modules(memo=seen))
        yield from (module for _, module in modules)
