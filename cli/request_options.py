"""How subjects, LoRAs, ControlNets and start pictures are written on a command line, and the JSON that they become."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Edges from 0 to 1 may miss the frame by rounding, but not by so much.
_CERTAINLY_PIXELS = 2
_WHOLE_NUMBER = r"-?\d+"
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# Only behind a picture's ending do "+" and "@" part it from the next one: other names may hold them.
_PICTURE_ENDS = r"(?:(?<=\.png)|(?<=\.jpg)|(?<=\.jpeg)|(?<=\.webp))"
_FLAGS = r"(?P<flags>(?:;\s*[a-z_]+\s*(?:=[^;]*)?)*)"
_BOX = rf"(?:@(?P<box>{_NUMBER}(?:,{_NUMBER}){{3}})(?P<pixels>px)?)?"
_SCALE = rf"(?:\*(?P<scale>{_NUMBER}))?"
_OWN_WORDS = r";\s*prompt\s*="
# The "=" of a subject's own words parts no phrase from a picture.
_SUBJECT = re.compile(
    rf"(?P<phrase>(?:(?!{_OWN_WORDS})[^=])+)=(?P<paths>(?!;).+?)(?:{_PICTURE_ENDS}@(?P<mask>.+?){_PICTURE_ENDS})?"
    rf"{_BOX}{_SCALE}{_FLAGS}",
    re.IGNORECASE,
)
# A subject of words alone has no picture before its box.
_WORDS_ALONE = re.compile(
    rf"(?=.*{_OWN_WORDS})(?P<phrase>[^=@;*]+)(?:@(?P<mask>[^=@;]+{_PICTURE_ENDS}))?{_BOX}{_SCALE}{_FLAGS}",
    re.IGNORECASE | re.DOTALL,
)
_CONTROL = re.compile(rf"(?P<name>[^=]+)=(?P<path>.+?)(?:\*(?P<scale>{_NUMBER}))?{_FLAGS}", re.IGNORECASE)
_LORA = re.compile(rf"(?P<name>[^:]+)(?::(?P<weight>{_NUMBER}))?")

SUBJECT_FORM = (
    "phrase=picture.png@x_min,y_min,x_max,y_max (box from 0 to 1, or in pixels with px at its end; add a strength with, "
    "for example, *0.8)"
)
SUBJECT_MORE = (
    "Several pictures: a.png+b.png. A painted mask: @mask.png, instead of the box or before it. At the end, each "
    "after a semicolon: cutout, scene, z=1 (in front), feather=0.05 (soft edge), start=0.2 and end=0.8 (when it acts), "
    "prompt=a cat in the rain (its own words, in place of the prompt where it stands; then =picture.png may be left out)"
)
CONTROL_FORM = "name=picture.png (add a strength with, for example, *0.7, and when it acts with ;start=0.1;end=0.8)"
LORA_FORM = "name or name:weight, such as paper:0.8"

# Where a field of a request stands on the command line.
_OPTION_OF_FIELD = {
    "prompt": "PROMPT",
    "subjects": "--subject",
    "negative_prompt": "--negative-prompt",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "scale": "--scale",
    "seed": "--seed",
    "width": "--width",
    "height": "--height",
    "num_images": "--num-images",
    "preset": "--preset",
    "loras": "--lora",
    "controls": "--control",
    "start": "--start",
    "start/strength": "--strength",
    "start/redraw": "--redraw",
    "scheduler": "--scheduler",
    "timestep_spacing": "--timestep-spacing",
    "layout": "--auto-layout",
    "score": "--score",
    "retries": "--retries",
    "output_format": "--output-format",
    "quality": "--quality",
}
# Options that are given once for each item of the field.
_REPEATED = ("subjects", "loras", "controls")
_PART_OF_OPTION = {"z_index": "z", "image": "picture", "images": "pictures"}


class CommandError(Exception):
    """What was asked for cannot be done; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class SubjectOption:
    """One ``--subject``.

    Attributes:
        phrase: the words that name it.
        paths: its pictures: files, or https addresses, which the service fetches if it may; none if it has words alone.
        box: normalised xyxy, or with ``in_pixels`` in pixels of the result.
        scale: its strength.
        mask: a picture of its place.
        feather, z_index, scene, cutout, start, end, prompt: as in ``ms_core.spec.Subject``; ``None`` where not given.
    """

    phrase: str
    paths: tuple[Path | str, ...]
    box: tuple[float, ...] | None = None
    scale: float | None = None
    mask: Path | str | None = None
    feather: float | None = None
    z_index: int | None = None
    scene: bool | None = None
    cutout: bool | None = None
    start: float | None = None
    end: float | None = None
    prompt: str | None = None
    in_pixels: bool = False

    def to_json(self) -> dict[str, Any]:
        """The subject as the API takes it.

        Raises:
            CommandError: a picture cannot be read.
        """
        pictures = [_sent(path) for path in self.paths]
        box = None if self.box is None else list(self.box)
        values = {
            "box": {"pixels": box} if self.in_pixels else box,
            "scale": self.scale,
            "mask": None if self.mask is None else _sent(self.mask),
            "feather": self.feather,
            "z_index": self.z_index,
            "scene": self.scene,
            "cutout": self.cutout,
            "start": self.start,
            "end": self.end,
            "prompt": self.prompt,
        }
        look = {"image": pictures[0]} if len(pictures) == 1 else {"images": pictures} if pictures else {}
        return {"phrase": self.phrase, **look, **_given(values)}

    def normalised_box(self, size: tuple[int, int]) -> tuple[float, ...]:
        """Its box from 0 to 1 in a picture of this width and height; empty without one."""
        sides = (*size, *size) if self.in_pixels else (1, 1, 1, 1)
        return tuple(value / side for value, side in zip(self.box or (), sides, strict=False))


