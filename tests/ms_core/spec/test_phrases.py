"""Where phrases are found in a prompt."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ms_core.spec import find_phrases
from ms_core.spec.phrases import shared_phrases


@pytest.mark.parametrize(
    ("prompt", "phrase", "found"),
    [
        ("a Cat and a cat", "cat", "Cat"),
        ("a category of cats", "cat", "cats"),
        ("two puppies", "puppy", "puppies"),
        ("a puppy", "puppies", "puppy"),
        ("three wolves", "wolf", "wolves"),
        ("two boxes", "box", "boxes"),
        ("a cat, a dog", "cat", "cat"),
        ("a red \n backpack", "red backpack", "red \n backpack"),
        ("cats and a cat", "cat", "cat"),
        ("一只猫和狗", "猫", "猫"),
        ("a C++ book", "c++ book", "C++ book"),
        ("two women", "woman", "women"),
        ("a snowman", "snowmen", "snowman"),
        ("three blind mice", "mouse", "mice"),
        ("a teddy-bear and a bear", "bear", "bear"),
        ("a teddy-bear and two bears", "bear", "bears"),
        ("a teddy-bear", "bear", "bear"),
        ("a woman\u2019s hat", "woman's hat", "woman\u2019s hat"),
        ("a woman's hat", "woman\u2018s hat", "woman's hat"),
        ("a t\u2011shirt", "t-shirt", "t\u2011shirt"),
        ("a cafe\u0301 cup", "caf\u00e9", "cafe\u0301"),
        ("a caf\u00e9 cup", "cafe\u0301 cup", "caf\u00e9 cup"),
        ("a te\u00adapot", "teapot", "te\u00adapot"),
        ("\u1100\u1161 \u1102\u1161", "\ub098", "\u1102\u1161"),
    ],
)
def test_phrases_are_found_exactly_before_by_plural(prompt: str, phrase: str, found: str) -> None:
    (span,) = find_phrases(prompt, [phrase])
    assert span is not None
    assert prompt[slice(*span)] == found


@pytest.mark.parametrize("prompt", ["a category", "a concat", "a dog", "a bobcat"])
def test_a_phrase_inside_a_word_is_not_found(prompt: str) -> None:
    assert find_phrases(prompt, ["cat"]) == (None,)


def test_a_letter_is_not_found_within_the_same_letter_with_an_accent() -> None:
    assert find_phrases("a cafe\u0301", ["cafe"]) == (None,)


def test_repeated_phrases_take_one_occurrence_each_and_share_the_last() -> None:
    assert find_phrases("a cat and a cat", ["cat", "CAT", "cat"]) == ((2, 5), (12, 15), (12, 15))


@pytest.mark.parametrize(
    ("prompt", "phrases", "found"),
    [
        ("a teddy bear and a bear in a forest", ["teddy bear", "bear"], [(2, 12), (19, 23)]),
        ("a teddy bear and a bear in a forest", ["bear", "teddy bear"], [(19, 23), (2, 12)]),
        ("a dog and a hot dog", ["hot dog", "dog"], [(12, 19), (2, 5)]),
        ("a cat and two cats", ["cat", "cat"], [(2, 5), (14, 18)]),
        ("two cats", ["cat", "cat"], [(4, 8), (4, 8)]),
        ("a hot dog", ["dog", "hot dog"], [(6, 9), (2, 9)]),
    ],
)
def test_no_subject_takes_the_words_of_another_while_there_are_others(
    prompt: str, phrases: list[str], found: list[tuple[int, int]]
) -> None:
    assert find_phrases(prompt, phrases) == tuple(found)


def test_who_shares_its_words_is_named() -> None:
    assert shared_phrases(find_phrases("a teddy bear and a bear", ["bear", "teddy bear"])) == []
    assert shared_phrases(find_phrases("two cats", ["cat", "dog", "cat"])) == [2]
    assert shared_phrases(find_phrases("a hot dog", ["dog", "hot dog"])) == [0]


WORDS = st.text(string.ascii_letters, min_size=1, max_size=8)


@given(st.lists(WORDS, max_size=5), WORDS, st.lists(WORDS, max_size=5))
def test_a_phrase_that_stands_in_the_prompt_is_found_as_itself(before: list[str], word: str, after: list[str]) -> None:
    prompt = " ".join([*before, word, *after])
    (span,) = find_phrases(prompt, [word])
    assert span is not None
    assert prompt[slice(*span)].casefold() == word.casefold()


@given(st.text(max_size=60), st.lists(st.text(max_size=10), max_size=4))
def test_any_text_can_be_searched(prompt: str, phrases: list[str]) -> None:
    spans = find_phrases(prompt, phrases)
    assert len(spans) == len(phrases)
    assert all(span is None or 0 <= span[0] < span[1] <= len(prompt) for span in spans)
