"""JPEGs without their end marker: taken if all rows are there, and only then."""

from __future__ import annotations

import pytest
from PIL import Image

from ms_core.errors import PictureError
from tests.support.sample_requests import encoded
from tests.support.sent_pictures import sent

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 4},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
}
MODES = ["RGB", "L", "CMYK"]


def jpeg(mode: str = "RGB", side: int = 70, **options: object) -> bytes:
    noise = Image.merge(mode, [Image.effect_noise((side, side + 7), 40 + 20 * band) for band in range(len(mode))])
    return encoded(noise, "JPEG", quality=85, **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_end_marker_matters_nothing(kind: str, mode: str) -> None:
    content = jpeg(mode, **KINDS[kind])
    whole = sent(content).tobytes()
    assert [sent(content[:-cut]).tobytes() == whole for cut in (1, 2)] == [True, True]


@pytest.mark.parametrize("side", [8, 70, 700])
def test_the_size_of_the_file_does_not_matter(side: int) -> None:
    """Pillow reads files in blocks of 64 KiB."""
    content = jpeg(side=side)
    assert (side < 700) == (len(content) < 2**16)
    assert sent(content[:-2]).tobytes() == sent(content).tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_any_further_byte_matters(kind: str, mode: str) -> None:
    content = jpeg(mode, **KINDS[kind])
    for cut in (3, 4, 5, 8, 13, len(content) // 3, len(content) // 2):
        with pytest.raises(PictureError, match="damaged or incomplete"):
            sent(content[:-cut])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_a_marker_is_not_whole(kind: str) -> None:
    """Between scans or restarts, no data are cut through."""
    content = jpeg(**KINDS[kind])
    scans = content.index(b"\xff\xda")
    markers = [place for place in range(scans, len(content) - 2) if content[place] == 0xFF and content[place + 1] > 0]
    assert (len(markers) > 3) == (kind not in ("baseline", "full colour"))
    for place in markers[:: max(1, len(markers) // 20)] + markers[-2:]:
        for end in (place, place + 2):
            with pytest.raises(PictureError, match="damaged or incomplete"):
                sent(content[:end])


def test_a_cut_webp_is_refused() -> None:
    content = encoded(Image.effect_noise((64, 64), 90), "WEBP")
    for cut in (1, 2, 3, 20):
        with pytest.raises(PictureError, match="damaged or incomplete"):
            sent(content[:-cut])


def test_bytes_after_the_end_matter_nothing() -> None:
    content = jpeg()
    assert sent(content + b"a film of two seconds").tobytes() == sent(content).tobytes()
