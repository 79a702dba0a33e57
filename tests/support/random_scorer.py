"""A tiny scorer with random weights, and model directories that have one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ms_core.config import CARD_FILE, Calibration, ModelCard, ScorerConfig
from ms_core.scoring import Scorer, ScorerNetwork

SIZES = ScorerConfig(side=16, widths=(8, 8, 16), heads=2)
# Random weights give logits around 0: so every probability is below or above one half.
ALWAYS_FAILS, ALWAYS_PASSES = Calibration(offset=-4.0), Calibration(offset=4.0)


def random_scorer(calibration: Calibration = ALWAYS_FAILS) -> Scorer:
    """The same one each time but for how its logits are read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ScorerNetwork(SIZES)
    return Scorer(network, replace(SIZES, present=calibration, identity=calibration))


def add_scorer(directory: Path, calibration: Calibration = ALWAYS_FAILS) -> ModelCard:
    """Give a model directory a random scorer; returns its card."""
    scorer = random_scorer(calibration)
    scorer.save(directory)
    replace(ModelCard.load(directory), scorer=scorer.config).save(directory)
    return ModelCard.load(directory)


def scored_copy(directory: Path, folder: Path, calibration: Calibration = ALWAYS_FAILS) -> Path:
    """A model directory in ``folder`` that shares the files of another, and has a random scorer beside."""
    for path in directory.iterdir():
        if path.name != CARD_FILE:
            (folder / path.name).symlink_to(path)
    ModelCard.load(directory).save(folder)
    add_scorer(folder, calibration)
    return folder
