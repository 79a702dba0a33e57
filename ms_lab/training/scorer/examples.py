"""What the scorer learns from: views of pictures and references, and what is true of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

from ms_core.errors import CheckpointError

# How a model came to draw a subject: as it was asked, or spoiled on purpose, so that there are enough failures to learn from.
KINDS = USUAL, ABSENT, EXCHANGED, HALF_DRAWN = ("usual", "absent", "exchanged", "half_drawn")


@dataclass(frozen=True, slots=True)
class ScorerExamples:
    """Questions about pictures with their answers, one in each row.

    Attributes:
        pictures: as ``ms_core.scoring.views.picture_view`` makes them.
        references: as ``reference_view`` makes them.
        answers: present, identity, box_iou; 0 to 1.
        weights: of each answer; 0 where it is not known.
        numbers: of the picture that a question is about; questions of one picture have the same.
        kinds: positions in ``KINDS``; of composed scenes, always ``USUAL``.
    """

    pictures: Float[Tensor, "n 6 side side"]
    references: Float[Tensor, "n 3 side side"]
    answers: Float[Tensor, "n 3"]
    weights: Float[Tensor, "n 3"]
    numbers: Int[Tensor, " n"]
    kinds: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device) -> ScorerExamples:
        """The same examples on a device."""
        return type(self)(*(tensor.to(device) for tensor in self._tensors()))

    def rows(self, index: Tensor) -> ScorerExamples:
        """The examples of these rows, or of those where a mask is true; float32."""
        return type(self)(*(_full(tensor[index]) for tensor in self._tensors()))

    def mirrored(self) -> ScorerExamples:
        """The same examples, both views seen in a mirror."""
        return replace(self, pictures=self.pictures.flip(-1), references=self.references.flip(-1))

    def is_kind(self, kind: str) -> Bool[Tensor, " n"]:
        """Which examples are of this kind."""
        return self.kinds == KINDS.index(kind)

    @classmethod
    def joined(cls, parts: Sequence[ScorerExamples]) -> ScorerExamples:
        """All examples of several parts, in order."""
        columns = zip(*(part._tensors() for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def save(self, path: Path) -> None:
        """Write the examples, views in float16; never half a file."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("pictures", "references"):
            tensors[name] = tensors[name].half()
        part = path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> ScorerExamples:
        """Read examples; ``rows`` gives them in float32.

        Raises:
            CheckpointError: an older version wrote them, without kinds.
        """
        tensors = load_file(path)
        if "kinds" not in tensors:
            raise CheckpointError(
                f"{path.parent} holds pictures of an older version; remove the folder to draw them anew."
            )
        return cls(**tensors)

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.pictures, self.references, self.answers, self.weights, self.numbers, self.kinds


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
