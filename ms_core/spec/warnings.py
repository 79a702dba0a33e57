"""What the user should know of a request before a picture is made; what needs a tokenizer or torch is found later."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from PIL import Image

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.spec.generation import GenerationSpec, GenerationWarning
from ms_core.spec.phrases import shared_phrases
from ms_core.spec.picture_warnings import picture_warnings

if TYPE_CHECKING:
    from ms_core.spec.tokens import TextTokenizer

# Syntax of other programs, which is read as plain text here: how it looks, and what to do. The first is "(red:1.3)", but not
# "(at 10:30)".
_FOREIGN_SYNTAX = (
    (
        "prompt_weights_ignored",
        re.compile(r"\([^()]+?(?:(?<!\d):\s*[+-]?\d+|:\s*[+-]?\d*\.\d+)\s*\)"),
        "Prompt weights are not supported: the brackets and number in {} are read as plain text; leave them out.",
    ),
    (
        "prompt_syntax_ignored",
        re.compile(r"<(?:lora|lyco|hypernet):[^<>]+>", re.IGNORECASE),
        "LoRAs are not read from the prompt: {} is read as plain text; name the LoRA in `loras`.",
    ),
    (
        "prompt_syntax_ignored",
        re.compile(r"\bembedding:[^\s,]+", re.IGNORECASE),
        "{} is read as plain text; write the name of a textual inversion alone, as `GET /models` lists it.",
    ),
    (
        "prompt_syntax_ignored",
        re.compile(r"\({2,}[^()]+\){2,}|\[[^\[\]]+\]"),
        "Brackets do not change the strength of words: those in {} are read as plain text; leave them out.",
    ),
    (
        "prompt_syntax_ignored",
        re.compile(r"\{[^{}|]*\|[^{}]*\}|__[\w/-]+__"),
        "Nothing is chosen at random from a prompt: {} is read as plain text; write one of the choices.",
    ),
    (
        "prompt_syntax_ignored",
        re.compile(r"\bBREAK\b"),
        "{} is read as plain text; leave it out: a prompt has one part, of 77 tokens.",
    ),
)
MAX_QUOTED_CHARACTERS = 500
# Areas, in those of a usual picture, and how much wider or taller than all usual ones a picture may be.
_USUAL_AREAS = (0.7, 1.5)
_SHAPE_TOLERANCE = 1.05
# A picture is stretched visibly where its ratio of width to height differs by more from the result's.
_STRETCH_TOLERANCE = 0.02


def quote(text: str) -> str:
    """``text`` in quotation marks, shortened."""
    more = len(text) - MAX_QUOTED_CHARACTERS
    return f'"{text}"' if more <= 0 else f'"{text[:MAX_QUOTED_CHARACTERS]}" and {more} more characters.'


def find_warnings(spec: GenerationSpec, card: ModelCard | None) -> list[GenerationWarning]:
    """All warnings of a request whose values are filled in, as far as they and the card are known."""
    warnings = [*_phrase_warnings(spec), *_syntax_warnings(spec), *_stretch_warnings(spec)]
    warnings += [*_layout_warnings(spec), *_time_warnings(spec)]
    warnings += picture_warnings(spec, card)
    if card is not None:
        warnings += [*_count_warnings(spec, card), *_size_warnings(spec, card)]
    return warnings


def truncation_warnings(spec: GenerationSpec, tokenizer: TextTokenizer) -> list[GenerationWarning]:
    """Texts of a request whose values are filled in that the model does not read to their end."""
    texts = {"/prompt": spec.prompt, "/negative_prompt": spec.negative_prompt or ""}
    texts |= {f"/subjects/{index}/phrase": subject.phrase for index, subject in enumerate(spec.subjects)}
    texts |= _words_of_subjects(spec)
    cuts = {pointer: tokenizer.cut_text(text) for pointer, text in texts.items()}
    sentence = "The model does not read the end of this text: {}"
    return [
        GenerationWarning("text_truncated", sentence.format(quote(cut)), pointer)
        for pointer, cut in cuts.items()
        if cut
    ]


def _words_of_subjects(spec: GenerationSpec) -> dict[str, str]:
    """The words that subjects bring for their own cells, by their pointers."""
    return {
        f"/subjects/{index}/prompt": subject.prompt
        for index, subject in enumerate(spec.subjects)
        if subject.prompt is not None
    }


def _phrase_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Phrases that the prompt does not hold (errors with auto layout), or holds too seldom for auto layout."""
    spans = spec.phrase_spans
    if spec.layout is not None:
        code = "phrase_shared"
        sentence = (
            "The prompt has no words for {} that are not another subject's, so both are placed by the same ones; "
        )
        sentence += "name it once more, or give boxes."
        concerned = shared_phrases(spans)
    else:
        code = "phrase_not_found"
        sentence = "The prompt does not contain {}; the picture follows the words better if it does."
        # Where a subject brings its own words, the prompt is not read.
        concerned = [
            index
            for index, (span, subject) in enumerate(zip(spans, spec.subjects, strict=True))
            if span is None and subject.prompt is None
        ]
    return [
        GenerationWarning(code, sentence.format(quote(spec.subjects[index].phrase)), f"/subjects/{index}/phrase")
        for index in concerned
    ]


