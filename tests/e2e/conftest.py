"""One live service for all end-to-end tests of a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.http_service import HttpService


@pytest.fixture(scope="session")
def equipped_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny golden model with a ControlNet, LoRAs, presets, and a scorer that passes no picture."""
    # Here, for these bring torch, which most processes of pytest do not need.
    from tests.support.golden_extras import add_extras
    from tests.support.golden_model import write_golden_model
    from tests.support.random_scorer import add_scorer

    directory = tmp_path_factory.mktemp("models") / "golden"
    write_golden_model(directory)
    add_extras(directory)
    add_scorer(directory)
    return directory


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, equipped_model_directory: Path) -> Iterator[HttpService]:
    """A service whose API answers; call ``wait_until_ready`` before asking for pictures."""
    # Longer than the AI SDK waits before it sends a request again.
    service = HttpService(tmp_path_factory.mktemp("service"), equipped_model_directory, MSD_RETRY_WINDOW_S="4")
    try:
        service.start()
        yield service
    finally:
        service.stop()
