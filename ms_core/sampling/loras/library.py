"""LoRAs of a loaded model: found by name, loaded when first used, and acting only while a request needs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ms_core.config import LORAS
from ms_core.errors import UnfitLoraError, missing_lora, unknown_name
from ms_core.sampling.loras.files import LoraFile, LowRank, file_stamp
from ms_core.sampling.loras.names import Target, find_targets
from ms_core.spec import GenerationWarning
from ms_core.spec.resolve import ResolvedSpec

MAX_LOADED = 4

_SUFFIX = ".safetensors"

# What one request needs: files and their weights, none of which is 0.
Loras = tuple[tuple[LoraFile, float], ...]
NO_LORAS: Loras = ()


class LoraLibrary:
    """Adds LoRAs to the outputs of a model's layers, by hooks; the model's own modules and weights are never touched.

    Exactly the LoRAs of the last ``activate`` act. Without any there is no hook, so the model is its plain self.
    """

    def __init__(
        self,
        components: Any,
        directory: Path | None,
        device: torch.device,
        max_loaded: int = MAX_LOADED,
    ) -> None:
        """Look at a model's layers; no LoRA is loaded yet.

        Args:
            components: a ``StableDiffusionXLPipeline``.
            directory: of the model; its LoRAs are the files ``loras/<name>.safetensors``. ``None``: it has none.
            device: where the layers work; weights of LoRAs are there only while they act.
            max_loaded: most LoRAs kept in the host's memory beside those that act; the least recently used go first.
        """
        self._components = components
        self._folder = None if directory is None else directory / LORAS
        self._device = device
        self._max_loaded = max_loaded
        self._targets = find_targets(components)
        self._loaded: OrderedDict[LoraFile, dict[Target, LowRank]] = OrderedDict()
        self._active: Loras | None = NO_LORAS
        self._handles: list[RemovableHandle] = []

    @property
    def loaded(self) -> tuple[LoraFile, ...]:
        """What is kept in memory, the least recently used first."""
        return tuple(self._loaded)

    def find(self, resolved: ResolvedSpec) -> Loras:
        """The LoRAs of a spec and its preset, checked and not loaded; a file twice counts with the sum of its weights.

        Raises:
            UnknownNameError: there is no such LoRA.
            UnfitLoraError: a file is broken or was made for another base.
        """
        weights: dict[LoraFile, float] = {}
        for file, weight, _ in self._chosen(resolved):
            weights[file] = weights.get(file, 0.0) + weight
        return tuple((file, weight) for file, weight in weights.items() if weight)

    def find_warnings(self, resolved: ResolvedSpec) -> tuple[GenerationWarning, ...]:
        """What of a spec's LoRAs is not used; errors as ``find``."""
        warnings = (
            GenerationWarning(
                "lora_part_ignored",
                f"The LoRA {file.path.stem!r} also holds the trained word {word!r}, which is not used; to use it, save it "
                f"apart as embeddings/{word}.safetensors.",
                pointer,
            )
            for file, _, pointer in self._chosen(resolved)
            for word in file.words
        )
        return tuple(dict.fromkeys(warnings))

    def _chosen(self, resolved: ResolvedSpec) -> Iterator[tuple[LoraFile, float, str]]:
        """Each LoRA's file and weight, and where the request names it."""
        paths, num_preset = self._paths(), len(resolved.preset.loras)
        for index, lora in enumerate(resolved.loras):
            if index >= num_preset:
                pointer = f"/loras/{index - num_preset}/name"
                path = _find_path(lora.name, paths, pointer)
            elif lora.name in paths:
                pointer, path = "/preset", paths[lora.name]
            else:
                raise missing_lora(resolved.spec.preset or "", lora.name, resolved.preset.extra)
            yield self._read(path, pointer), lora.weight, pointer

    def activate(self, loras: Loras) -> None:
        """Let exactly these LoRAs act from now on; quick if they do already.

        Raises:
            UnfitLoraError: a file is gone or was changed since it was found; the LoRAs before go on acting.
        """
        if loras == self._active:
            return
        layers: dict[Target, list[tuple[LowRank, float]]] = {}
        for file, weight in loras:
            for target, low_rank in self._load(file).items():
                layers.setdefault(target, []).append((low_rank.to(self._device), weight))
        modules = [getattr(self._components, target.component).get_submodule(target.path) for target in layers]
        # A job's time limit may strike between any two lines: until the end this state equals no request's.
        self._active = None
        while self._handles:
            self._handles[-1].remove()
            self._handles.pop()
        for module, parts in zip(modules, layers.values(), strict=True):
            self._handles.append(module.register_forward_hook(_addition(parts)))
        self._active = loras
        self._forget({file for file, _ in loras})

    def deactivate(self) -> None:
        """Let no LoRA act."""
        self.activate(NO_LORAS)

    @contextmanager
    def cleared(self) -> Generator[None]:
        """Let no LoRA act after a ``with`` block, however it ends."""
        try:
            yield
        finally:
            self.deactivate()

    def unload(self) -> None:
        """Let no LoRA act, and keep none in memory."""
        self.deactivate()
        self._loaded.clear()

    def _forget(self, needed: set[LoraFile]) -> None:
        """Drop the least recently used LoRAs, but none of those that are needed."""
        for file in [file for file in self._loaded if file not in needed]:
            if len(self._loaded) <= self._max_loaded:
                return
            del self._loaded[file]

    def _load(self, file: LoraFile) -> dict[Target, LowRank]:
        if file not in self._loaded:
            self._loaded[file] = file.load()
        self._loaded.move_to_end(file)
        return self._loaded[file]

    def _paths(self) -> dict[str, Path]:
        """Files of the model's folder by name."""
        return {} if self._folder is None else {path.stem: path for path in self._folder.glob(f"*{_SUFFIX}")}

    def _read(self, path: Path, pointer: str) -> LoraFile:
        """The file as it is now; one that is loaded is not read again."""
        try:
            stamp = file_stamp(path)
            known = (file for file in self._loaded if file.path == path and file.stamp == stamp)
            return next(known, None) or LoraFile.read(path, self._targets)
        except OSError as error:
            raise UnfitLoraError(
                f"The file of the LoRA {path.stem!r} cannot be read ({error.strerror}).", pointer
            ) from error
        except UnfitLoraError as error:
            raise error.below(pointer) from error


def _find_path(name: str, paths: Mapping[str, Path], pointer: str) -> Path:
    """A file of the model's folder, or one elsewhere by its path."""
    if name in paths:
        return paths[name]
    if name.endswith(_SUFFIX) and Path(name).is_file():
        return Path(name)
    raise unknown_name("LoRA", name, paths, pointer)


def _addition(parts: Sequence[tuple[LowRank, float]]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that adds LoRAs of one layer, each with its weight, to its output."""

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        for low_rank, weight in parts:
            output = output + weight * low_rank(module, inputs[0])
        return output

    return add
