"""What the bundled model was trained on, and that demo and held-out artwork are not in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from ms_lab.mini.artwork import (
    HELD_OUT_SET,
    NUM_HELD_OUT_CONCEPTS,
    Concepts,
    IconSet,
    find_concepts,
    held_out_concepts,
    list_sprites,
    phrase_of,
    plain_name,
)
from ms_lab.mini.sprites import Sprite, SpritePack
from ms_lab.mini.training_index import load_index
from tests.support.paths import ASSETS, ROOT


@pytest.fixture(scope="module")
def index() -> list[Sprite]:
    return load_index(ROOT / "models" / "mini")


@pytest.fixture(scope="module")
def held_out() -> SpritePack:
    return SpritePack.load(ROOT / "assets" / "heldout-sprites.zip")


def test_index_is_a_whole_training_set(index: list[Sprite]) -> None:
    assert len(index) > 3000
    assert len({sprite.artist for sprite in index}) >= 6


def test_at_least_a_hundred_concepts_are_held_out(held_out: SpritePack) -> None:
    assert len(held_out.by_concept) >= 100


def test_held_out_artwork_was_never_trained_on(index: list[Sprite], held_out: SpritePack) -> None:
    assert HELD_OUT_SET not in {sprite.artist for sprite in index}
    assert not {sprite.sha256 for sprite in index} & {sprite.sha256 for sprite in held_out.sprites}
    assert not {sprite.concept for sprite in index} & {sprite.concept for sprite in held_out.sprites}
    assert not {sprite.phrase for sprite in index} & {sprite.phrase for sprite in held_out.sprites}
    trained_names = {plain_name(sprite.name) for sprite in index}
    assert not trained_names & {plain_name(sprite.name) for sprite in held_out.sprites}


def test_smoke_sprites_are_training_artwork(index: list[Sprite]) -> None:
    smoke = SpritePack.load(ROOT / "assets" / "smoke-sprites.zip")
    assert {sprite.sha256 for sprite in smoke.sprites} <= {sprite.sha256 for sprite in index}
    assert (ROOT / "assets" / "smoke-sprites.zip").stat().st_size <= 3_000_000


def test_demo_pictures_are_held_out_artwork(held_out: SpritePack) -> None:
    openmoji = {
        sprite.name: picture
        for sprite, picture in zip(held_out.sprites, held_out.pictures, strict=True)
        if sprite.artist == HELD_OUT_SET
    }
    # The edge map is drawn from the others.
    demo = sorted(path for path in (ASSETS / "demo").glob("*.png") if path.stem != "edges")
    assert len(demo) >= 2
    for path in demo:
        with Image.open(path) as picture:
            # Transparent all around by this many pixels.
            drawing = ImageOps.crop(picture, 16)
            assert picture.getchannel("A").getbbox() == tuple(
                side + 16 for side in drawing.getchannel("A").getbbox() or ()
            )
        assert drawing.tobytes() == openmoji[path.stem].tobytes()


def _write_set(root: Path, name: str, icons: list[str], code_points: dict[str, str], aliases: dict[str, str]) -> None:
    folder = root / name
    folder.mkdir()
    body = {"body": '<circle cx="8" cy="8" r="7" fill="#c33"/>'}
    (folder / "icons.json").write_text(
        json.dumps(
            {
                "width": 16,
                "height": 16,
                "icons": {icon: {"body": f"{body['body']}<!--{name}{icon}-->"} for icon in icons},
                "aliases": {alias: {"parent": parent} for alias, parent in aliases.items()},
            }
        )
    )
    (folder / "info.json").write_text(json.dumps({"license": {"spdx": "MIT"}}))
    (folder / "metadata.json").write_text(json.dumps({"categories": {"Objects": icons}}))
    if code_points:
        (folder / "chars.json").write_text(json.dumps(code_points))


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, IconSet]:
    _write_set(tmp_path, HELD_OUT_SET, ["teapot", "red-apple"], {"1fad6": "teapot", "1f34e-fe0f": "red-apple"}, {})
    _write_set(tmp_path, "coded", ["apple", "pot"], {"1f34e": "apple", "1fad6": "pot"}, {"tea-jug": "pot"})
    _write_set(tmp_path, "named", ["RedApple", "teajug", "hot-beverage"], {}, {"teapot": "hot-beverage"})
    return {path.name: IconSet.load(path) for path in sorted(tmp_path.iterdir())}


def test_concepts_match_by_code_point_then_plain_name_then_alias(sets: dict[str, IconSet]) -> None:
    concepts: Concepts = find_concepts(sets)
    assert concepts.of(sets["coded"], "pot") == "1fad6"  # by code point, under another name
    assert concepts.of(sets["named"], "RedApple") == "1f34e"  # by name without separators
    assert concepts.of(sets["named"], "teajug") == "1fad6"  # by an alias of another set
    assert concepts.of(sets["named"], "hot-beverage") == "1fad6"  # by its own alias
    assert concepts.of(IconSet("other", "MIT", {}, {}, {}, {}), "unheard-of") is None


def test_each_artist_draws_a_concept_once(sets: dict[str, IconSet]) -> None:
    concepts = find_concepts(sets)
    found = [sprite.concept for sprite, _ in list_sprites(sets["named"], concepts)]
    assert sorted(found) == sorted(set(found))


def test_colours_leave_the_phrase() -> None:
    assert phrase_of("red-apple") == "apple"
    assert phrase_of("teapot") == "teapot"
    assert phrase_of("orange") == "orange"  # nothing else would be left


def test_held_out_draw_never_changes() -> None:
    letters = {f"{number:x}": f"thing-{number}" for number in range(0x1F400, 0x1F400 + 150)}
    reference = IconSet(HELD_OUT_SET, "MIT", dict.fromkeys(letters.values(), {}), {}, {}, {})
    reference.code_points.update({name: concept for concept, name in letters.items()})
    sets = {HELD_OUT_SET: reference}
    for artist in "abcd":
        sets[artist] = IconSet(artist, "MIT", reference.icons, reference.code_points, {}, {})
    concepts = Concepts(letters, {})
    drawn = held_out_concepts(sets, concepts)
    assert len(drawn) == NUM_HELD_OUT_CONCEPTS
    assert drawn == held_out_concepts(dict(reversed(sets.items())), concepts)
