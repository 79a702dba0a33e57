"""Where the subjects' phrases stand in the prompt: a text search, free of tokenizers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def find_phrases(prompt: str, phrases: Sequence[str]) -> tuple[tuple[int, int] | None, ...]:
    """Where each phrase stands in the prompt: half-open character spans, ``None`` where it does not.

    An exact match (case aside) comes before one that differs only in the plural of its last word. The k-th subject
    with a phrase takes the phrase's k-th occurrence; where there are fewer, it shares the last.
    """
    spans: list[tuple[int, int] | None] = []
    taken: dict[str, int] = {}
    for phrase in phrases:
        key = " ".join(phrase.casefold().split())
        occurrences = _occurrences(prompt, phrase)
        index = taken.get(key, 0)
        taken[key] = index + 1
        spans.append(occurrences[min(index, len(occurrences) - 1)] if occurrences else None)
    return tuple(spans)


def _occurrences(prompt: str, phrase: str) -> list[tuple[int, int]]:
    """Spans of the exact matches of ``phrase``, or, without any, of its plural-tolerant matches."""
    words = phrase.split()
    if not words:
        return []
    exact = [re.escape(word) for word in words]
    for last in (exact[-1], _plural_pattern(words[-1])):
        pattern = _bounded(words, r"\s+".join([*exact[:-1], f"(?:{last})"]))
        spans = [match.span() for match in re.finditer(pattern, prompt, re.IGNORECASE)]
        if spans:
            return spans
    return []


def _bounded(words: list[str], pattern: str) -> str:
    """``pattern`` that may not begin or end inside a word, in scripts that part their words with blanks."""
    before = r"(?<!\w)" if _parts_words(words[0][0]) else ""
    after = r"(?!\w)" if _parts_words(words[-1][-1]) else ""
    return f"{before}(?:{pattern}){after}"


def _parts_words(character: str) -> bool:
    """Whether ``character`` belongs to a script in which blanks part the words."""
    unparted = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    return character.isalnum() and not unicodedata.name(character, "").startswith(unparted)


def _plural_pattern(word: str) -> str:
    """Pattern for the singular and the regular English plurals of ``word``."""
    stems = {word}
    lowered = word.casefold()
    for ending, replacement in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if lowered.endswith(ending) and len(word) > len(ending) + 1:
            stems.add(word[: -len(ending)] + replacement)
    forms = set(stems)
    for stem in stems:
        forms |= {stem + "s", stem + "es"}
        if stem[-1:].casefold() == "y":
            forms.add(stem[:-1] + "ies")
        if stem[-1:].casefold() == "f":
            forms.add(stem[:-1] + "ves")
        if stem[-2:].casefold() == "fe":
            forms.add(stem[:-2] + "ves")
    return "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
