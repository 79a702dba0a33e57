"""The last stage of ``msd train mini``: the scorer of a model that is ready, learnt from what the model draws."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
    save_file,  # pyright: ignore[reportUnknownVariableType] - the same
)
from torch import Tensor
from torch.utils.data import IterableDataset

from ms_core.config import WEIGHTS_FILE, ModelCard, ScorerConfig
from ms_core.errors import CheckpointError, InvalidInputError, ModelNotFoundError
from ms_core.model_dir.inventory import renew_inventory
from ms_core.model_dir.loading import load_vae
from ms_core.scoring import Scorer, ScorerNetwork
from ms_core.scoring.views import unevenness
from ms_lab.mini.batches import Share
from ms_lab.mini.random_scenes import USUAL, SceneOdds
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.checkpoints import AVERAGE, WEIGHTS
from ms_lab.training.loop import DONE, LOG, StageConfig, Trainer, seed_everything
from ms_lab.training.scorer.calibration import (
    calibrate,
    calibration_weights,
    expected_calibration_error,
    identity_auc,
    ranking,
)
from ms_lab.training.scorer.examples import ScorerExamples
from ms_lab.training.scorer.spoiled_scenes import SpoiledScenes
from ms_lab.training.scorer.stage import MixedExamples, ScorerStage, VaeWear, all_logits
from ms_lab.training.team import ALONE, Team, run_team

# Of all things, those whose drawings the network never sees: on them its logits are calibrated.
CALIBRATION_SHARE = 0.15
SPLIT_SEED, LEARNING_SEED, CALIBRATION_SEED = 5, 51, 52
# Of the calibration's references, the share that the scorer counts as known: most photographs are beyond it.
KNOWN_SHARE = 0.95
LEARNING, CALIBRATION = "learning", "calibration"
# One drawing is asked about among nine others: fewer things than this have not enough look-alikes.
LEAST_APART = 10
LEAST_THINGS = 2 * LEAST_APART
FOLDER, MODEL_DIGEST, TRAINING_LOG = "scorer", "model.sha256", "training_log.jsonl"


@dataclass(frozen=True, slots=True)
class ScorerRecipe:
    """Everything that decides how a scorer is trained, beside model and artwork.

    Attributes:
        stage: how long and how fast; counts pictures of spoiled scenes.
        learning, calibration: pictures that the model draws for each; three of eight are spoiled.
        own_rows: questions about its own pictures in each batch.
        sizes: of the network.
        odds: of the spoiled scenes.
    """

    stage: StageConfig
    learning: int
    calibration: int
    own_rows: int = 32
    sizes: ScorerConfig = field(default_factory=ScorerConfig)
    odds: SceneOdds = field(default_factory=lambda: SceneOdds(kinds=USUAL, treatment=0.15))


FULL = ScorerRecipe(StageConfig(pictures=7_200, batch_size=24, learning_rate=1e-3, decay=0.5, seed=5), 192, 192)
# For a scorer that goes on from another one's weights.
AGAIN = ScorerRecipe(StageConfig(pictures=2_400, batch_size=24, learning_rate=5e-4, decay=0.8, seed=6), 144, 192)
SMOKE = ScorerRecipe(
    StageConfig(pictures=8, batch_size=4, warmup=2), 1, 1, own_rows=2, sizes=ScorerConfig(16, (8, 8, 16), 2)
)


class JudgeOwnPictures(Protocol):
    """Has a model draw artwork that it was trained on, and says what is true of each picture."""

    def __call__(  # noqa: PLR0913 - what pictures and views are made of
        self, directory: Path, pack: SpritePack, count: int, seed: int, side: int, folder: Path, team: Team
    ) -> Iterator[Path]:
        """Make ``count`` pictures; gives files of examples as they become ready, those in ``folder`` at once.

        It is handed on to other processes, so it is a function of a module.

        Args:
            directory: of the model.
            pack: of the artwork.
            count: of pictures.
            seed: of scenes and pictures.
            side: of the scorer's views, in pixels.
            folder: for the files.
            team: the processes that make them together; each gives its own.
        """
        ...


class ScorerTraining:
    """Trains one scorer in one folder, and puts it into the directory of its model."""

    def __init__(  # noqa: PLR0913 - what a scorer is made of
        self,
        folder: Path,
        directory: Path,
        pack: SpritePack,
        judge: JudgeOwnPictures,
        recipe: ScorerRecipe = FULL,
        team: Team = ALONE,
    ) -> None:
        """Prepare the training, or take up the one that stands in ``folder``.

        Args:
            folder: of the stage.
            directory: of the model, complete except for its scorer.
            pack: artwork that the model was trained on.
            judge: says what is true of the model's pictures.
            recipe: lengths and rates.
            team: the processes that draw and train together.

        Raises:
            InvalidInputError: the pack shows too few things.
            CheckpointError: the folder is of another model's scorer.
        """
        _require_same_model(folder, directory)
        self.folder, self.directory, self.recipe, self.team = folder, directory, recipe, team
        self._judge = judge
        self._packs: dict[str, SpritePack] = dict(zip((LEARNING, CALIBRATION), split_pack(pack), strict=True))
        seed_everything(recipe.stage.seed)
        self.network = ScorerNetwork(recipe.sizes)

    def run(self, minutes: float | None = None) -> bool:
        """Have the model draw, then train, for ``minutes`` at most; returns whether all of it is done."""
        if (self.folder / DONE).is_file():
            return True
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        if not self._draw(deadline):
            return False
        left = None if deadline is None else (deadline - time.monotonic()) / 60
        stage = ScorerStage(self.network, self._own(CALIBRATION))
        return Trainer(stage, self.recipe.stage, self.folder, team=self.team).run(self._stream_of, left)

    def save(self) -> ModelCard:
        """Calibrate the trained scorer and put it into the model's directory; returns the model's new card."""
        self.network.load_state_dict(load_file(self.folder / AVERAGE))
        self.network.eval()
        held_out = self._own(CALIBRATION)
        logits = all_logits(self.network, held_out)
        present, identity, box_iou = (
            calibrate(column, answers, calibration_weights(held_out))
            for column, answers in zip(logits.T, held_out.answers.T, strict=True)
        )
        most_uneven = find_most_uneven(held_out.references.float())
        config = replace(
            self.recipe.sizes, present=present, identity=identity, box_iou=box_iou, most_uneven=most_uneven
        )
        scorer = Scorer(self.network, config)
        scorer.save(self.directory)
        card = ModelCard.load(self.directory)
        facts = card.training | {"scorer": self._facts(scorer, logits, held_out)}
        replace(card, scorer=config, training=facts).save(self.directory)
        self._keep_log()
        renew_inventory(self.directory)
        return ModelCard.load(self.directory)

    def _draw(self, deadline: float | None) -> bool:
        """Have the model draw and the judge look; returns whether all pictures are there."""
        counts = {
            LEARNING: (self.recipe.learning, LEARNING_SEED),
            CALIBRATION: (self.recipe.calibration, CALIBRATION_SEED),
        }
        side, late = self.recipe.sizes.side, False
        for part, (count, seed) in counts.items():
            pack, folder = self._packs[part], self.folder / part
            for _ in self._judge(self.directory, pack, count, seed, side, folder, self.team):
                late = deadline is not None and time.monotonic() > deadline
                if late:
                    break
        # Whoever is late stops all: the steps of the training are taken together.
        late_share = torch.tensor([float(late)])
        self.team.average(late_share)
        return not bool(late_share > 0)

    def _own(self, part: str) -> ScorerExamples:
        paths = sorted((self.folder / part).glob("*.safetensors"))
        return ScorerExamples.joined([ScorerExamples.load(path) for path in paths])

    def _stream_of(self, share: Share) -> IterableDataset[ScorerExamples]:
        recipe = self.recipe
        vae = load_vae(self.directory).float()
        spoiled = SpoiledScenes(self._packs[LEARNING], recipe.odds, share, recipe.sizes.side, VaeWear(vae))
        return MixedExamples(spoiled, self._own(LEARNING), share, math.ceil(recipe.own_rows / self.team.size))

    def _keep_log(self) -> None:
        """Put the stage's log behind that of the model's other stages, in place of an earlier scorer's."""
        path = self.directory / TRAINING_LOG
        rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        others = [row for row in rows if json.loads(row)["stage"] != ScorerStage.name]
        own = (self.folder / LOG).read_text(encoding="utf-8").splitlines()
        path.write_text("".join(f"{row}\n" for row in (*others, *own)), encoding="utf-8")

    def _facts(self, scorer: Scorer, logits: torch.Tensor, held_out: ScorerExamples) -> dict[str, Any]:
        """The card's facts about the training, measured on the calibration's artwork, which the network never saw."""
        estimates = scorer.estimates(logits)
        answers, weights = held_out.answers.float(), calibration_weights(held_out)
        identity = {kind: round(value, 4) for kind, value in identity_auc(logits[:, 1], held_out).items()}
        return {
            "pictures": self.recipe.stage.pictures,
            "own_pictures": self.recipe.learning + self.recipe.calibration,
            "present_calibration_error": round(expected_calibration_error(estimates[:, 0], answers[:, 0], weights), 4),
            "identity_calibration_error": round(expected_calibration_error(estimates[:, 1], answers[:, 1], weights), 4),
            "not_present": int((answers[:, 0] <= 0.5).sum()),
            "present_auc": round(ranking(logits[:, 0], answers[:, 0]), 4),
            "identity_auc": identity,
            "box_iou_error": round(float((estimates[:, 2] - answers[:, 2]).abs().mean()), 4),
        }


