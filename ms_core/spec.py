"""What a user asks for, in the user's own frame; free of torch.

Boxes are normalised ``[x_min, y_min, x_max, y_max]`` in [0, 1], origin at the top left, x to the right, y down.
``None`` means "no layout" or "the model's default", never zero.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from ms_core.errors import InvalidInputError, LayoutError, PhraseNotFoundError, UnsupportedSchedulerError

if TYPE_CHECKING:
    from PIL import Image

MAX_SEED = 2**53 - 1
MAX_STEPS = 150
MAX_SUBJECTS = 16
MAX_PROMPT_CHARACTERS = 20_000
MAX_PHRASE_CHARACTERS = 200
MAX_GUIDANCE_SCALE = 50.0
MAX_SUBJECT_SCALE = 2.0
SIZE_MULTIPLE = 8
SCHEDULERS = ("ddim", "euler")


@dataclass(frozen=True, slots=True)
class Box:
    """Where a subject stands: normalised xyxy in [0, 1], origin top left.

    Raises:
        LayoutError: a coordinate is not finite or outside [0, 1], or the box is reversed or has no area.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        values = self.as_tuple()
        if not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values):
            raise LayoutError(
                f"A box is [x_min, y_min, x_max, y_max] with every number from 0 to 1, not {list(values)}. "
                'Give pixels as {"pixels": [...]}.'
            )
        if self.x_min >= self.x_max or self.y_min >= self.y_max:
            raise LayoutError(
                f"The box {list(values)} has no area: x_min must be below x_max and y_min below y_max. "
                "For a subject without a place of its own, use the auto layout."
            )

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Self:
        """Box from its normalised top-left corner and its normalised size."""
        # A sum such as 0.7 + 0.3 may pass 1 by rounding alone.
        x_max, y_max = (1.0 if 1.0 < value < 1.0 + 1e-9 else value for value in (x + width, y + height))
        return cls(x, y, x_max, y_max)

    @classmethod
    def from_pixels(cls, pixel_box: Sequence[float], height: int, width: int) -> Self:
        """Box from xyxy pixels of a picture of ``height`` x ``width`` pixels."""
        x_min, y_min, x_max, y_max = pixel_box
        if max(x_min, x_max) > width or max(y_min, y_max) > height:
            raise LayoutError(
                f"The pixel box {list(pixel_box)} reaches outside the picture of {width} x {height} pixels."
            )
        return cls(x_min / width, y_min / height, x_max / width, y_max / height)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The four numbers, normalised xyxy."""
        return (self.x_min, self.y_min, self.x_max, self.y_max)


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject: its phrase, its reference picture, and its place.

    Attributes:
        phrase: the words that name the subject, best as they stand in the prompt.
        image: the reference picture, any size and mode; transparency is laid on the model's reference background.
        box: where the subject stands; ``None`` only with auto layout.
        scale: strength of this subject; replaces the global scale, never multiplies it.
    """

    phrase: str
    image: Image.Image
    box: Box | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise InvalidInputError("A subject needs a phrase: the words that name it in the prompt.", "/phrase")
        check_text(self.phrase, "/phrase", MAX_PHRASE_CHARACTERS)
        if self.scale is not None:
            check_range(self.scale, 0.0, MAX_SUBJECT_SCALE, "/scale")


@dataclass(frozen=True, slots=True)
class AutoLayout:
    """Masks found from the prompt's own attention (the official ``mask_threshold`` and ``start_step``).

    Attributes:
        threshold: a place belongs to a subject where its scaled attention map is above this, in [0, 1].
        start_step: the found masks act from the ``start_step``-th call of the UNet on (1-based).
    """

    threshold: float = 0.5
    start_step: int = 5

    def __post_init__(self) -> None:
        check_range(self.threshold, 0.0, 1.0, "/threshold")
        check_range(self.start_step, 1, MAX_STEPS, "/start_step")


