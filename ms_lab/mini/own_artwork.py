"""A user's own pictures as sprites: what each one shows, by its name, and what is wrong with those that are left out.

A picture's file is called what it shows (``red-teapot.png``, ``teapot_2.jpg``), or lies in a folder that is
(``teapot/1.png``). A transparent picture is a cut-out already; from any other its subject is cut out.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from ms_core.conditions.cutout import cut_out
from ms_core.errors import InvalidInputError
from ms_lab.mini.artwork import SPRITE_SIZE, build_packs, fit_square, has_icon_sets, phrase_of, render
from ms_lab.mini.sprites import Sprite, SpritePack

log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".svg"])
OTHER_PICTURES = frozenset([".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"])

MIN_PICTURES = 10
HELD_OUT_SHARE = 0.1
MIN_HELD_OUT = 4

# In pixels.
MIN_SUBJECT_SIDE = 48
MAX_PIXELS = 80_000_000
READ_SIDE = 1024

MAX_PHRASE = 40  # characters
COLUMNS = 10
ARTIST, LICENCE = "own", "LicenseRef-own"

# What cameras and programs call a picture of anything.
_NO_NAMES = frozenset(
    [
        "img",
        "dsc",
        "dscn",
        "dscf",
        "pxl",
        "mvimg",
        "image",
        "images",
        "picture",
        "pictures",
        "photo",
        "photos",
        "scan",
        "screenshot",
        "whatsapp",
    ]
    + ["untitled", "unnamed", "download", "copy", "from", "at", "of", "am", "pm"]
)


class UnfitPictureError(Exception):
    """Why one picture cannot be trained on, and what to do about it."""


@dataclass(frozen=True, slots=True)
class OwnArtwork:
    """A folder's pictures.

    Attributes:
        training, held_out: sprites to train on, and those kept for telemetry and sheets.
        left_out: one sentence for each picture that is in neither: its path in the folder, what is wrong, what to do.
    """

    training: SpritePack
    held_out: SpritePack
    left_out: tuple[str, ...]


def collect_artwork(folders: Sequence[Path]) -> tuple[SpritePack, SpritePack | None]:
    """All artwork of several folders: Iconify packages, own pictures, or both.

    Returns:
        what to train on, and what is held out of the user's own pictures; ``None`` if there are none of these.

    Raises:
        InvalidInputError: a folder is missing, or too few of its pictures can be used.
        ModelNotFoundError: a folder holds some but not all of the Iconify packages.
    """
    training: list[SpritePack] = []
    held_out: list[SpritePack] = []
    for folder in folders:
        if has_icon_sets(folder):
            training.append(build_packs(folder)[0])
            continue
        own = read_folder(folder)
        for sentence in own.left_out:
            log.warning("Left out: %s", sentence)
        training.append(own.training)
        held_out.append(own.held_out)
    return _joined(training), _joined(held_out) if held_out else None


def read_folder(folder: Path, size: int = SPRITE_SIZE) -> OwnArtwork:
    """The sprites of a folder of pictures; hidden files and folders are passed over.

    Args:
        folder: looked through with all its folders.
        size: side of the sprites, in pixels.

    Raises:
        InvalidInputError: it is not a folder, or fewer than ten of its pictures can be used; the sentence lists why.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"There is no folder {folder}; --artwork takes a folder of pictures.")
    rows: dict[str, tuple[Sprite, Image.Image]] = {}
    left_out: list[str] = []
    for path in _pictures(folder):
        name = path.relative_to(folder).as_posix()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            if digest in rows:
                raise UnfitPictureError(f"is the same file as {rows[digest][0].name}: keep one of them.")
            phrase = phrase_of_path(path.relative_to(folder))
            picture = read_picture(path, size)
        except UnfitPictureError as problem:
            left_out.append(f"{name} {problem}")
            continue
        rows[digest] = Sprite(ARTIST, name, f"{ARTIST}:{phrase}", phrase, digest, LICENCE), picture
    if len(rows) < MIN_PICTURES:
        raise InvalidInputError(_too_few(folder, len(rows), left_out))
    pack = SpritePack([sprite for sprite, _ in rows.values()], [picture for _, picture in rows.values()])
    kept_back = held_out_indexes(pack)
    rest = [index for index in range(len(pack)) if index not in kept_back]
    return OwnArtwork(pack.subset(rest), pack.subset(sorted(kept_back)), tuple(left_out))


def held_out_indexes(pack: SpritePack) -> frozenset[int]:
    """A tenth of the things in a pack, at least four, drawn by hash; of few things, pictures are drawn instead."""
    by_thing = len(pack.by_concept) >= MIN_PICTURES
    keys = [sprite.concept if by_thing else sprite.sha256 for sprite in pack.sprites]
    order = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    drawn = set(order[: max(MIN_HELD_OUT, round(HELD_OUT_SHARE * len(order)))])
    return frozenset(index for index, key in enumerate(keys) if key in drawn)


