"""A second device for machines that have none: its tensors lie in the host's memory but claim to be elsewhere.

``SecondDevice.install()`` registers it as PyTorch's "privateuseone" backend under the name ``second``. Every operation on its
tensors runs on the CPU; one that mixes them with tensors of the CPU is an error, as it is on a GPU. So code that
forgets to move a tensor fails here without a GPU. It stays installed for the life of the process: use a process of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree, backend_registration

NAME = "second"
# Copies between devices, and indexing, which takes indices of the CPU on a GPU too.
MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_"}
FACTORIES = (torch.tensor, torch.as_tensor, torch.arange, torch.linspace)


class SecondTensor(Tensor):
    """A tensor of the second device; ``inner`` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> SecondTensor:
        outer = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        outer.inner = inner
        return outer

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class SecondDevice(TorchFunctionMode):
    """A ``with`` block in which the device can be used."""

    @classmethod
    def install(cls) -> SecondDevice:
        """Register the device with this process's PyTorch."""
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        cls._library = torch.library.Library("_", "IMPL")
        cls._library.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
        return cls()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Serve what PyTorch's fallback for such backends cannot: some factories, and ``tensor.data = other``."""
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function in FACTORIES and device is not None and torch.device(device).type == NAME:
            return function(*args, **{**kwargs, "device": "cpu"}).to(device)
        if function is Tensor.new_tensor and args[0].device.type == NAME:
            return torch.tensor(*args[1:], dtype=args[0].dtype).to(args[0].device)
        if function is Tensor.__getitem__ and isinstance(args[1], list):
            return args[0][torch.tensor(args[1])]
        if _sets_data(function) and args[0].device != args[1].device:
            return _set_data(*args)
        return function(*args, **kwargs)


def _sets_data(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    return getattr(function, "__name__", "") == "__set__" and getattr(owner, "__name__", "") == "data"


def _set_data(old: Tensor, new: Tensor) -> None:
    fresh = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    torch.utils.swap_tensors(old, fresh)


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    """Run one operation on the values, and say that the result lies on the second device where it would."""
    flat, spec = _pytree.tree_flatten((args, kwargs))
    mine = [value for value in flat if isinstance(value, SecondTensor)]
    name = operation._schema.name
    if mine and name not in MAY_MIX:
        for value in flat:
            if isinstance(value, Tensor) and not isinstance(value, SecondTensor) and value.dim() > 0:
                raise RuntimeError(f"Expected all tensors to be on the same device: {name}")
    args, kwargs = _pytree.tree_unflatten([_inner(value) for value in flat], spec)
    is_mine = bool(mine)
    if kwargs.get("device") is not None:
        is_mine = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = torch.device("cpu")
    result = operation(*args, **kwargs)
    known = {id(value.inner): value for value in mine}
    return _pytree.tree_map(lambda value: _outer(value, known), result) if is_mine else result


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, SecondTensor) else value


def _outer(value: Any, known: dict[int, SecondTensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    # What was changed in place stays the same object.
    return known[id(value)] if id(value) in known else SecondTensor(value)
