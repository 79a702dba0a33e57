"""The model card as a file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ms_core.config import (
    CARD_FILE,
    Extras,
    GenerationDefaults,
    ModelCard,
    Preset,
    PresetLora,
    ReferenceConfig,
    ResamplerConfig,
    TokenizerFile,
)
from ms_core.errors import CheckpointError, ModelNotFoundError

CARD = ModelCard(
    name="mini",
    resampler=ResamplerConfig(dim=64, heads=4),
    reference=ReferenceConfig(size=128, background=(1, 2, 3)),
    defaults=GenerationDefaults(height=128, width=128, negative_prompt=""),
    presets={"fast": Preset(num_inference_steps=8)},
    training={"steps": 1000},
)


def test_a_card_goes_there_and_back(tmp_path) -> None:
    CARD.save(tmp_path)
    assert ModelCard.load(tmp_path) == CARD


def test_what_a_card_leaves_out_has_its_default(tmp_path) -> None:
    (tmp_path / CARD_FILE).write_text('{"name": "mini", "resampler": {"dim": 64}}')
    assert ModelCard.load(tmp_path) == replace(ModelCard(), name="mini", resampler=ResamplerConfig(dim=64))


@pytest.mark.parametrize(
    "data", [{"colour": 1}, {"resampler": {"colour": 1}}, {"reference": {"colour": 1}}, {"defaults": {"colour": 1}}]
)
def test_unknown_keys_are_errors(data) -> None:
    with pytest.raises(CheckpointError, match="colour"):
        ModelCard.from_dict(data)


def test_a_missing_card_is_named(tmp_path) -> None:
    with pytest.raises(ModelNotFoundError, match=CARD_FILE):
        ModelCard.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"resampler": 3}', '{"reference": {"background": 3}}'])
def test_a_broken_card_is_named(tmp_path, text: str) -> None:
    (tmp_path / CARD_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=CARD_FILE):
        ModelCard.load(tmp_path)


def test_a_card_is_plain_json() -> None:
    assert ModelCard.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD


def test_a_card_finds_what_lies_beside_the_weights(tmp_path) -> None:
    CARD.save(tmp_path)
    for name in (
        "loras/paper.safetensors",
        "loras/notes.txt",
        "controlnets/canny/config.json",
        "embeddings/zoë.safetensors",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "controlnets" / "empty").mkdir()
    extras = ModelCard.load(tmp_path).extras
    assert extras == Extras(loras=("paper",), controls=("canny",), embeddings=("zoë",))


def test_what_was_found_is_published_but_not_saved(tmp_path) -> None:
    found = {"extras": Extras(loras=("paper",)), "tokenizer": TokenizerFile("0" * 64, 77)}
    card = replace(CARD, **found)
    assert ModelCard.from_dict(card.to_dict()) == card
    card.save(tmp_path)
    assert not found.keys() & json.loads((tmp_path / CARD_FILE).read_text()).keys()


def test_presets_and_sizes_go_there_and_back(tmp_path) -> None:
    preset = Preset("Four steps.", 4, 1.0, scheduler="euler", loras=(PresetLora("lightning", 0.9),))
    card = replace(CARD, presets={"fast": preset}, sizes=((1024, 1024), (832, 1216)))
    card.save(tmp_path)
    assert ModelCard.load(tmp_path) == card
