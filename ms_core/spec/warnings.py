"""What the user should know of a request before a picture is made; what needs a tokenizer or torch is found later."""

from __future__ import annotations

import math
import re

from PIL import Image

from ms_core.config import ModelCard
from ms_core.errors import InvalidInputError
from ms_core.spec.generation import GenerationSpec, GenerationWarning
from ms_core.spec.picture_warnings import picture_warnings

# "(red:1.3)", but not "(at 10:30)".
_WEIGHTED = re.compile(r"\([^()]+?(?:(?<!\d):\s*[+-]?\d+|:\s*[+-]?\d*\.\d+)\s*\)")
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
    warnings = [*_phrase_warnings(spec), *_weight_warnings(spec), *_stretch_warnings(spec), *_layout_warnings(spec)]
    warnings += picture_warnings(spec, card)
    if card is not None:
        warnings += [*_count_warnings(spec, card), *_size_warnings(spec, card)]
    return warnings


def _phrase_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Phrases that the prompt does not hold; with auto layout they are errors."""
    if spec.layout is not None:
        return []
    return [
        GenerationWarning(
            "phrase_not_found",
            f"The prompt does not contain {quote(subject.phrase)}; the picture follows the words better if it does.",
            f"/subjects/{index}/phrase",
        )
        for index, (subject, span) in enumerate(zip(spec.subjects, spec.phrase_spans, strict=True))
        if span is None
    ]


def _weight_warnings(spec: GenerationSpec) -> list[GenerationWarning]:
    """Prompt weights, as other programs have them; here the 77 tokens of the training are read as they stand."""
    texts = {"/prompt": spec.prompt, "/negative_prompt": spec.negative_prompt or ""}
    found = {pointer: _WEIGHTED.search(text) for pointer, text in texts.items()}
    return [
        GenerationWarning(
            "prompt_weights_ignored",
            f"Prompt weights are not supported: the brackets and number in {quote(match[0])} are read as plain text; "
            "leave them out.",
            pointer,
        )
        for pointer, match in found.items()
        if match is not None
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
    try:
        calls = spec.num_unet_calls
    except InvalidInputError:
        return []
    if spec.layout is None or calls is None or spec.layout.start_step <= calls:
        return []
    detail = (
        f"The auto layout takes effect from step {spec.layout.start_step}, but this picture has only {calls} steps; "
        "choose a smaller start_step, or more steps."
    )
    return [GenerationWarning("layout_too_late", detail, "/layout/start_step")]


def _count_warnings(spec: GenerationSpec, card: ModelCard) -> list[GenerationWarning]:
    """More subjects than the model was trained with."""
    count = len(spec.subjects)
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