@dataclass(frozen=True, slots=True)
class ControlOption:
    """One ``--control``: the ControlNet's name, its picture, its strength, and when it acts, from 0 to 1."""

    name: str
    path: Path | str
    scale: float | None = None
    start: float | None = None
    end: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The control as the API takes it.

        Raises:
            CommandError: the picture cannot be read.
        """
        values = {"scale": self.scale, "start": self.start, "end": self.end}
        return {"name": self.name, "image": _sent(self.path), **_given(values)}


def local_path(text: str) -> Path:
    """The path, with ``~`` and ``~name`` replaced by that person's home; as it is where nobody has that name."""
    # Path.expanduser raises for a file such as "~cat.png".
    return Path(os.path.expanduser(text))


def picture_at(text: str) -> Path | str:
    """Where an option says that a picture is: a file, or an https address as it is."""
    return text if text.lower().startswith("https://") else local_path(text)


def parse_subject(option: str) -> SubjectOption:
    """Read one ``--subject``.

    Raises:
        CommandError: it does not have the right form.
    """
    match = _WORDS_ALONE.fullmatch(option) or _SUBJECT.fullmatch(option)
    paths = [] if match is None else _paths(match.groupdict().get("paths"))
    if match is None or not all(paths):
        raise CommandError(f"Cannot read the subject {option!r}; write it as {SUBJECT_FORM}. {SUBJECT_MORE}.")
    box = None if match["box"] is None else tuple(map(float, match["box"].split(",")))
    if box is not None and match["pixels"] is None and max(box) >= _CERTAINLY_PIXELS:
        raise CommandError(f"The box in {option!r} is not from 0 to 1; if it is in pixels, end it with px.")
    known = {
        "cutout": None,
        "scene": None,
        "z": int,
        "feather": float,
        "start": float,
        "end": float,
        "prompt": str,
    }
    flags = _read_flags(match["flags"], known, option)
    return SubjectOption(
        phrase=match["phrase"].strip(),
        paths=tuple(map(picture_at, paths)),
        box=box,
        scale=_number(match["scale"]),
        mask=None if match["mask"] is None else picture_at(match["mask"]),
        feather=flags.get("feather"),
        z_index=flags.get("z"),
        scene=flags.get("scene"),
        cutout=flags.get("cutout"),
        start=flags.get("start"),
        end=flags.get("end"),
        prompt=flags.get("prompt"),
        in_pixels=match["pixels"] is not None,
    )


def parse_control(option: str) -> ControlOption:
    """Read one ``--control``.

    Raises:
        CommandError: it does not have the right form.
    """
    match = _CONTROL.fullmatch(option)
    if match is None:
        raise CommandError(f"Cannot read the control {option!r}; write it as {CONTROL_FORM}.")
    flags = _read_flags(match["flags"], {"start": float, "end": float}, option)
    path = picture_at(match["path"])
    return ControlOption(match["name"].strip(), path, _number(match["scale"]), **flags)


