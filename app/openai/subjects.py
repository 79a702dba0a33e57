"""The subjects of a request to OpenAI's interface: as a list, or as flat phrases and boxes beside the pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from app.openai.reading import json_of, require_no_object
from ms_core.errors import InvalidInputError, PictureError
from ms_core.spec.limits import MAX_PHRASE_CHARACTERS

NO_BOXES = "no boxes were sent, so the subjects stand side by side"
NO_PHRASES = (
    "no phrases were sent, so the prompt stands for each subject; name them with phrases, in the order of the pictures"
)
# Of the picture, around each subject of those that stand side by side.
_SIDE_MARGIN, _TOP, _BOTTOM = 0.1, 0.2, 0.8
_NUMBERS = re.compile(r"[\s,]+")
# What has one of these takes no picture unless it names it.
_COMPLETE = ("image", "images", "cast", "prompt")


@dataclass(slots=True)
class Subjects:
    """Subjects as ``POST /generate`` takes them.

    Attributes:
        warnings: what was assumed.
        names: where what has a pointer in the request was sent.
    """

    items: list[Any]
    warnings: list[str] = field(default_factory=list[str])
    names: dict[str, str] = field(default_factory=dict[str, str])


def read_subjects(document: Mapping[str, Any], pictures: Sequence[str]) -> Subjects:
    """Read the subjects of a request, each with its picture.

    Args:
        document: with ``subjects``, or with ``phrases`` and ``boxes``; its other parts as ``named_pictures`` gives them.
        pictures: the texts by which the request names the pictures that were sent, in their order.

    Raises:
        HTTPProblem: a field is not what it should be.
        InvalidInputError: there are too few or too many of something.
    """
    if "subjects" in document:
        if {"phrases", "boxes"} & document.keys():
            raise InvalidInputError("Send subjects, or phrases and boxes, not both.", "/subjects")
        used = set(_texts([document.get("controls"), document.get("start")]))
        subjects = Subjects(_with_pictures(_list_of(document["subjects"]), pictures, used))
    else:
        subjects = _flat(document, pictures)
    _place(subjects, document)
    return subjects


def _list_of(value: Any) -> list[Any]:
    """The list that a body holds, or a JSON string of it; a list of one may have become its item."""
    parsed = json_of(value, "subjects") if isinstance(value, str) else value
    if isinstance(parsed, dict):
        return [cast("dict[str, Any]", parsed)]
    if not isinstance(parsed, list):
        raise InvalidInputError("subjects is a list of objects, each with phrase, picture and box.", "/subjects")
    items = cast("list[Any]", parsed)
    for item in items:
        require_no_object(item, "subjects")
    return [json_of(item, "subjects") if isinstance(item, str) else item for item in items]


def _with_pictures(items: list[Any], pictures: Sequence[str], used: set[str]) -> list[Any]:
    """Subjects with their pictures: those that they name by number, the others in order, without the ``used`` ones.

    A subject with words of its own may need no picture, so it takes none that it does not name.
    """
    named = [_with_named(item, pictures, f"/subjects/{index}") for index, item in enumerate(items)]
    used = used | set(_texts(named))
    left = iter([picture for picture in pictures if picture not in used])
    result: list[Any] = []
    for index, item in enumerate(named):
        if isinstance(item, dict) and not any(item.get(name) is not None for name in _COMPLETE):
            picture = next(left, None)
            if picture is None:
                raise PictureError(_too_few(len(items), len(pictures)), f"/subjects/{index}/image")
            result.append({**item, "image": picture})
        else:
            result.append(item)
    if (unused := next(left, None)) is not None:
        detail = f"{_counted(len(pictures), 'picture')} for {_counted(len(items), 'subject')}: picture"
        number = list(pictures).index(unused)
        detail += f" {number}, counted from 0, belongs to none; send as many as subjects need, and in a subject with a "
        detail += f'prompt name its own, such as "image": {number}.'
        raise PictureError(detail, "/image")
    return result


def _with_named(item: Any, pictures: Sequence[str], pointer: str) -> Any:
    """A subject, or another part of a request, with pictures in place of their numbers."""
    if not isinstance(item, dict):
        return item
    result = dict(cast("dict[str, Any]", item))
    for name in ("image", "mask"):
        if name in result:
            result[name] = _picture(result[name], pictures, f"{pointer}/{name}")
    if isinstance(result.get("images"), list):
        result["images"] = [
            _picture(value, pictures, f"{pointer}/images/{index}") for index, value in enumerate(result["images"])
        ]
    return result


def _picture(value: Any, pictures: Sequence[str], pointer: str) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 0 <= value < len(pictures):
        raise PictureError(
            f"There is no picture {value}; {_counted(len(pictures), 'picture')} came, from 0 on.", pointer
        )
    return pictures[value]


def named_pictures(document: Mapping[str, Any], pictures: Sequence[str]) -> dict[str, Any]:
    """Controls and start picture, with pictures in place of their numbers."""
    given: dict[str, Any] = {}
    if isinstance(controls := document.get("controls"), list):
        given["controls"] = [
            _with_named(item, pictures, f"/controls/{index}") for index, item in enumerate(cast("list[Any]", controls))
        ]
    if "start" in document:
        given["start"] = _with_named(document["start"], pictures, "/start")
    return given


def _texts(value: Any) -> Iterator[str]:
    """All texts in a list or an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in cast("Any", value.values() if isinstance(value, dict) else value):
            yield from _texts(item)