def find_most_uneven(references: Float[Tensor, "n 3 side side"]) -> float:
    """The unevenness that ``KNOWN_SHARE`` of these views of references do not exceed."""
    return round(float(np.quantile([unevenness(view) for view in references], KNOWN_SHARE)), 4)


def train_scorer(  # noqa: PLR0913 - what a scorer is made of
    folder: Path,
    directory: Path,
    pack: SpritePack,
    judge: JudgeOwnPictures,
    recipe: ScorerRecipe,
    processes: int,
    minutes: float | None = None,
) -> bool:
    """Train a scorer in several processes, for ``minutes`` at most; then put it into the directory of its model.

    Returns:
        Whether all of it is done.
    """
    if processes > 1:
        run_team(processes, _train_in_team, folder, directory, pack, judge, recipe, minutes)
        minutes = 0.0
    training = ScorerTraining(folder, directory, pack, judge, recipe)
    done = training.run(minutes)
    if done:
        training.save()
    return done


def _train_in_team(  # noqa: PLR0913 - as train_scorer
    team: Team,
    folder: Path,
    directory: Path,
    pack: SpritePack,
    judge: JudgeOwnPictures,
    recipe: ScorerRecipe,
    minutes: float | None,
) -> None:
    ScorerTraining(folder, directory, pack, judge, recipe, team).run(minutes)


