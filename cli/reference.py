"""``msd reference``: see what the model will see of reference pictures."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Force, require_new_file
from ms_core.errors import InvalidInputError, PictureError, StartupError

if TYPE_CHECKING:
    from PIL import Image

    from ms_core.conditions.references import SeenPicture

_METHODS = {
    None: "used as it is",
    "alpha": "cut out by its own transparency",
    "rembg": "cut out by rembg",
    "grabcut": "cut out by GrabCut",
}
_NOT_FOUND = "no subject stands out, so the whole picture is used; give one with a plain or transparent background"


def reference(
    pictures: Annotated[list[Path], typer.Argument(help="One or several pictures of a subject.", show_default=False)],
    cutout: Annotated[
        bool, typer.Option("--cutout", help="Cut the subject out, as a request with cutout does.")
    ] = False,
    model: Annotated[str, typer.Option(help="A model's name, or the path of a model directory.")] = "mini",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to save the picture, as a PNG.")] = Path("seen.png"),
    force: Force = False,
) -> None:
    """Save exactly the pixels that the model's image encoder sees, side by side. Loads no weights."""
    from ms_core.conditions.references import ReferencePreprocessor, preview
    from ms_core.config import ModelCard
    from worker.models import find_model

    require_new_file(out, force)
    directory = find_model(model).directory
    preprocessor = ReferencePreprocessor.load(directory / "image_encoder", ModelCard.load(directory).reference)
    seen = [preprocessor.see(_read(path), cutout) for path in pictures]
    try:
        preview(seen).save(out, "PNG")
    except OSError as error:
        raise StartupError(f"{out} cannot be written ({error.strerror}); choose another with --out.") from error
    for path, picture in zip(pictures, seen, strict=True):
        typer.echo(f"{path}: {_describe(picture)}")
    side = seen[0].image.width
    typer.echo(f"{out}: what {model} sees, {side} x {side} pixels each")


def _read(path: Path) -> Image.Image:
    """A picture as the service would store it.

    Raises:
        PictureError, PictureTooLargeError: it cannot be read; the sentence names the file.
    """
    from app.requests.decoding import PictureLimits
    from app.requests.pictures import SentPictures

    try:
        encoded = base64.b64encode(path.read_bytes()).decode()
        return SentPictures(PictureLimits()).read(f"data:;base64,{encoded}", "shown")
    except OSError as error:
        raise PictureError(f"Cannot read the picture {path}: {error.strerror}.") from error
    except InvalidInputError as error:
        raise type(error)(f"{path}: {error.detail}") from error


def _describe(picture: SeenPicture) -> str:
    return _METHODS[picture.method] if picture.found else _NOT_FOUND
