"""Code blocks of the guides, for tests that run them."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)(?:    .*\n|\n(?=    ))+")


def blocks(page: str, language: str, section: str = "") -> list[str]:
    """The fenced blocks of a language on a page, or below one of its headings, up to the next of that level."""
    return [code for name, code in _FENCED.findall(_text(page, section)) if name == language]


def indented_blocks(page: str) -> list[str]:
    """The blocks of a page that are only indented."""
    found = _INDENTED.findall(_FENCED.sub("", _text(page, "")))
    return [re.sub(r"^    ", "", code, flags=re.MULTILINE) for code in found]


def _text(page: str, section: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    if not section:
        return text
    level = "#" * (len(section) - len(section.lstrip("#")))
    _, _, rest = text.partition(f"{section}\n")
    assert rest, f"{page} has no {section}"
    return re.split(rf"^{level} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
