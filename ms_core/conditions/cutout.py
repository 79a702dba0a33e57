"""A subject cut out of its picture: by the picture's own transparency, by ``rembg``, or by GrabCut."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageChops

from ms_core.spec.plain_pictures import plain

log = logging.getLogger(__name__)

Method = Literal["alpha", "rembg", "grabcut"]

OPAQUE_ENOUGH = 128
# Parts of the picture; fewer clear pixels are rounded corners or stains.
MIN_CLEAR = 0.05
MIN_SUBJECT = 0.005

# Alpha below this, of 255, does not count for the subject's bounds.
FAINTEST = 32
MARGIN = 0.05  # of the bounds' longer side

# rembg's models for subjects of all kinds, its own default first.
REMBG_MODELS = (
    "bria-rmbg",
    "birefnet-general",
    "birefnet-general-lite",
    "isnet-general-use",
    "u2net",
    "silueta",
    "u2netp",
)


@dataclass(frozen=True, slots=True)
class Cutout:
    """A picture without its surroundings.

    Attributes:
        image: RGBA: the subject with a margin of 5 % of its longer side; the whole picture if none was found.
        method: what was tried last.
        found: whether there is a subject that stands out.
    """

    image: Image.Image
    method: Method
    found: bool


def cut_out(image: Image.Image) -> Cutout:
    """Cut the subject out of a picture of any size and mode, turned by its EXIF tag.

    Transparency is taken as it is if it leaves a part of the picture clear. Else ``rembg`` looks for the subject, if the
    user has installed it and downloaded one of its models; nothing is downloaded here. Else GrabCut does.
    """
    picture = upright_rgba(image)
    alpha = picture.getchannel("A")
    if _means_something(alpha):
        return Cutout(_crop(picture), "alpha", found=True)
    on_white = Image.new("RGBA", picture.size, "white")
    on_white.alpha_composite(picture)
    method, mask = _find_mask(on_white.convert("RGB"))
    if mask is None:
        return Cutout(picture, method, found=False)
    picture.putalpha(ImageChops.darker(mask, alpha))
    return Cutout(_crop(picture), method, found=True)


def upright_rgba(image: Image.Image) -> Image.Image:
    """A copy of a picture of any mode, turned by its EXIF tag, in sRGB; RGBA."""
    return plain(image).convert("RGBA")


def _means_something(alpha: Image.Image) -> bool:
    """Whether a picture's alpha separates a subject from clear surroundings."""
    opaque = sum(alpha.histogram()[OPAQUE_ENOUGH:]) / (alpha.width * alpha.height)
    return MIN_SUBJECT <= opaque <= 1 - MIN_CLEAR


def _find_mask(picture: Image.Image) -> tuple[Method, Image.Image | None]:
    """The subject's soft mask in an RGB picture, ``None`` if there is none, and who found it."""
    mask = _rembg_mask(picture)
    if mask is not None:
        return "rembg", mask
    from ms_core.conditions.grabcut import find_subject

    return "grabcut", find_subject(picture)


def _rembg_mask(picture: Image.Image) -> Image.Image | None:
    """rembg's mask in mode ``L``; ``None`` if it is not there, fails, or finds nothing."""
    session = _rembg_session()
    if session is None:
        return None
    try:
        mask = session.predict(picture)[0].convert("L")
    except Exception as error:  # whatever a package that is not ours may raise
        log.warning("rembg failed, so GrabCut is used: %r", error)
        return None
    return mask if mask.size == picture.size and _means_something(mask) else None


@functools.cache
def _rembg_session() -> Any:
    """rembg with the first of its models that has been downloaded; ``None`` without one. Asked once per process."""
    if importlib.util.find_spec("rembg") is None:
        return None
    try:
        rembg = importlib.import_module("rembg")
        kinds = importlib.import_module("rembg.sessions").sessions
        names = [name for name in REMBG_MODELS if name in kinds and kinds[name].resolve_existing(f"{name}.onnx")]
        if names:
            return rembg.new_session(names[0])
        log.warning("rembg has none of the models %s, so GrabCut is used.", ", ".join(REMBG_MODELS))
    # It ends the process if the runtime it stands on is missing.
    except (Exception, SystemExit) as error:
        log.warning("rembg cannot be used, so GrabCut is: %r", error)
    return None


def _crop(picture: Image.Image) -> Image.Image:
    """The picture's visible part and its margin, which is clear where it lies outside of the picture."""
    bounds = picture.getchannel("A").point([0] * FAINTEST + [255] * (256 - FAINTEST)).getbbox()
    if bounds is None:
        return picture
    left, top, right, bottom = bounds
    margin = max(1, round(MARGIN * max(right - left, bottom - top)))
    return picture.crop((left - margin, top - margin, right + margin, bottom + margin))
