"""The scorer of a model: small, on the CPU, and apart from the models that make pictures and from the benchmark's
judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor

from ms_core.config import SCORER_FILE, ScorerConfig
from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_core.scoring.network import ScorerNetwork
from ms_core.scoring.views import Question, question_views, questions_of, reference_view, to_planes, unevenness
from ms_core.spec import GenerationSpec, Subject, SubjectScore
from ms_core.spec.score import UNKNOWN_SCORE

# A subject's pictures as the image encoder sees them, RGB.
See = Callable[[Subject], tuple[Image.Image, ...]]


class Scorer:
    """Tells how well pictures turned out."""

    def __init__(self, network: ScorerNetwork, config: ScorerConfig) -> None:
        """Take a network of these sizes, on the CPU."""
        self.network = network.eval()
        self.config = config

    @classmethod
    def load(cls, directory: Path, config: ScorerConfig) -> Scorer:
        """Read the scorer of a model directory.

        Raises:
            ModelNotFoundError: it has none.
            CheckpointError: its weights have other sizes, or are damaged.
        """
        path = directory / SCORER_FILE
        if not path.is_file():
            raise ModelNotFoundError(f"{directory.name} lacks {SCORER_FILE}, which its card names.")
        network = ScorerNetwork(config)
        try:
            network.load_state_dict(load_file(path))
        except (RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{SCORER_FILE} does not fit the model's card: {error}") from error
        return cls(network, config)

    def save(self, directory: Path) -> None:
        """Write the weights, in float16, into a model directory; the numbers belong into its card."""
        weights = {name: value.to(torch.float16).contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, directory / SCORER_FILE)

    def knows(self, reference: Image.Image) -> bool:
        """Whether a reference, RGB as the image encoder sees it, is like those that the scorer was calibrated with."""
        most = self.config.most_uneven
        return most is None or unevenness(reference_view(to_planes(reference), self.config.side)) <= most

    def score_spec(self, picture: Image.Image, spec: GenerationSpec, see: See) -> tuple[SubjectScore | None, ...]:
        """One score for each subject of the spec that the RGB picture was made for; ``None`` for scenes
        and for subjects without a picture.

        Args:
            see: gives nothing for a subject whose references show nothing that is known; its score is ``UNKNOWN_SCORE``.
        """
        boxes = {
            index: subject.place
            for index, subject in enumerate(spec.subjects)
            if not subject.scene and subject.place is not None
        }
        questions = questions_of([see(spec.subjects[index]) for index in boxes], list(boxes.values()))
        told = iter(self.score(picture, [question for question in questions if question.references]))
        scores = {
            index: next(told) if question.references else UNKNOWN_SCORE
            for index, question in zip(boxes, questions, strict=True)
        }
        return tuple(scores.get(index) if subject.images else None for index, subject in enumerate(spec.subjects))

    def score(self, picture: Image.Image, questions: Sequence[Question]) -> tuple[SubjectScore, ...]:
        """One score for each question about an RGB picture."""
        if not questions:
            return ()
        rows = self.estimates(self.logits(picture, questions))
        return tuple(SubjectScore(*(float(value) for value in row)) for row in rows)

    @torch.no_grad()
    def logits(self, picture: Image.Image, questions: Sequence[Question]) -> Float[Tensor, "questions 3"]:
        """What the network says of each question; of several references of a subject, the mean."""
        seen, known = question_views(to_planes(picture), questions, self.config.side)
        parts = self.network(seen, known).split_with_sizes([len(question.references) for question in questions])
        return torch.stack([part.mean(0) for part in parts])

    def estimates(self, logits: Float[Tensor, "questions 3"]) -> Float[Tensor, "questions 3"]:
        """Probabilities of present and identity, and the estimated overlap."""
        calibrations = (self.config.present, self.config.identity, self.config.box_iou)
        slopes = torch.tensor([calibration.slope for calibration in calibrations])
        return torch.sigmoid(logits * slopes + torch.tensor([calibration.offset for calibration in calibrations]))
