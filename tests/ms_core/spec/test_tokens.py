"""Tokens of texts, with the golden model's real tokenizer: as transformers counts them, and what is cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from ms_core.spec import find_phrases
from ms_core.spec.tokens import TextTokenizer
from tests.support.paths import GOLDEN, MINI

TOKENIZERS = [CLIPTokenizer.from_pretrained(folder / "tokenizer") for folder in (GOLDEN / "tiny-sdxl", MINI)]
TOKENIZER = TOKENIZERS[0]
TEXTS = TextTokenizer.of(TOKENIZER)


def spans(prompt: str, *phrases: str) -> tuple[tuple[int, int] | None, ...]:
    return TEXTS.spans(prompt, find_phrases(prompt, phrases))


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
    assert TEXTS.cut_text(" ".join(["cat"] * words)) == ""


def test_the_cut_text_begins_with_the_first_token_that_is_lost() -> None:
    assert TEXTS.cut_text("cat " * 75 + "Dog on the BEACH") == "Dog on the BEACH"


@given(st.text(alphabet=st.sampled_from("aé猫Ω 😀,.-İß\u0301"), max_size=40), st.integers(0, 40))
def test_the_text_around_a_word_does_not_hide_it(noise: str, position: int) -> None:
    prompt = f"{noise[:position]} dog {noise[position:]}"
    span = find_phrases(prompt, ["dog"])[0]
    (found,) = TEXTS.spans(prompt, [span])
    if len(TOKENIZER(prompt).input_ids) <= TOKENIZER.model_max_length:
        assert found is not None
        assert TOKENIZER.decode(TOKENIZER(prompt).input_ids[slice(*found)]).strip() == "dog"


@given(st.text(max_size=200))
def test_what_is_cut_is_the_end_of_the_text(text: str) -> None:
    cut = TEXTS.cut_text(text)
    assert text.endswith(cut)
    assert bool(cut) == (len(TOKENIZER(text, verbose=False).input_ids) > TOKENIZER.model_max_length)


TEXT_OF_ALL_KINDS = st.text(max_size=200) | st.text(alphabet=st.sampled_from("aé猫Ω 😀,.-İß\u0301'\t"), max_size=300)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(text=TEXT_OF_ALL_KINDS)
@example(text="")
@example(text="<|endoftext|> cat <|startoftext|>")
@example(text="cat " * 100)
def test_tokens_are_those_that_the_text_encoder_gets(tokenizer: Any, text: str) -> None:
    texts = TextTokenizer.of(tokenizer)
    told = tokenizer(text, truncation=False, return_offsets_mapping=True, verbose=False)
    assert texts._offsets(text) == told["offset_mapping"]
    assert texts.count(text) == len(told["input_ids"]) - 2
    read = tokenizer(text, truncation=True, max_length=tokenizer.model_max_length, verbose=False)["input_ids"]
    assert min(texts.count(text), texts.limit) == len(read) - 2


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_what_transformers_was_asked_before_changes_nothing(tokenizer: Any) -> None:
    before = TextTokenizer.of(tokenizer)
    tokenizer("cat", padding="max_length", truncation=True, max_length=5)
    after = TextTokenizer.of(tokenizer)
    assert (after.sha256, after.cut_text("cat " * 10), after.count("cat")) == (before.sha256, "", before.count("cat"))


def test_it_is_the_same_read_from_its_own_document() -> None:
    again = TextTokenizer(TEXTS.document, TEXTS.max_length)
    assert (again.sha256, again.limit) == (TEXTS.sha256, 75)
    assert again.cut_text("cat " * 76) == TEXTS.cut_text("cat " * 76) != ""


def test_a_model_with_vocabulary_and_merges_in_two_files_has_the_same_tokens(tmp_path: Path) -> None:
    """As the folders of SDXL have them."""
    document = json.loads(TEXTS.document)
    (tmp_path / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
    merges = [" ".join(merge) for merge in document["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (tmp_path / "tokenizer_config.json").write_bytes(
        (GOLDEN / "tiny-sdxl" / "tokenizer" / "tokenizer_config.json").read_bytes()
    )
    other = TextTokenizer.of(CLIPTokenizer.from_pretrained(tmp_path))
    text = "A zebra-unicorn, really"
    assert (other._offsets(text), other.limit) == (TEXTS._offsets(text), TEXTS.limit)
