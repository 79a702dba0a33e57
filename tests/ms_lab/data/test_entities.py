"""Noun phrases of captions, with the spans that find them again."""

from __future__ import annotations

import pytest

from ms_lab.data.stages.entities import EntityStage, head_noun, noun_phrases
from tests.ms_lab.data.made_clips import colour_clip, config_without_models


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a cat and a teapot on the beach", ["cat", "teapot", "beach"]),
        ("a man riding a skateboard down the street", ["man", "skateboard", "street"]),
        ("two brown dogs sitting next to a red fire hydrant", ["brown dogs", "red fire hydrant"]),
        ("a running dog, a wedding and a seedling", ["running dog", "wedding", "seedling"]),
        ("there is a woman who wears a hat", ["woman", "hat"]),
        ("a view of a lamp in the background", ["lamp"]),
        ("a jack-o'-lantern is parked on a 9", ["jack-o'-lantern"]),
        ("", []),
        ("dark", []),
    ],
)
def test_the_things_that_a_caption_names(caption: str, phrases: list[str]) -> None:
    found = noun_phrases(caption)
    assert [entity.phrase for entity in found] == phrases
    assert [caption[slice(*entity.span)] for entity in found] == phrases


def test_a_thousand_entities_are_cut_off_and_none_is_noted() -> None:
    stage = EntityStage(config_without_models())
    clip = colour_clip(num_frames=1)
    many = ", ".join(f"a thing{number}" for number in range(1000))
    clips = [with_caption(clip, many), with_caption(clip, "it is dark")]
    full, empty = stage(clips)
    assert len(full.frames[0].entities) == 16
    assert full.notes == ("too_many_entities",)
    assert empty.notes == ("no_entities",)


def with_caption(clip, caption: str):
    from dataclasses import replace

    return replace(clip, frames=tuple(replace(frame, caption=caption) for frame in clip.frames))


def test_the_core_of_a_phrase_is_its_last_word() -> None:
    assert [head_noun(phrase) for phrase in ("red Cups", "glass", "dog's bone")] == ["cup", "glass", "bone"]
