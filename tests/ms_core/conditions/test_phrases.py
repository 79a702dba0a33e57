"""Character spans to token spans, with the golden model's real tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from ms_core.conditions.phrases import cut_text, token_spans
from ms_core.spec import find_phrases
from tests.support.paths import GOLDEN

TOKENIZER = CLIPTokenizer.from_pretrained(GOLDEN / "tiny-sdxl" / "tokenizer")


def spans(prompt: str, *phrases: str) -> tuple[tuple[int, int] | None, ...]:
    return token_spans(TOKENIZER, prompt, find_phrases(prompt, phrases))


def decoded(prompt: str, phrase: str) -> str:
    """The text of the tokens that were found, as the tokenizer itself reads them."""
    (span,) = spans(prompt, phrase)
    return TOKENIZER.decode(TOKENIZER(prompt).input_ids[slice(*span)]).strip()


@pytest.mark.parametrize(
    ("prompt", "phrases", "expected"),
    [
        ("a dog and a cat", ("dog", "cat"), ((2, 3), (5, 6))),
        ("a dog and a dog", ("dog", "dog"), ((2, 3), (5, 6))),
        ("a dog", ("dog", "dog"), ((2, 3), (2, 3))),
        ("a red dog, a cat.", ("red dog", "cat"), ((2, 4), (6, 7))),
        ("a   dog\n and a\tCAT", ("dog", "cat"), ((2, 3), (5, 6))),
        ("a dog", ("cat",), (None,)),
    ],
)
def test_spans_count_the_beginning_token_as_zero(prompt, phrases, expected) -> None:
    assert spans(prompt, *phrases) == expected


@pytest.mark.parametrize(
    ("prompt", "phrase", "expected"),
    [
        ("a Cafe\u0301 by the sea", "by the sea", "by the sea"),
        ("a zebra unicorn in İstanbul with a cat", "cat", "cat"),
        ("\u3000a\u00a0cat, dog", "dog", "dog"),
        ("a zebra-unicorn, really", "zebra-unicorn", "zebra - unicorn"),
        ("a 猫 on the table", "猫", "猫"),
        ("一只猫和一只狗", "狗", "狗"),
        ("a 😀 and a dog", "dog", "dog"),
    ],
)
def test_spans_survive_case_normalisation_blanks_and_scripts(prompt: str, phrase: str, expected: str) -> None:
    assert decoded(prompt, phrase) == expected


def test_a_phrase_cut_off_is_not_found() -> None:
    prompt = "dog " + "the " * 74 + "cat"
    assert spans(prompt, "dog", "cat") == ((1, 2), None)


def test_the_last_place_before_the_end_token_still_counts() -> None:
    prompt = "the " * 74 + "cat"
    assert spans(prompt, "cat") == ((75, 76),)


def test_a_phrase_cut_in_two_is_not_found() -> None:
    prompt = "the " * 74 + "red cat"
    assert spans(prompt, "red cat") == (None,)


@pytest.mark.parametrize("words", [1, 75])
def test_nothing_is_cut_of_a_text_that_fits(words: int) -> None:
    assert cut_text(TOKENIZER, " ".join(["cat"] * words)) == ""


def test_the_cut_text_begins_with_the_first_token_that_is_lost() -> None:
    assert cut_text(TOKENIZER, "cat " * 75 + "Dog on the BEACH") == "Dog on the BEACH"


@given(st.text(alphabet=st.sampled_from("aé猫Ω 😀,.-İß\u0301"), max_size=40), st.integers(0, 40))
def test_the_text_around_a_word_does_not_hide_it(noise: str, position: int) -> None:
    prompt = f"{noise[:position]} dog {noise[position:]}"
    span = find_phrases(prompt, ["dog"])[0]
    (found,) = token_spans(TOKENIZER, prompt, [span])
    if len(TOKENIZER(prompt).input_ids) <= TOKENIZER.model_max_length:
        assert found is not None
        assert TOKENIZER.decode(TOKENIZER(prompt).input_ids[slice(*found)]).strip() == "dog"


@given(st.text(max_size=200))
def test_what_is_cut_is_the_end_of_the_text(text: str) -> None:
    cut = cut_text(TOKENIZER, text)
    assert text.endswith(cut)
    assert bool(cut) == (len(TOKENIZER(text, verbose=False).input_ids) > TOKENIZER.model_max_length)
