"""Pictures that several processes make are those that one would make, in the same order."""

from __future__ import annotations

import pytest
from PIL import Image

from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from ms_lab.evaluation.run.processes import generate_in_processes
from tests.support.paths import ASSETS, ROOT

MINI = ROOT / "models" / "mini"


@pytest.mark.faults
def test_two_processes_make_what_one_would() -> None:
    tomato = Subject("tomato", Image.open(ASSETS / "demo" / "tomato.png"), Box(0.2, 0.2, 0.8, 0.8))
    specs = [GenerationSpec("a tomato", (tomato,), num_inference_steps=1, seed=seed) for seed in range(5)]
    batches = [specs[:2], specs[2:3], specs[3:]]
    expected = [[made.image for made in MSDiffusionPipeline.from_pretrained(MINI).run(batch)] for batch in batches]
    made = list(generate_in_processes(MINI, 2, batches))
    assert [[each.tobytes() for each in batch] for batch in made] == [
        [each.tobytes() for each in batch] for batch in expected
    ]
