"""The cut-outs of photographed things: all there, openly licensed, with their credits, and never trained on."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest

from ms_core.spec import find_phrases
from ms_lab.mini.sprites import SpritePack
from ms_lab.mini.training_index import load_index
from tests.support.paths import ROOT

PACK = ROOT / "assets" / "photo-sprites.zip"
OPEN_LICENCES = {"CC0-1.0", "LicenseRef-public-domain", "CC-BY-2.0", "CC-BY-SA-4.0"}


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(PACK)


@pytest.fixture(scope="module")
def credits() -> list[dict[str, str]]:
    with PACK.with_suffix(".tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def test_fifty_things_in_a_small_file(pack: SpritePack) -> None:
    assert len(pack) == 50
    assert len(pack.by_concept) == 50
    assert len({sprite.phrase for sprite in pack.sprites}) == 50
    assert PACK.stat().st_size < 1_500_000


def test_no_name_stands_in_another(pack: SpritePack) -> None:
    phrases = [sprite.phrase for sprite in pack.sprites]
    for text, phrase in itertools.permutations(phrases, 2):
        assert find_phrases(text, [phrase]) == (None,)


def test_every_sprite_is_openly_licensed(pack: SpritePack) -> None:
    assert {sprite.licence for sprite in pack.sprites} <= OPEN_LICENCES


def test_every_sprite_has_its_credits(pack: SpritePack, credits: list[dict[str, str]]) -> None:
    told = [(row["name"], row["phrase"], row["sha256"], row["licence"]) for row in credits]
    assert told == [(sprite.name, sprite.phrase, sprite.sha256, sprite.licence) for sprite in pack.sprites]
    for row in credits:
        assert row["author"]
        assert row["source"].startswith("https://")
        assert row["package"] == "gcompris-qt-data 3.1-2"


def test_whoever_must_be_named_is_named(credits: list[dict[str, str]]) -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for row in credits:
        if row["licence"].startswith("CC-BY"):
            assert f"{row['phrase']}, by" in notice


def test_every_sprite_is_a_cut_out(pack: SpritePack) -> None:
    for sprite, picture in zip(pack.sprites, pack.pictures, strict=True):
        assert picture.size == (96, 96), sprite.name
        opaque = (np.asarray(picture.getchannel("A")) > 128).mean()
        assert 0.03 < opaque < 0.85, sprite.name


def test_no_photograph_was_trained_on(pack: SpritePack) -> None:
    trained = load_index(ROOT / "models" / "mini")
    assert not {sprite.sha256 for sprite in trained} & {sprite.sha256 for sprite in pack.sprites}
