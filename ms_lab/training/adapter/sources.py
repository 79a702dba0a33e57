"""The samples of a set: prepared from their pictures, or as ``msd data cache`` has encoded them."""

from __future__ import annotations

from dataclasses import dataclass

from safetensors.torch import load

from ms_core.conditions.references import ReferencePreprocessor
from ms_core.errors import CheckpointError, InvalidInputError
from ms_lab.data.records import TrainingSample
from ms_lab.data.writing.reading import sample_of
from ms_lab.data.writing.sample_index import ENCODED, SampleIndex
from ms_lab.training.adapter.encoding import EncodedSample
from ms_lab.training.adapter.samples import PreparedSample, Size, prepare


@dataclass(frozen=True, slots=True)
class PictureSamples:
    """Samples prepared from their pictures.

    Attributes:
        index: where they stand.
        size: of the targets.
        preprocessor: of the references.
    """

    index: SampleIndex
    size: Size
    preprocessor: ReferencePreprocessor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> PreparedSample:
        return prepare(self.record(number), self.size, self.preprocessor)

    def record(self, number: int) -> TrainingSample:
        """A sample with its pictures as they are.

        Raises:
            InvalidInputError: a picture cannot be read; says which.
        """
        stored = self.index.read(number)
        try:
            return sample_of(stored.record, stored.files, self.preprocessor.reference.background)
        except (ValueError, KeyError) as error:
            raise InvalidInputError(
                f"{self.index.where(number)} has a picture that cannot be read: {error}."
            ) from error


@dataclass(frozen=True, slots=True)
class EncodedSamples:
    """Samples that were encoded before."""

    index: SampleIndex

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> EncodedSample:
        stored = self.index.read(number)
        try:
            return EncodedSample.from_tensors(load(stored.files[ENCODED]))
        except Exception as error:
            raise CheckpointError(
                f"{self.index.where(number)} is damaged ({error}); run msd data cache again, into another folder."
            ) from error