def draw_cutouts(packs: Sequence[SpritePack]) -> Image.Image:
    """The user's own sprites of some packs with their words, on grey, to see how each was cut out and what it is called."""
    own = [
        (sprite, picture)
        for pack in packs
        for sprite, picture in zip(pack.sprites, pack.pictures, strict=True)
        if sprite.artist == ARTIST
    ]
    side = SPRITE_SIZE + 16
    sheet = Image.new("RGB", (side * min(len(own), COLUMNS), side * math.ceil(len(own) / COLUMNS)), (128, 128, 128))
    draw = ImageDraw.Draw(sheet)
    for index, (sprite, picture) in enumerate(own):
        left, top = side * (index % COLUMNS), side * (index // COLUMNS)
        sheet.paste(picture, (left + 8, top), picture)
        draw.text((left + side // 2, top + SPRITE_SIZE + 8), sprite.phrase[:18], anchor="mm")
    return sheet


def phrase_of_path(path: Path) -> str:
    """The words for what a picture shows, from its path in the folder: its own folder's name, else the file's.

    Numbers at the end are left out, and colours, since colours are turned in training.

    Raises:
        UnfitPictureError: the names say nothing, or too much.
    """
    words = _words(path.parent.name) or _words(path.stem)
    if not words:
        raise UnfitPictureError("is not called what it shows: call it teapot.png, say, or put it into a folder teapot.")
    phrase = phrase_of("-".join(words))
    if len(phrase) > MAX_PHRASE:
        raise UnfitPictureError(f"has a name of {len(phrase)} letters; use one to three words, {MAX_PHRASE} at most.")
    return phrase


def _words(name: str) -> list[str]:
    """The words of a name without numbers; none if they are only what a camera or a program calls any picture."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    words = [re.sub(r"(?<=[^\W\d]{3})\d+$", "", word) for word in re.split(r"[^\w'’]|_", spaced.casefold())]
    words = [word for word in words if word and not word.isdigit()]
    return [] if set(words) <= _NO_NAMES else words


def read_picture(path: Path, size: int) -> Image.Image:
    """The subject of one picture: RGBA, square, of this side.

    Raises:
        UnfitPictureError: it cannot be read, is too small or too large, or its subject cannot be told apart.
    """
    if path.suffix.lower() in OTHER_PICTURES:
        raise UnfitPictureError("is of a kind that is not read: save it as PNG, JPEG, WebP or SVG.")
    if path.suffix.lower() == ".svg":
        return _render_svg(path, size)
    cut = cut_out(_open(path))
    if not cut.found:
        raise UnfitPictureError(
            "shows no subject that stands out from its surroundings: cut it out by hand and save it as a transparent PNG."
        )
    if max(cut.image.size) < MIN_SUBJECT_SIDE:
        raise UnfitPictureError(
            f"is too small: its subject has {max(cut.image.size)} pixels, and {MIN_SUBJECT_SIDE} are needed."
        )
    return fit_square(cut.image, size)


def _pictures(folder: Path) -> Iterator[Path]:
    """Files that are pictures by their suffix, sorted; nothing hidden."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and path.suffix.lower() in SUFFIXES | OTHER_PICTURES:
            yield path


def _open(path: Path) -> Image.Image:
    """A picture of at most 1024 pixels a side, decoded; its EXIF turn is still to be made."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UnfitPictureError(f"is too large: {picture.width} x {picture.height} pixels; make it smaller.")
            picture.draft(None, (READ_SIDE, READ_SIDE))
            picture.thumbnail((READ_SIDE, READ_SIDE))
            return picture.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnfitPictureError("cannot be read: open it in a picture program and save it again, as PNG.") from error


def _render_svg(path: Path, size: int) -> Image.Image:
    try:
        picture = render(path.read_text(encoding="utf-8"), size)
    except ModuleNotFoundError as error:
        raise UnfitPictureError("is an SVG drawing, which needs the package resvg-py: pip install resvg-py.") from error
    except ValueError as error:
        raise UnfitPictureError(f"is not an SVG drawing that can be rendered ({error}): save it as PNG.") from error
    if picture.getchannel("A").getbbox() is None:
        raise UnfitPictureError("is empty: nothing is drawn in it.")
    return picture


def _too_few(folder: Path, usable: int, left_out: Sequence[str]) -> str:
    """The refusal of a folder, with a line for each picture that was left out."""
    sentence = (
        f"{folder} has {usable} pictures that can be used, and {MIN_PICTURES} are needed; fifty or more are better."
    )
    return "\n  ".join([sentence, *left_out])


def _joined(packs: Sequence[SpritePack]) -> SpritePack:
    return SpritePack(
        [sprite for pack in packs for sprite in pack.sprites], [picture for pack in packs for picture in pack.pictures]
    )