def parse_lora(option: str) -> dict[str, Any]:
    """Read one ``--lora``, to what the API takes.

    Raises:
        CommandError: it does not have the right form.
    """
    match = _LORA.fullmatch(option)
    if match is None:
        raise CommandError(f"Cannot read the LoRA {option!r}; write it as {LORA_FORM}.")
    return {"name": match["name"].strip(), **_given({"weight": _number(match["weight"])})}


def start_to_json(
    path: Path | str | None, strength: float | None, redraw: Sequence[int], known: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """``--start``, ``--strength`` and ``--redraw`` as the API takes them.

    Args:
        known: what stands in the request already; the options change it.

    Raises:
        CommandError: the picture cannot be read, or is missing beside the others.
    """
    changes = _given({"strength": strength, "redraw": list(redraw) or None})
    if path is not None:
        return {"image": _sent(path), **changes}
    if changes and known is None:
        raise CommandError("--strength and --redraw need a picture to start from; give it with --start.")
    return {**known, **changes} if changes and known is not None else None


def option_of(pointer: str) -> str:
    """The option that gives the field with this JSON pointer, such as ``--subject 2 (box)``, counted from 1.

    A pointer to something that no option gives is returned as it is.
    """
    field, *below = pointer.removeprefix("/").split("/")
    if field in _REPEATED and below:
        position, *parts = below
        part = f" ({_PART_OF_OPTION.get(parts[0], parts[0])})" if parts else ""
        return f"{_OPTION_OF_FIELD[field]} {int(position) + 1}{part}"
    return _OPTION_OF_FIELD.get(f"{field}/{below[0]}" if below else "", _OPTION_OF_FIELD.get(field, pointer))


def refusal_lines(problems: Sequence[tuple[str, str]], detail: str) -> list[str]:
    """What to tell the user of a refused request, each sentence once.

    Args:
        problems: pointer and sentence of each field that cannot be used.
        detail: says the whole, if no field is named.
    """
    options: dict[str, list[str]] = {}
    for pointer, sentence in problems:
        options.setdefault(sentence, []).extend([option_of(pointer)] if pointer else [])
    lines = [
        f"{', '.join(dict.fromkeys(names))}: {sentence}" if names else sentence for sentence, names in options.items()
    ]
    return lines if len(lines) == 1 else [f"{len(lines)} errors:", *lines] if lines else [detail]


def data_uri(path: Path) -> str:
    """A file in the form in which the API takes pictures.

    Raises:
        CommandError: it cannot be read.
    """
    from msd_client import PictureError
    from msd_client.pictures import read_file

    try:
        return read_file(path).data_uri
    except PictureError as error:
        raise CommandError(error.detail) from error


def _sent(picture: Path | str) -> str:
    return picture if isinstance(picture, str) else data_uri(picture)


def _read_flags(text: str, known: Mapping[str, Callable[[str], Any] | None], option: str) -> dict[str, Any]:
    """What stands behind semicolons; ``known`` has the type of each, ``None`` for those without a value."""
    flags: dict[str, Any] = {}
    for part in text.split(";")[1:]:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        name = name.lower()
        if name not in known:
            raise CommandError(f"Unknown {name!r} in {option!r}; after a semicolon, use {', '.join(known)}.")
        read = known[name]
        if read is None:
            if equals:
                raise CommandError(f"{name!r} in {option!r} takes no value; write ;{name} alone.")
            flags[name] = True
        elif read is str:
            flags[name] = value
        elif re.fullmatch(_WHOLE_NUMBER if read is int else _NUMBER, value):
            flags[name] = read(value)
        else:
            kind = "a whole number" if read is int else "a number"
            raise CommandError(f"{name!r} in {option!r} needs {kind}, such as ;{name}=1.")
    return flags


def _paths(text: str | None) -> list[str]:
    """The pictures of a subject; none for one of words alone."""
    return [] if text is None else re.split(rf"{_PICTURE_ENDS}\+", text, flags=re.IGNORECASE)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is ``None``: the service knows what to take."""
    return {name: value for name, value in values.items() if value is not None}
