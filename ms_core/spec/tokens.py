"""What of a text a model reads: its tokens, and the end that is cut off; free of torch and transformers.

Where a phrase stands in the prompt is a text search (``ms_core.spec.find_phrases``). Token spans are half-open, the
beginning-of-text token is 0, and they count the first tokenizer's tokens, as the official code does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Self

from tokenizers import Tokenizer

from ms_core.spec.phrases import Span

TokenSpan = tuple[int, int]


class TextTokenizer:
    """The first tokenizer of a model, with the words that it was taught.

    Attributes:
        document: itself as JSON, as the ``tokenizers`` library writes it.
        max_length: most tokens that are read, those at the beginning and the end included.
    """

    def __init__(self, document: str, max_length: int) -> None:
        """Load what ``document`` holds.

        Raises:
            Exception: it is no tokenizer; the library has no class of its own for this.
        """
        self._tokenizer = Tokenizer.from_str(document)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.document = self._tokenizer.to_str()
        self.max_length = max_length
        added = self._tokenizer.get_added_tokens_decoder()
        self._learned = {number for number, token in added.items() if not token.special}

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """A copy of a fast tokenizer of transformers."""
        return cls(tokenizer.backend_tokenizer.to_str(), tokenizer.model_max_length)

    @property
    def sha256(self) -> str:
        """Of ``document``."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    @property
    def limit(self) -> int:
        """Most tokens of a text's own that are read."""
        return self.max_length - self._tokenizer.num_special_tokens_to_add(False)

    def count(self, text: str) -> int:
        """Tokens of a text's own."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def cut_text(self, text: str) -> str:
        """The end of ``text`` that does not fit; empty if all fits."""
        offsets = self._offsets(text)
        if len(offsets) <= self.max_length:
            return ""
        # The last place belongs to the end-of-text token, so that token's predecessor is the last one kept.
        return text[offsets[self.max_length - 1][0] :]

    def spans(self, text: str, character_spans: Sequence[Span | None]) -> tuple[TokenSpan | None, ...]:
        """Tokens that hold any character of each span.

        Args:
            text: the prompt.
            character_spans: half-open spans in ``text``.

        Returns:
            One span each; ``None`` where none was given, and where the phrase is cut off, if only in part.
        """
        offsets = self._offsets(text)
        last = min(len(offsets), self.max_length) - 1
        return tuple(None if span is None else _token_span(offsets, span, last) for span in character_spans)

    def _offsets(self, text: str) -> list[Span]:
        """Character span of each token of the whole text; empty spans at its special tokens."""
        encoding = self._tokenizer.encode(text)
        offsets = list(encoding.offsets)
        if self._learned:
            _widen_learned_words(text, encoding.ids, offsets, self._learned)
        return offsets


def _widen_learned_words(text: str, ids: Sequence[int], offsets: list[Span], learned: set[int]) -> None:
    """Give all tokens of a word of ``ms_core.conditions.embeddings`` the whole word, not its last character only."""
    for index, token in enumerate(ids):
        if token in learned:
            end = offsets[index][1]
            if end == offsets[index - 1][1]:
                offsets[index] = offsets[index - 1]
            else:
                # Only blanks come between the tokens, so the word begins where those after the token before it end.
                word = text[offsets[index - 1][1] : end].lstrip()
                offsets[index] = (end - len(word), end)


def _token_span(offsets: list[Span], span: Span, last: int) -> TokenSpan | None:
    tokens = [index for index, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if not tokens or tokens[-1] >= last:
        return None
    return tokens[0], tokens[-1] + 1