def _flat(document: Mapping[str, Any], pictures: Sequence[str]) -> Subjects:
    """Subjects of pictures, phrases and boxes that stand in the same order."""
    if not pictures:
        raise PictureError(
            "No picture was sent: send each subject's as image, or subjects with pictures as data URIs.", "/image"
        )
    phrases, boxes = (_one_each(document, name, len(pictures)) for name in ("phrases", "boxes"))
    prompt = document.get("prompt")
    default = prompt[:MAX_PHRASE_CHARACTERS].strip() if isinstance(prompt, str) else prompt
    items = [
        {"phrase": default if phrases is None else phrases[index], "image": picture}
        | ({} if boxes is None else {"box": _box(boxes[index], index)})
        for index, picture in enumerate(pictures)
    ]
    names: dict[str, str] = {}
    for index in range(len(pictures)):
        below = f"/subjects/{index}"
        names |= {f"{below}/image": f"/image/{index}", f"{below}/box": f"/boxes/{index}"}
        names[f"{below}/phrase"] = "/prompt" if phrases is None else f"/phrases/{index}"
    return Subjects(items, [NO_PHRASES] if phrases is None else [], names)


def _one_each(document: Mapping[str, Any], name: str, count: int) -> list[Any] | None:
    """A list of one value for each picture; a list of one may have become its value."""
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json_of(value, name)
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    if name == "boxes" and items and all(isinstance(item, (int, float)) for item in items):
        items = [items]
    for item in items:
        require_no_object(item, name)
    if len(items) != count:
        counted = f"{len(items)} {name} for {_counted(count, 'picture')}"
        raise InvalidInputError(f"{counted}: send one for each, in the order of the pictures.", f"/{name}")
    return items


def _box(value: Any, index: int) -> Any:
    """A box as the request takes it; texts may be JSON or four numbers."""
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] in ("[", "{"):
        return json_of(value, "boxes")
    try:
        return [float(number) for number in _NUMBERS.split(value.strip())]
    except ValueError as error:
        detail = 'A box is four numbers from 0 to 1, such as "0.05,0.3,0.45,0.8": left, top, right, bottom.'
        raise InvalidInputError(detail, f"/boxes/{index}") from error


def _place(subjects: Subjects, document: Mapping[str, Any]) -> None:
    """Put subjects side by side if the request says nothing of any place."""
    items = [cast("dict[str, Any]", item) for item in subjects.items if isinstance(item, dict)]
    has_places = any(item.get(name) for item in items for name in ("box", "mask", "scene"))
    if has_places or not items or len(items) < len(subjects.items) or document.get("layout") not in (None, "boxes"):
        return
    for index, item in enumerate(items):
        item["box"] = _side_by_side(index, len(items))
    subjects.warnings.append(NO_BOXES)


def _side_by_side(index: int, count: int) -> list[float]:
    """The box of one of several subjects, from left to right."""
    left, right = (index + _SIDE_MARGIN) / count, (index + 1 - _SIDE_MARGIN) / count
    return [round(left, 4), _TOP, round(right, 4), _BOTTOM]


def _too_few(subjects: int, pictures: int) -> str:
    counted = f"{_counted(subjects, 'subject')}, but {_counted(pictures, 'picture')}"
    return f"{counted}: send one for each, in their order, or name one by its number from 0 on."


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
