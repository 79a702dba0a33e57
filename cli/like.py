"""``msd generate --like``: the request that made a picture, read out of the picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.request_options import CommandError, local_path

if TYPE_CHECKING:
    from msd_client import Asset, Client

PICTURE_FORM = "picture.png, or for subject 0 (counted from 0) 0=picture.png"

_OF_SUBJECT = re.compile(r"(\d+)=(.+)")


def request_like(client: Client, path: Path, handed_in: Sequence[str]) -> dict[str, Any]:
    """The request that made a picture.

    Args:
        handed_in: each ``--picture``. The service knows them by their SHA-256; one of a subject that is none of its pictures
            takes their place.

    Raises:
        CommandError: the picture has no recipe, or the service does not have all pictures of the recipe.
        MsdError: the service does not answer, or refuses.
    """
    # First, so that they are not missing.
    assets = [_upload(client, option) for option in handed_in]
    found = client.inspect(path)
    if found.recipe is None:
        raise CommandError(f"{path}: {found.detail}")
    request = dict(found.recipe)
    for subject in sorted({subject for subject, _ in assets if subject is not None}):
        _place(request, subject, [asset for other, asset in assets if other == subject])
    gone = [place for place, name in _pictures(request) if name.removeprefix("sha256:") in found.missing]
    if gone:
        raise CommandError(
            f"The service no longer has {', '.join(gone)} of {path}; hand in each file again with --picture."
        )
    return request


def _upload(client: Client, option: str) -> tuple[int | None, Asset]:
    """The number of the subject, if any, and the uploaded picture of a ``--picture``."""
    match = _OF_SUBJECT.fullmatch(option)
    subject, path = (None, option) if match is None else (int(match[1]), match[2])
    return subject, client.upload(local_path(path))


def _place(request: dict[str, Any], index: int, assets: Sequence[Asset]) -> None:
    """Let a subject have these pictures, unless they are among its own."""
    subjects = list(request["subjects"])
    if index >= len(subjects):
        raise CommandError(f"--picture {index}=...: the recipe has {len(subjects)} subjects, counted from 0.")
    own = {name for _, name in _pictures_of_subject(index, subjects[index])}
    if all(f"sha256:{asset.sha256}" in own for asset in assets):
        return
    others = {name: value for name, value in subjects[index].items() if name not in ("image", "images")}
    subjects[index] = others | {"images": [asset.reference for asset in assets]}
    request["subjects"] = subjects


def _pictures(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each picture of a request: where it stands, and how it is named."""
    for index, subject in enumerate(request["subjects"]):
        yield from _pictures_of_subject(index, subject)
        if "mask" in subject:
            yield f"the mask of subject {index}", subject["mask"]
    for index, control in enumerate(request.get("controls", ())):
        yield f"the picture of control {index}", control["image"]
    if "start" in request:
        yield "the start picture", request["start"]["image"]


def _pictures_of_subject(index: int, subject: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names = [subject["image"]] if "image" in subject else subject.get("images", ())
    for number, name in enumerate(names):
        yield f"picture {number} of subject {index}" if len(names) > 1 else f"the picture of subject {index}", name