def begin_scorer_from(directory: Path, folder: Path) -> None:
    """Have the training in ``folder`` go on from the scorer of another model, unless it has begun before.

    Raises:
        ModelNotFoundError, CheckpointError: that model has no scorer, or it cannot be used.
    """
    if (folder / WEIGHTS).is_file():
        return
    config = ModelCard.load(directory).scorer
    if config is None:
        raise ModelNotFoundError(f"{directory.name} has no scorer to go on from.")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(Scorer.load(directory, config).network.state_dict(), folder / WEIGHTS)


def _require_same_model(folder: Path, directory: Path) -> None:
    """Note in the folder which model draws its pictures; refuse to go on with another one's."""
    digest = hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest()
    noted = folder / MODEL_DIGEST
    if not noted.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        noted.write_text(digest + "\n", encoding="utf-8")
    elif noted.read_text(encoding="utf-8").strip() != digest:
        raise CheckpointError(
            f"{folder} holds pictures of another model than {directory.name}; remove it, or choose another with --out."
        )


def split_pack(pack: SpritePack) -> tuple[SpritePack, SpritePack]:
    """The artwork to learn from, and that to calibrate with: other things.

    Raises:
        InvalidInputError: there are too few things for both.
    """
    concepts = sorted(pack.by_concept)
    if len(concepts) < LEAST_THINGS:
        raise InvalidInputError(
            f"A scorer takes pictures of at least {LEAST_THINGS} things; the artwork shows {len(concepts)}."
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(concepts))
    count = max(LEAST_APART, round(CALIBRATION_SHARE * len(concepts)))
    apart: set[str] = {concepts[number] for number in order[:count]}
    parts: tuple[list[int], list[int]] = ([], [])
    for index, sprite in enumerate(pack.sprites):
        parts[sprite.concept in apart].append(index)
    learning, calibration = parts
    return pack.subset(learning), pack.subset(calibration)
