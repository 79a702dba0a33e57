"""One live service for all end-to-end tests of a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from http_service import HttpService


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, golden_model_directory: Path) -> Iterator[HttpService]:
    """A service whose API answers; call ``wait_until_ready`` before asking for pictures."""
    service = HttpService(tmp_path_factory.mktemp("service"), golden_model_directory)
    try:
        service.start()
        yield service
    finally:
        service.stop()
