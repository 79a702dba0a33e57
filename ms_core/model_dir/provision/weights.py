"""Files of weights on disk: finding them in a folder, looking into them without loading, and putting them elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.model_dir.inspection.components import DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS
from ms_core.model_dir.inspection.headers import DamageError, TensorHeader, read_header

_VARIANT = ".fp16"
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
# As a safetensors header spells what torch.load gives.
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weights of one component.

    Attributes:
        files: one, or the shards in order.
        index: of the shards, which tensor is in which; ``None`` for one file.
    """

    files: tuple[Path, ...]
    index: Path | None = None

    @property
    def pickled(self) -> bool:
        """Whether they are of ``torch.save`` instead of safetensors."""
        return self.files[0].suffix in _PICKLES

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def tensors(self) -> dict[str, TensorHeader]:
        """All tensors by name, without loading them; errors as ``read_tensor_headers``."""
        return {name: info for file in self.files for name, info in read_tensor_headers(file).items()}

    def load(self) -> dict[str, Tensor]:
        """All tensors by name, on the CPU, mapped from the files where that is possible; errors as
        ``read_tensor_headers``."""
        return {name: tensor for file in self.files for name, tensor in load_tensors(file).items()}


def find_weights(folder: Path) -> WeightFiles:
    """The weights in a component's folder: float16 before full precision, safetensors before ``torch.save``.

    Args:
        folder: in the layout of diffusers or transformers; one file, or shards with their index.

    Raises:
        ModelNotFoundError: there are none, or a shard is missing.
        CheckpointError: the index of the shards is not valid.
    """
    names = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    for stem in (DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS, "pytorch_model"):
        for suffix in (".safetensors", ".bin"):
            for variant in (_VARIANT, ""):
                if f"{stem}{variant}{suffix}" in names:
                    return WeightFiles((folder / f"{stem}{variant}{suffix}",))
                index = f"{stem}{suffix}.index{variant}.json"
                if index in names:
                    return _find_shards(folder / index)
    raise ModelNotFoundError(
        f"{folder.parent.name}/{folder.name} holds no weights, such as {DIFFUSERS_WEIGHTS}.safetensors."
    )


def read_tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """Tensors of a file by name; of a safetensors file without loading them.

    Raises:
        ModelNotFoundError: the file is missing.
        CheckpointError: it is cut off, or no file of weights; says what it is if that can be seen.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"There is no file {path}.")
    if path.suffix in _PICKLES:
        return {
            name: TensorHeader(_DTYPES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape), tensor.nbytes)
            for name, tensor in _unpickle(path).items()
        }
    try:
        return read_header(path)
    except DamageError as error:
        raise CheckpointError(f"{path} {error}; fetch it again.") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU, mapped from it where that is possible; errors as
    ``read_tensor_headers``."""
    if path.suffix in _PICKLES:
        return _unpickle(path)
    read_tensor_headers(path)
    return load_file(path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; tensors that share memory are written each for itself."""
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, {"format": "pt"})


def put_weights(weights: WeightFiles, folder: Path, stem: str) -> None:
    """Put a component's weights into ``folder`` as full-precision names: linked, or rewritten if pickled.

    Args:
        weights: of the component; checked for being whole.
        folder: exists already.
        stem: of the files' names, ``DIFFUSERS_WEIGHTS`` or ``TRANSFORMERS_WEIGHTS``.
    """
    weights.tensors()
    if weights.pickled:
        save_tensors(weights.load(), folder / f"{stem}.safetensors")
    elif weights.index is None:
        put_file(weights.files[0], folder / f"{stem}.safetensors")
    else:
        for file in weights.files:
            put_file(file, folder / file.name.replace(_VARIANT, ""))
        index: Any = json.loads(weights.index.read_text(encoding="utf-8"))
        index["weight_map"] = {name: file.replace(_VARIANT, "") for name, file in index["weight_map"].items()}
        target = folder / weights.index.name.replace(_VARIANT, "")
        target.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def put_file(source: Path, target: Path) -> None:
    """Hard-link a file of weights, or copy it where the file systems differ or know no links."""
    # A cache holds links to its files, and a link to a link would lead nowhere in another place.
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _find_shards(index: Path) -> WeightFiles:
    try:
        data: Any = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(cast("dict[str, str]", data["weight_map"]).values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of weights ({error}); fetch it again.") from error
    files = tuple(index.with_name(Path(name).name) for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelNotFoundError(f"{index.parent} lacks {', '.join(missing)}, which {index.name} names.")
    return WeightFiles(files, index)


def _unpickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``torch.save`` file; only plain weights are unpickled."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is not a torch.save archive; perhaps its download broke off. Fetch it again.")
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} holds more than plain weights, and running foreign code is refused; use a .safetensors file."
        ) from error
    while isinstance(data, Mapping) and "state_dict" in data:
        data = cast("Mapping[str, Any]", data)["state_dict"]
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path} holds no weights by name; use a .safetensors file.")
    tensors = cast("Mapping[str, Any]", data)
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