@dataclass(frozen=True, slots=True)
class GenerationWarning:
    """Something the user should know about a picture that is made all the same.

    Attributes:
        code: stable, machine-readable name.
        detail: one sentence.
        pointer: RFC 6901 pointer to the value in the request.
    """

    code: str
    detail: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """One picture to be made. ``None`` means the model card's default.

    Attributes:
        prompt: what the picture shows.
        subjects: at least one.
        negative_prompt: what it should not show; "" switches the model's default off.
        height, width: of the picture, in pixels; multiples of 8.
        num_inference_steps: 1 to 150.
        guidance_scale: at 1 or below the unconditional half is not computed at all.
        scale: strength of all subjects without a scale of their own.
        seed: of this picture's own CPU generator, 0 to 2**53 - 1.
        layout: ``None`` takes the subjects' boxes; ``AutoLayout`` finds the places.
        grounding: whether phrase and box steer the resampler's queries.
        scheduler: one of ``SCHEDULERS``.

    Raises:
        InvalidInputError: a value is out of range; its ``pointer`` names the field.
    """

    prompt: str
    subjects: tuple[Subject, ...]
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scale: float | None = None
    seed: int = 0
    layout: AutoLayout | None = None
    grounding: bool = True
    scheduler: str | None = None
    phrase_spans: tuple[tuple[int, int] | None, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "subjects", tuple(self.subjects))
        _check_texts(self)
        _check_numbers(self)
        _check_subjects(self)
        spans = find_phrases(self.prompt, [subject.phrase for subject in self.subjects])
        object.__setattr__(self, "phrase_spans", spans)


def check_range(value: float, low: float, high: float, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``value`` is a number from ``low`` to ``high``; NaN is in no range."""
    if not low <= value <= high:
        raise InvalidInputError(f"Must be a number from {low} to {high}, not {value!r}.", pointer)


def check_text(text: str, pointer: str, max_characters: int) -> None:
    """Raise ``InvalidInputError`` for text that is too long or holds a NUL character or a lone surrogate."""
    if len(text) > max_characters:
        raise InvalidInputError(f"At most {max_characters} characters, not {len(text)}.", pointer)
    if any(character == "\0" or unicodedata.category(character) == "Cs" for character in text):
        raise InvalidInputError("The text holds a NUL or a broken character; remove it.", pointer)


def check_size(value: int, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``value`` is a positive multiple of 8 pixels."""
    if value < SIZE_MULTIPLE or value % SIZE_MULTIPLE:
        nearest = max(SIZE_MULTIPLE, round(value / SIZE_MULTIPLE) * SIZE_MULTIPLE)
        raise InvalidInputError(f"Must be a multiple of {SIZE_MULTIPLE} pixels; the nearest is {nearest}.", pointer)


def check_scheduler(name: str, pointer: str = "/scheduler") -> None:
    """Raise ``UnsupportedSchedulerError`` unless ``name`` is one of ``SCHEDULERS``."""
    if name not in SCHEDULERS:
        raise UnsupportedSchedulerError(f"No scheduler {name!r}; choose one of {', '.join(SCHEDULERS)}.", pointer)


def _check_texts(spec: GenerationSpec) -> None:
    if not spec.prompt.strip():
        raise InvalidInputError("The prompt is empty: say what the picture shows.", "/prompt")
    check_text(spec.prompt, "/prompt", MAX_PROMPT_CHARACTERS)
    if spec.negative_prompt is not None:
        check_text(spec.negative_prompt, "/negative_prompt", MAX_PROMPT_CHARACTERS)


def _check_numbers(spec: GenerationSpec) -> None:
    check_range(spec.seed, 0, MAX_SEED, "/seed")
    for name, low, high in (
        ("num_inference_steps", 1, MAX_STEPS),
        ("guidance_scale", 0.0, MAX_GUIDANCE_SCALE),
        ("scale", 0.0, MAX_SUBJECT_SCALE),
    ):
        value = getattr(spec, name)
        if value is not None:
            check_range(value, low, high, f"/{name}")
    for name in ("height", "width"):
        value = getattr(spec, name)
        if value is not None:
            check_size(value, f"/{name}")
    if spec.scheduler is not None:
        check_scheduler(spec.scheduler)


def _check_subjects(spec: GenerationSpec) -> None:
    if not 1 <= len(spec.subjects) <= MAX_SUBJECTS:
        raise InvalidInputError(f"Give 1 to {MAX_SUBJECTS} subjects, not {len(spec.subjects)}.", "/subjects")
    for index, subject in enumerate(spec.subjects):
        if subject.box is None and spec.layout is None:
            raise LayoutError(
                "This subject has no box; give one, or ask for the auto layout.", f"/subjects/{index}/box"
            )
    if spec.layout is not None:
        require_phrases(spec.prompt, [subject.phrase for subject in spec.subjects])


def require_phrases(prompt: str, phrases: Sequence[str]) -> None:
    """Raise ``PhraseNotFoundError`` for the first phrase that is not in ``prompt``."""
    for index, span in enumerate(find_phrases(prompt, phrases)):
        if span is None:
            raise PhraseNotFoundError(
                f"Auto layout looks for {phrases[index]!r} in the prompt and does not find it; "
                "write it in the prompt, or give boxes instead.",
                f"/subjects/{index}/phrase",
            )


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
