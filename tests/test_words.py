"""The words that the dictionary rules out are not used in the shipped code."""

from __future__ import annotations

import keyword
import re
import tokenize
from collections.abc import Iterator

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "architecture" / "words.md"
ROOMS = ("app", "cli", "clients/python", "ms_core", "ms_jobs", "ms_lab", "worker")


def ruled_out() -> set[str]:
    """Words in code style in the last column of the dictionary's tables."""
    last_cells = (
        line.strip().strip("|").rsplit("|", 1)[-1] for line in PAGE.read_text().splitlines() if line[:1] == "|"
    )
    return {word for cell in last_cells for word in re.findall(r"`(\w+)`", cell)}


def identifiers() -> Iterator[tuple[str, str]]:
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        with path.open("rb") as source:
            for token in tokenize.tokenize(source.readline):
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    yield str(path.relative_to(ROOT)), token.string


def words_of(identifier: str) -> set[str]:
    """Parts of snake_case and CamelCase names, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def test_no_identifier_uses_a_word_that_the_dictionary_rules_out() -> None:
    banned = ruled_out()
    assert {"wish", "pulse", "bbox", "refs"} <= banned
    used = {(path, name) for path, name in identifiers() if words_of(name) & banned}
    assert used == set()
