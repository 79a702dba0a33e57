"""The bench's drawings: what is known was trained on, what is unseen was not, and the draw never changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.errors import ModelNotFoundError
from ms_lab.evaluation.questions.packs import (
    ARTIST,
    BOTH,
    CELLS,
    CONCEPT,
    HELD_OUT_PACK,
    KNOWN_PACK,
    NEITHER,
    NUM_KNOWN_ARTISTS,
    NUM_KNOWN_CONCEPTS,
    BenchPack,
    draw_known,
)
from ms_lab.mini.artwork import HELD_OUT_SET, Concepts, IconSet, held_out_concepts
from ms_lab.mini.sprites import Sprite, SpritePack
from ms_lab.mini.training_index import load_index
from tests.support.paths import ROOT

ASSETS = ROOT / "assets"


@pytest.fixture(scope="module")
def pack() -> BenchPack:
    return BenchPack.read(ASSETS)


@pytest.fixture(scope="module")
def index() -> list[Sprite]:
    return load_index(ROOT / "models" / "mini")


def test_pack_of_known_things_is_small() -> None:
    assert (ASSETS / KNOWN_PACK).stat().st_size <= 2_500_000


def test_every_known_thing_has_an_unseen_and_several_trained_artists() -> None:
    known = SpritePack.load(ASSETS / KNOWN_PACK)
    assert len(known.by_concept) == NUM_KNOWN_CONCEPTS
    for indexes in known.by_concept.values():
        artists = {known.sprites[index].artist for index in indexes}
        assert len(artists) == len(indexes) == NUM_KNOWN_ARTISTS + 1
        assert HELD_OUT_SET in artists


def test_two_known_things_never_share_a_phrase(pack: BenchPack) -> None:
    phrases = {concept: {pack.sprites[i].phrase for i in indexes} for concept, indexes in pack.by_concept.items()}
    known = [phrases[concept] for concept in phrases if concept not in pack.held_out]
    assert all(len(words) == 1 for words in known)
    assert len(set.union(*known)) == len(known)


def test_cells_hold_what_they_say(pack: BenchPack, index: list[Sprite]) -> None:
    trained, artists, concepts = ({getattr(s, name) for s in index} for name in ("sha256", "artist", "concept"))
    cells = [pack.cell_of(sprite) for sprite in range(len(pack))]
    assert set(cells) == set(CELLS)
    for sprite, cell in zip(pack.sprites, cells, strict=True):
        assert (sprite.artist in artists) == (cell in (CONCEPT, NEITHER))
        assert (sprite.concept in concepts) == (cell in (ARTIST, NEITHER))
        assert (sprite.sha256 in trained) == (cell == NEITHER)


def test_cell_of_both_has_every_held_out_concept(pack: BenchPack) -> None:
    both = [i for i in range(len(pack)) if pack.cell_of(i) == BOTH]
    assert {pack.sprites[i].concept for i in both} == pack.held_out
    assert len(both) == len(pack.held_out)


def test_missing_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=HELD_OUT_PACK):
        BenchPack.read(tmp_path)


def _sets(artists: str) -> dict[str, IconSet]:
    """Every artist drew the same 260 things; the last ten pairs differ in a colour alone."""
    names = {f"{0x1F300 + number:x}": f"thing-{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(240)}
    names |= {
        f"{0x2600 + number:x}": f"{('red', 'blue')[number % 2]}-box-{chr(97 + number // 2)}" for number in range(20)
    }
    icons = {name: {"body": "<g/>", "width": 16, "height": 16} for name in names.values()}
    return {
        artist: IconSet(artist, "MIT", icons, {name: concept for concept, name in names.items()}, {}, {})
        for artist in (HELD_OUT_SET, *artists)
    }


def _concepts(sets: dict[str, IconSet]) -> Concepts:
    return Concepts({concept: name for name, concept in sets[HELD_OUT_SET].code_points.items()}, {})


def test_known_draw_is_fixed_and_avoids_held_out_things_and_shared_phrases() -> None:
    sets = _sets("abcdef")
    concepts = _concepts(sets)
    rows = [sprite for sprite, _ in draw_known(sets, concepts)]
    again = [sprite for sprite, _ in draw_known(dict(reversed(sets.items())), concepts)]
    assert [(s.artist, s.concept) for s in rows] == [(s.artist, s.concept) for s in again]
    assert len(rows) == NUM_KNOWN_CONCEPTS * (NUM_KNOWN_ARTISTS + 1)
    assert not {s.concept for s in rows} & set(held_out_concepts(sets, concepts))
    assert not any("box" in s.phrase for s in rows)
