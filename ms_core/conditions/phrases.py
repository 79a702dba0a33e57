"""Character spans of the prompt to token spans, and what of a text the tokenizer cuts off.

Where a phrase stands in the prompt is a text search (``ms_core.spec.find_phrases``). Token spans are half-open, the
beginning-of-text token is 0, and they count the first tokenizer's tokens, as the official code does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TokenSpan = tuple[int, int]


def token_spans(
    tokenizer: Any, text: str, character_spans: Sequence[tuple[int, int] | None]
) -> tuple[TokenSpan | None, ...]:
    """Tokens that hold any character of each span.

    Args:
        tokenizer: a fast tokenizer; its offsets lead back through case folding, normalisation and blanks.
        text: the prompt.
        character_spans: half-open spans in ``text``.

    Returns:
        One span each; ``None`` where none was given, and where the phrase is cut off, if only in part.
    """
    offsets = _offsets(tokenizer, text)
    last = min(len(offsets), tokenizer.model_max_length) - 1
    return tuple(None if span is None else _token_span(offsets, span, last) for span in character_spans)


def cut_text(tokenizer: Any, text: str) -> str:
    """The end of ``text`` that does not fit into the tokenizer's length; empty if all fits."""
    offsets = _offsets(tokenizer, text)
    if len(offsets) <= tokenizer.model_max_length:
        return ""
    # The last place belongs to the end-of-text token, so that token's predecessor is the last one kept.
    return text[offsets[tokenizer.model_max_length - 1][0] :]


def _offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Character span of each token of the whole text; empty spans at its special tokens."""
    encoding = tokenizer(text, truncation=False, return_offsets_mapping=True, verbose=False)
    offsets: list[tuple[int, int]] = encoding["offset_mapping"]
    learned = set(tokenizer.added_tokens_encoder.values()) - set(tokenizer.all_special_ids)
    if learned:
        _widen_learned_words(text, encoding["input_ids"], offsets, learned)
    return offsets


def _widen_learned_words(text: str, ids: Sequence[int], offsets: list[tuple[int, int]], learned: set[int]) -> None:
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


def _token_span(offsets: list[tuple[int, int]], span: tuple[int, int], last: int) -> TokenSpan | None:
    tokens = [index for index, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if not tokens or tokens[-1] >= last:
        return None
    return tokens[0], tokens[-1] + 1
