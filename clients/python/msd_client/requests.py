"""Requests for pictures: what a caller writes, and the JSON that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Literal, TypedDict, cast

from msd_client.pictures import PictureFile, PictureSource, read_picture

# Normalised x_min, y_min, x_max, y_max from the top left corner; or a mapping as the API takes it: {"pixels": [...]} or
# {"xywh": [...]}.
Box = Sequence[float] | Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that the picture is to show; what is left out takes the service's defaults.

    Attributes:
        phrase: the words that name it, ideally exactly as in the prompt.
        image: its picture, or several of it.
        cast: a name of the service's cast, which stands for both; what is given beside it wins.
        box: where it stands; not needed with a mask, for a scene, or with the auto layout.
        mask: a painted mask instead, white where the subject may be.
        scale: its strength.
        feather: width of the soft edge, as a fraction of the picture's shorter side.
        z_index: where subjects overlap, the one with the higher number is in front.
        scene: the picture shows a whole scene and fills the result.
        cutout: cut the subject out of its pictures first.
        start, end: when it acts, as fractions of the denoising.
        prompt: what the picture shows where it stands, in place of the request's prompt; with it, a picture may be left out.
    """

    phrase: str | None = None
    image: PictureSource | Sequence[PictureSource] | None = None
    _: KW_ONLY
    cast: str | None = None
    box: Box | None = None
    mask: PictureSource | None = None
    scale: float | None = None
    feather: float | None = None
    z_index: int | None = None
    scene: bool | None = None
    cutout: bool | None = None
    start: float | None = None
    end: float | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that acts on this picture only; the names are in ``Model.abilities``."""

    name: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet that follows a picture of exactly the result's size, from ``start`` to ``end`` (0 to 1)."""

    name: str
    image: PictureSource
    _: KW_ONLY
    scale: float | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A picture to start from: how much of it may change, and which subjects alone, counted from 0."""

    image: PictureSource
    _: KW_ONLY
    strength: float | None = None
    redraw: Sequence[int] | None = None


class Options(TypedDict, total=False):
    """The other fields of a request, as the API's documentation explains them."""

    negative_prompt: str | None
    width: int | None
    height: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    scale: float | None
    seed: int | None
    layout: Mapping[str, Any] | str | None
    grounding: bool
    scheduler: str | None
    timestep_spacing: str | None
    preset: str | None
    loras: Sequence[Lora | Mapping[str, Any]]
    controls: Sequence[Control | Mapping[str, Any]]
    start: Start | Mapping[str, Any] | None
    score: bool
    retries: int
    num_images: int
    previews: bool
    output_format: Literal["png", "webp", "jpeg"]
    quality: int | None


_PARTS = (Subject, Lora, Control, Start)
_SEVERAL = (list, tuple)


def request_json(prompt: str, subjects: Sequence[Subject | Mapping[str, Any]], options: Options) -> dict[str, Any]:
    """Make a request whose pictures are ``PictureFile``s or texts.

    Raises:
        PictureError: a picture cannot be read.
    """
    return _plain({"prompt": prompt, "subjects": subjects, **options})


def with_pictures(request: Any, place: Callable[[PictureFile], str]) -> Any:
    """A request of ``request_json`` with the text of ``place`` for each of its pictures."""
    if isinstance(request, PictureFile):
        return place(request)
    if isinstance(request, Mapping):
        return {name: with_pictures(value, place) for name, value in cast("Mapping[str, Any]", request).items()}
    if isinstance(request, _SEVERAL):
        return [with_pictures(value, place) for value in cast("Sequence[Any]", request)]
    return request


def pictures_of(request: Any) -> list[PictureFile]:
    """The pictures of a request that are still to be sent."""
    found: list[PictureFile] = []

    def note(picture: PictureFile) -> str:
        found.append(picture)
        return ""

    with_pictures(request, note)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, _PARTS):
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        return _plain({name: part for name, part in given.items() if part is not None})
    if isinstance(value, Mapping):
        named = cast("Mapping[str, Any]", value)
        return dict(item for name, part in named.items() for item in _fields(name, part))
    if isinstance(value, _SEVERAL):
        return [_plain(part) for part in cast("Sequence[Any]", value)]
    return value


def _fields(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A field as it is sent: ``image`` may hold several pictures here, which the API calls ``images``."""
    if value is None or name not in ("image", "images", "mask"):
        yield name, _plain(value)
    elif isinstance(value, _SEVERAL):
        yield "images", [read_picture(source) for source in cast("Sequence[PictureSource]", value)]
    else:
        yield name, read_picture(value)