def _syntax_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Syntax of other programs in each text; one warning of each kind."""
    texts = {"/prompt": spec.prompt, "/negative_prompt": spec.negative_prompt or ""} | _words_of_subjects(spec)
    return [
        GenerationWarning(code, sentence.format(quote(match[0])), pointer)
        for pointer, text in texts.items()
        for code, pattern, sentence in _FOREIGN_SYNTAX
        if (match := pattern.search(text)) is not None
    ]


def _stretch_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Masks and start pictures of quite another shape than the result, over which they are stretched."""
    if spec.height is None or spec.width is None:
        return []
    pictures: list[tuple[str, str, Image.Image]] = [
        ("mask", f"/subjects/{index}/mask", subject.mask)
        for index, subject in enumerate(spec.subjects)
        if subject.mask is not None
    ]
    if spec.start is not None:
        pictures.append(("start", "/start/image", spec.start.image))
    warnings: list[GenerationWarning] = []
    for kind, pointer, picture in pictures:
        width, height = picture.size
        stretch = (width * spec.height) / (height * spec.width)
        if max(stretch, 1 / stretch) > 1 + _STRETCH_TOLERANCE:
            detail = (
                f"The {kind} picture has {width} x {height} pixels; it is stretched to {spec.width} x {spec.height}."
            )
            warnings.append(GenerationWarning(f"{kind}_stretched", detail, pointer))
    return warnings


def _layout_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Auto layout whose places would act only after the last call of the UNet."""
    calls = _num_calls(spec)
    if spec.layout is None or calls is None or spec.layout.start_step <= calls:
        return []
    detail = (
        f"The auto layout takes effect from step {spec.layout.start_step}, but this picture has only {calls} steps; "
        "choose a smaller start_step, or more steps."
    )
    return [GenerationWarning("layout_too_late", detail, "/layout/start_step")]


def _time_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Subjects between whose start and end no call of the UNet lies."""
    calls = _num_calls(spec)
    if calls is None:
        return []
    detail = (
        "None of the {} steps of this picture is from {:g} up to {:g}, so this subject never acts; widen that range, or use more "
        "steps."
    )
    return [
        GenerationWarning(
            "subject_never_acts", detail.format(calls, subject.start, subject.end), f"/subjects/{index}/end"
        )
        for index, subject in enumerate(spec.subjects)
        if not any(subject.acts_at(step, calls) for step in range(calls))
    ]


def _num_calls(spec: GenerationSpec) -> int | None:
    """How often the UNet is called; ``None`` where it is not known, or nothing is left to do."""
    try:
        return spec.num_unet_calls
    except InvalidInputError:
        return None


def _count_warnings(spec: GenerationSpec, card: ModelCard) -> list[GenerationWarning]:
    """More subjects with pictures than the model was trained with."""
    count = sum(1 for subject in spec.subjects if subject.images)
    if count <= card.max_subjects:
        return []
    detail = (
        f"The model {card.name} was trained with at most {card.max_subjects} subjects, not {count}; expect mix-ups."
    )
    return [GenerationWarning("too_many_subjects", detail, "/subjects")]


def _size_warnings(spec: GenerationSpec, card: ModelCard) -> list[GenerationWarning]:
    """A picture whose area or shape is far from all usual ones of the model."""
    if not card.sizes or spec.height is None or spec.width is None:
        return []
    area, shape = spec.height * spec.width, spec.width / spec.height
    shapes = [width / height for height, width in card.sizes]
    low, high = _USUAL_AREAS
    has_usual_area = any(low <= area / (height * width) <= high for height, width in card.sizes)
    if has_usual_area and min(shapes) / _SHAPE_TOLERANCE <= shape <= max(shapes) * _SHAPE_TOLERANCE:
        return []
    height, width = min(card.sizes, key=lambda size: abs(math.log(size[1] / size[0] / shape)))
    detail = (
        f"{spec.width} x {spec.height} pixels are far from the sizes this model was trained on; expect repeated or "
        f"deformed objects. For this shape, {width} x {height} works best."
    )
    return [GenerationWarning("unusual_size", detail, "/height")]
