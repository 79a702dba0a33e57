"""Colour profiles: what says which colours a picture's numbers mean, and those numbers in sRGB."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any, cast

from PIL import Image, ImageCms

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

# White, red, green and blue, x and y of each.
Chromaticity = Sequence[float]

_D65 = (0.3127, 0.3290)
SRGB_CHROMATICITY: Chromaticity = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# The gamma that PNGs in sRGB give; most have no other mark.
_SRGB_GAMMA = 0.45455
# Numbers of a PNG are rounded; differences below these are not seen.
_SAME_GAMMA, _SAME_CHROMATICITY = 0.005, 0.002

# ITU-T H.273, of which the cICP chunk of a PNG gives the numbers.
_PRIMARIES: dict[int, Chromaticity] = {
    1: SRGB_CHROMATICITY,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# Curves as ICC's parametric ones: the exponent alone, or with a, b, c and d.
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_VIDEO_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, tuple[float, ...]] = {
    1: _VIDEO_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: _VIDEO_CURVE,
    8: (1.0,),
    13: _SRGB_CURVE,
    14: _VIDEO_CURVE,
    15: _VIDEO_CURVE,
}

_D50: Vector = (0.9642, 1.0, 0.8249)
# Bradford's cone responses, as the ICC adapts whites.
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def profile_of(info: Mapping[Any, Any]) -> bytes | None:
    """The ICC profile that a picture's ``info``, as Pillow reads it, gives or implies; ``None`` for sRGB."""
    profile = info.get("icc_profile")
    if profile:
        return profile
    gamma = info.get("gamma")
    if not gamma or "srgb" in info:
        return None
    chromaticity: Chromaticity = info.get("chromaticity") or SRGB_CHROMATICITY
    is_srgb = abs(gamma - _SRGB_GAMMA) < _SAME_GAMMA and all(
        abs(own - usual) < _SAME_CHROMATICITY for own, usual in zip(chromaticity, SRGB_CHROMATICITY, strict=True)
    )
    return None if is_srgb else _made_profile(chromaticity, (1 / gamma,))


def profile_of_code_points(code_points: bytes) -> bytes | None:
    """The ICC profile of a PNG's cICP chunk; ``None`` for high dynamic range and whatever else is not known."""
    primaries, transfer, matrix, full_range = code_points
    if (matrix, full_range) != (0, 1) or primaries not in _PRIMARIES or transfer not in _CURVES:
        return None
    return _made_profile(_PRIMARIES[primaries], _CURVES[transfer])


def in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of mode L, LA, RGB, RGBA or CMYK as RGB or RGBA in sRGB.

    Without a profile, with one that cannot be read or one for other numbers than the picture's, these are taken as sRGB.
    """
    mode = "RGBA" if picture.mode in ("LA", "RGBA") else "RGB"
    colours = None if profile is None else _apply(picture, profile)
    if colours is None:
        # Converting to the same mode would copy.
        return picture if picture.mode == mode else picture.convert(mode)
    if mode == "RGBA":
        colours = Image.merge("RGBA", (*colours.split(), picture.getchannel("A")))
    # It says that it still needs the profile.
    colours.info = {}
    return colours


def _apply(picture: Image.Image, profile: bytes) -> Image.Image | None:
    is_grey, is_cmyk = picture.mode in ("L", "LA"), picture.mode == "CMYK"
    # The header says for which numbers a profile is.
    mode = {b"GRAY": "L", b"CMYK": "CMYK", b"RGB ": "RGB"}.get(profile[16:20])
    if mode is None or (mode == "L" and not is_grey) or (mode == "CMYK") != is_cmyk:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = cast("ImageCms.ImageCmsProfile", ImageCms.createProfile("sRGB"))  # pyright: ignore[reportUnknownMemberType]
        return ImageCms.profileToProfile(picture.convert(mode), own, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _made_profile(chromaticity: Chromaticity, curve: Sequence[float]) -> bytes | None:
    """An ICC profile of a display with these primaries and this curve; ``None`` if there can be no such display."""
    try:
        colorants = _colorants(chromaticity)
        tags = {b"wtpt": _xyz(_D50)}
        tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
        parameters = b"para" + struct.pack(">IHH", 0, 0 if len(curve) == 1 else 3, 0) + _fixed(curve)
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), parameters)
    except (ZeroDivisionError, OverflowError, struct.error):
        return None
    return _icc_file(tags)


def _icc_file(tags: Mapping[bytes, bytes]) -> bytes:
    place = 128 + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    for name, content in tags.items():
        table += name + struct.pack(">II", place, len(content))
        place += len(content)
    header = struct.pack(">I4sI4s4s4s", place, b"", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + table + b"".join(tags.values())


def _xyz(values: Vector) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: Sequence[float]) -> bytes:
    """Numbers as ICC writes them, with 16 bits before and 16 behind the point."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _colorants(chromaticity: Chromaticity) -> tuple[Vector, ...]:
    """XYZ of red, green and blue, for eyes adapted to D50."""
    white, *primaries = (_from_xy(*chromaticity[index : index + 2]) for index in (0, 2, 4, 6))
    strengths = _times(_inverse(_columns(primaries)), white)
    source, target = _times(_BRADFORD, white), _times(_BRADFORD, _D50)
    colorants: list[Vector] = []
    for primary, strength in zip(primaries, strengths, strict=True):
        cones = _times(_BRADFORD, _scaled(primary, (strength,) * 3))
        adapted = _scaled(cones, [new / old for new, old in zip(target, source, strict=True)])
        colorants.append(_times(_inverse(_BRADFORD), adapted))
    return tuple(colorants)


def _from_xy(x: float, y: float) -> Vector:
    return (x / y, 1.0, (1 - x - y) / y)


def _columns(vectors: Sequence[Vector]) -> Matrix:
    first, second, third = zip(*vectors, strict=True)
    return (first, second, third)


def _scaled(vector: Vector, factors: Sequence[float]) -> Vector:
    x, y, z = (value * factor for value, factor in zip(vector, factors, strict=True))
    return (x, y, z)


def _times(matrix: Matrix, vector: Vector) -> Vector:
    x, y, z = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return (x, y, z)


def _inverse(matrix: Matrix) -> Matrix:
    a, b, c = matrix
    crossed = (_cross(b, c), _cross(c, a), _cross(a, b))
    volume = sum(left * right for left, right in zip(a, crossed[0], strict=True))
    scaled = [_scaled(column, (1 / volume,) * 3) for column in crossed]
    return _columns(scaled)


def _cross(first: Vector, second: Vector) -> Vector:
    (a, b, c), (d, e, f) = first, second
    return (b * f - c * e, c * d - a * f, a * e - b * d)
