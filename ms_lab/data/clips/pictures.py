"""Folders of pictures to clips: each picture alone, or all of them as the frames of one clip."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.spec.picture_notes import check_visible
from ms_core.spec.plain_pictures import decoding, plain
from ms_lab.data.clips.shots import Look, equally_distant, make_clip
from ms_lab.data.config import ClipConfig
from ms_lab.data.items import Clip, Pixels, Source, content_id
from ms_lab.data.sources import Footage, Notes, SourceError

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "GIF")
_WHITE = (255, 255, 255)


def clips_of_pictures(
    footage: Footage, source: Source, notes: Notes, config: ClipConfig
) -> Iterator[Clip | tuple[str, SourceError]]:
    """The clips of a folder; for a picture that cannot be used, its name and what is wrong.

    Captions of the notes are already in the frames.
    """
    looks: list[Look] = []
    for number, path in enumerate(footage.pictures()):
        try:
            pixels = read_picture(path, config)
        except SourceError as error:
            yield path.name, error
            continue
        if config.pictures == "frames":
            looks.append(Look(number / config.picture_frames_per_s, pixels))
        else:
            yield _alone(path, source, pixels, notes.pictures.get(path.name, ""))
    if looks:
        end_s = looks[-1].time_s + 1 / config.picture_frames_per_s
        chosen = equally_distant([look.time_s for look in looks], 0.0, end_s, config.frames_per_clip)
        yield make_clip(source, 0.0, end_s, [looks[index] for index in chosen])


def read_picture(path: Path, config: ClipConfig) -> Pixels:
    """A picture as upright RGB, transparent parts on white, made smaller to ``max_side``.

    Raises:
        SourceError: it is refused, as the service would refuse it.
    """
    try:
        if path.stat().st_size == 0:
            raise SourceError("zero_length", "The file is empty.")
        # Pillow warns of large pictures; the limit below is ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                _check_kind(opened, config.max_pixels)
                with decoding():
                    picture = plain(opened)
        check_visible(picture)
    except SourceError:
        raise
    except Image.DecompressionBombError as error:
        raise SourceError("too_large", "The picture has too many pixels.") from error
    except Image.UnidentifiedImageError as error:
        raise SourceError("no_picture", "The file is no picture of a format that is read.") from error
    except (OSError, InvalidInputError) as error:
        raise SourceError("damaged", getattr(error, "detail", None) or f"It cannot be read: {error}.") from error
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (*_WHITE, 255)), picture)
    picture = picture.convert("RGB")
    picture.thumbnail((config.max_side, config.max_side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _check_kind(opened: Image.Image, max_pixels: int) -> None:
    if opened.width * opened.height > max_pixels:
        raise SourceError("too_large", f"The picture has more than {max_pixels} pixels.")
    if getattr(opened, "is_animated", False):
        raise SourceError("animated", "The picture is animated.")


def _alone(path: Path, source: Source, pixels: Pixels, caption: str) -> Clip:
    """A clip of one frame, whose ids and content are of the picture's own bytes: a folder may grow, and what was erased stays out."""
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    alone = Source(source.id, own, source.licence, source.provenance)
    clip = make_clip(alone, 0.0, 0.0, [Look(0.0, pixels)])
    frame = clip.frames[0]
    named = type(frame)(frame.id, frame.clip, frame.time_s, frame.pixels, caption)
    return Clip(content_id("picture", own), alone, 0.0, 0.0, (named,))
