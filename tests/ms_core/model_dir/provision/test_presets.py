"""The few-step presets for SDXL: as published, and fit for the pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ms_core.config import Extras, ModelCard, Preset
from ms_core.model_dir.provision.presets import SDXL_LORAS, SDXL_PRESETS
from ms_core.model_dir.provision.sources import sdxl_card
from ms_core.sampling.schedulers import make_scheduler
from ms_core.spec import Box, GenerationSpec, Lora, Subject
from ms_core.spec.resolve import ResolvedSpec
from tests.support.paths import GOLDEN

SCHEDULER = GOLDEN / "tiny-sdxl" / "scheduler" / "scheduler_config.json"
CARD = replace(sdxl_card(), presets=SDXL_PRESETS, extras=Extras(loras=tuple(SDXL_LORAS)))
SPEC = GenerationSpec("a cat", (Subject("cat", Image.new("RGB", (4, 4)), Box(0.0, 0.0, 1.0, 1.0)),))


@pytest.mark.parametrize("name", SDXL_PRESETS)
def test_a_preset_needs_nothing_else_and_guides_nothing(name: str) -> None:
    resolved = ResolvedSpec.of(replace(SPEC, preset=name), CARD)
    assert not resolved.do_classifier_free_guidance
    assert f"{resolved.num_inference_steps}" == name.rpartition("-")[2]


@pytest.mark.parametrize("name", SDXL_PRESETS)
def test_a_presets_loras_are_published_somewhere(name: str) -> None:
    (lora,) = SDXL_PRESETS[name].loras
    assert SDXL_LORAS[lora.name].file.endswith(".safetensors")
    assert lora.weight == 1.0


@pytest.mark.parametrize("name", [name for name, preset in SDXL_PRESETS.items() if preset.timestep_spacing])
def test_trailing_presets_begin_at_pure_noise(name: str) -> None:
    resolved = ResolvedSpec.of(replace(SPEC, preset=name), CARD)
    config = json.loads(SCHEDULER.read_text(encoding="utf-8"))
    scheduler = make_scheduler(resolved.scheduler, config, resolved.timestep_spacing)
    scheduler.set_timesteps(resolved.num_inference_steps)
    assert scheduler.timesteps[0] == config["num_train_timesteps"] - 1
    assert len(scheduler.timesteps) == resolved.num_inference_steps


def test_the_lightning_lora_is_that_of_the_number_of_steps() -> None:
    for steps in (4, 8):
        resolved = ResolvedSpec.of(replace(SPEC, preset=f"lightning-{steps}"), CARD)
        assert resolved.loras == (Lora(f"sdxl_lightning_{steps}step_lora"),)
        assert resolved.scheduler == "euler"


def test_presets_survive_the_cards_file(tmp_path: Path) -> None:
    CARD.save(tmp_path)
    assert ModelCard.load(tmp_path).presets == SDXL_PRESETS
    assert isinstance(ModelCard.load(tmp_path).presets["lcm-8"], Preset)
