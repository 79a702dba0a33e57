"""Pictures through both doors: as a data URI over HTTP, and as PIL opens them in Python."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from app.requests.decoding import PictureLimits, png_from_data_uri
from app.requests.intake import parse_request
from ms_core.spec import Subject
from ms_core.spec.resolve import resolve
from tests.support.paths import ROOT
from tests.support.sample_requests import data_uri, decoded, good_request, good_subject

DATA: Path = ROOT / "tests" / "app" / "data"


def sent(content: bytes) -> Image.Image:
    """As the service stores it."""
    return decoded(png_from_data_uri(data_uri(content), PictureLimits()))


def opened(content: bytes) -> Image.Image:
    """As a subject in Python has it."""
    (image,) = Subject("cat", Image.open(io.BytesIO(content))).images
    return image


def warnings_of(content: bytes, **subject: Any) -> dict[str, str]:
    """Code of each warning by its pointer, for a request with this reference."""
    request = good_request(subjects=[good_subject(**({"image": data_uri(content)} | subject))])
    resolution = resolve(parse_request(json.dumps(request).encode(), PictureLimits()).request, None)
    assert resolution.errors == ()
    return {warning.pointer: warning.code for warning in resolution.warnings}
