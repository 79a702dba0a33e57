"""The configuration: one file with all thresholds, in which nothing unknown stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.errors import InvalidInputError
from ms_lab.data.config import load_config
from ms_lab.data.parts import load_part


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[filters]\nfloor = 0.7\n[masks]\nuse = "a:B"\noptions = { x = 1 }\n')
    config = load_config(path)
    assert config.filters.floor == 0.7
    assert config.filters.ceiling == load_config().filters.ceiling
    assert config.masks.options == {"x": 1}


@pytest.mark.parametrize("line", ["[filters]\nfloors = 0.7", "colour = 1", "[clips]\nmin_clip = 2"])
def test_an_unknown_key_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(line)
    with pytest.raises(InvalidInputError, match="there is no such key. See ms_lab/data/default.toml"):
        load_config(path)


def test_a_filter_that_is_not_there_cannot_be_turned_off() -> None:
    with pytest.raises(InvalidInputError, match="filters.off.0: Input should be 'not_in_caption', 'size'"):
        load_config(None, {"filters": {"off": ["txt"]}})


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("version = 2")
    with pytest.raises(InvalidInputError, match="for version 2; this program reads version 1"):
        load_config(path)


def test_resources_change_nothing_that_is_written() -> None:
    other = load_config(None, {"resources": {"masks": {"batch": 9}}})
    assert other.digest() == load_config().digest()
    assert load_config(None, {"filters": {"floor": 0.7}}).digest() != load_config().digest()


def test_a_part_that_is_not_there_is_named() -> None:
    config = load_config(None, {"masks": {"use": "ms_lab.data.nothing:Part", "options": {}}})
    with pytest.raises(InvalidInputError, match=r"masks\.use names 'ms_lab\.data\.nothing:Part'"):
        load_part(config.masks, "masks")


def test_options_that_a_part_does_not_take_are_named() -> None:
    use = "ms_lab.data.models.colour_shape:ColourShapeMatcher"
    config = load_config(None, {"match": {"use": use, "options": {"speed": 1}}})
    with pytest.raises(InvalidInputError, match=r"match\.options do not fit"):
        load_part(config.match, "match")
