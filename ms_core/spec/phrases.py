"""Where the subjects' phrases stand in the prompt: a text search, free of tokenizers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Span = tuple[int, int]

# Signs that look like others; phones and word processors write the left ones.
_LOOKALIKES = {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-"}
_UNSEEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_IRREGULAR = {
    "man": "men",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "person": "people",
}
_REGULAR_ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))


class _Plain(NamedTuple):
    """Text as it is compared, and where each of its characters stands in the original.

    Attributes:
        text: in NFC, as CLIP's tokenizer reads it, with plain apostrophes and hyphens, without invisible characters.
        spans: half-open, in the original; one for each character.
    """

    text: str
    spans: tuple[Span, ...]

    def original(self, span: Span) -> Span:
        """The same characters in the original."""
        return self.spans[span[0]][0], self.spans[span[1] - 1][1]


def find_phrases(prompt: str, phrases: Sequence[str]) -> tuple[Span | None, ...]:
    """Where each phrase stands in the prompt: half-open character spans, ``None`` where it does not.

    The longest phrase is served first, equal ones in their order. Each takes its first occurrence that no other has: one
    that is exact (case and look-alike signs aside) before one that differs in the plural of its last word, and a word
    alone before a part of a compound with a hyphen. Where no occurrence is free, it shares its last one.
    """
    plain = _plain(prompt)
    wanted = [" ".join(_plain(phrase).text.split()) for phrase in phrases]
    found: dict[int, Span] = {}
    for index in sorted(range(len(wanted)), key=lambda index: (-len(wanted[index]), index)):
        occurrences = list(_occurrences(plain.text, wanted[index].split()))
        free = [span for span in occurrences if not any(_overlap(span, taken) for taken in found.values())]
        if occurrences:
            found[index] = free[0] if free else max(occurrences)
    return tuple(plain.original(found[index]) if index in found else None for index in range(len(wanted)))


def shared_phrases(spans: Sequence[Span | None]) -> list[int]:
    """Which of the spans that ``find_phrases`` gives lie in an earlier or longer one, and so stand for two subjects."""
    present = [(index, span) for index, span in enumerate(spans) if span is not None]
    order = sorted(present, key=lambda item: (item[1][0] - item[1][1], item[0]))
    return sorted(
        index for rank, (index, span) in enumerate(order) if any(_overlap(span, earlier) for _, earlier in order[:rank])
    )


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _plain(text: str) -> _Plain:
    characters: list[str] = []
    spans: list[Span] = []
    for start, end in _letters(text):
        for character in unicodedata.normalize("NFC", text[start:end]):
            if character not in _UNSEEN:
                characters.append(_LOOKALIKES.get(character, character))
                spans.append((start, end))
    return _Plain("".join(characters), tuple(spans))


def _letters(text: str) -> Iterator[Span]:
    """Each character with those behind it that NFC joins to it, such as accents."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _joins(text[start:end], text[end]):
            yield start, end
            start = end


def _joins(letter: str, behind: str) -> bool:
    together = unicodedata.normalize("NFC", letter + behind)
    return together != unicodedata.normalize("NFC", letter) + unicodedata.normalize("NFC", behind)


def _occurrences(text: str, words: list[str]) -> Iterator[Span]:
    """Spans of the matches of ``words``, the best kind first, each kind in the order of the text; no span twice."""
    if not words:
        return
    exact = [re.escape(word) for word in words]
    seen: set[Span] = set()
    for beside in (r"[\w-]", r"\w"):
        for last in (exact[-1], _plural_pattern(words[-1])):
            pattern = _bounded(words, r"\s+".join([*exact[:-1], f"(?:{last})"]), beside)
            spans = {match.span() for match in re.finditer(pattern, text, re.IGNORECASE)}
            yield from sorted(spans - seen)
            seen |= spans


def _bounded(words: list[str], pattern: str, beside: str) -> str:
    """``pattern`` without ``beside`` before or after it, in scripts that part their words with blanks."""
    before = f"(?<!{beside})" if _parts_words(words[0][0]) else ""
    after = f"(?!{beside})" if _parts_words(words[-1][-1]) else ""
    return f"{before}(?:{pattern}){after}"


def _parts_words(character: str) -> bool:
    """Whether ``character`` belongs to a script in which blanks part the words."""
    unparted = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    return character.isalnum() and not unicodedata.name(character, "").startswith(unparted)


def _plural_pattern(word: str) -> str:
    """Pattern for the singular and the plurals of an English ``word``."""
    lowered = word.casefold()
    forms = {word}
    for singular, plural in _IRREGULAR.items():
        for ending, other in ((singular, plural), (plural, singular)):
            if lowered.endswith(ending):
                forms.add(word[: -len(ending)] + other)
    stems = {word}
    for ending, replacement in _REGULAR_ENDINGS:
        if lowered.endswith(ending) and len(word) > len(ending) + 1:
            stems.add(word[: -len(ending)] + replacement)
    for stem in stems:
        forms |= {stem, stem + "s", stem + "es"}
        forms |= {
            stem[: -len(ending)] + plural for plural, ending in _REGULAR_ENDINGS[:3] if stem.casefold().endswith(ending)
        }
    return "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
