"""Fixtures shared by all rooms: the tiny golden model, real components throughout."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.paths import GOLDEN

if TYPE_CHECKING:
    from tests.support.job_helpers import Desk
    from tests.support.job_keys import Ledger

# Tests send Ctrl-C to processes of their own; started in the background, pytest would have them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The name by which Starlette's client of tests asks.
os.environ.setdefault("MSD_ALLOWED_HOSTS", "testserver")

# The same examples on every machine and run: a test that fails once fails always.
settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("deterministic")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="also run the long tests")
    parser.addoption(
        "--write-pictures", action="store_true", help="write the pictures of the playground in the documents"
    )
    parser.addoption("--keys", action="store_true", help="run the browser tests of the playground with keys on")
    parser.addoption("--fault-seed", type=int, help="run this schedule of faults in place of the fixed ones")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to those who ask for them."""
    if not config.getoption("--faults"):
        skip = pytest.mark.skip(reason="long, or more of what another test shows; run with --faults")
        for item in items:
            if item.get_closest_marker("faults"):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Let the collector pass over what the libraries made as they were imported: a pass takes half a second of it."""
    gc.freeze()


@pytest.fixture(scope="session")
def golden_directory() -> Path:
    """The folder of golden cases and the tiny model they were made with."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_pipeline():
    """The tiny golden model behind the public pipeline; shared, for it keeps nothing of a request."""
    from ms_lab.parity import load_parity_pipeline

    return load_parity_pipeline(GOLDEN, resampler_heads=4)


@pytest.fixture(scope="session")
def golden_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny golden model as a model directory; read it only."""
    from tests.support.golden_model import write_golden_model

    directory = tmp_path_factory.mktemp("models") / "golden"
    write_golden_model(directory)
    return directory


@pytest.fixture
def tiny_unet():
    """A fresh tiny UNet with the golden weights, without an adapter."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(GOLDEN / "tiny-sdxl" / "unet").eval()


@pytest.fixture(scope="session")
def reference_picture() -> Callable[[int], object]:
    """Golden reference pictures by number, 0 to 5."""
    from PIL import Image

    def load(number: int):
        with Image.open(GOLDEN / "references" / f"{number}.png") as image:
            image.load()
            return image

    return load


@pytest.fixture
def without_rembg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if rembg were not installed, wherever the tests run."""
    from ms_core.conditions import cutout

    monkeypatch.setitem(sys.modules, "rembg", None)
    cutout._rembg_session.cache_clear()
    yield
    cutout._rembg_session.cache_clear()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Redis, shared by the session; tests keep apart by the names of their models."""
    from tests.support.own_redis import running_redis

    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def desk(redis_url: str, tmp_path: Path) -> Iterator[Desk]:
    """Queue, jobs and files of a model that this test alone has."""
    from tests.support.job_helpers import Desk

    desk = Desk.open(redis_url, tmp_path / "data", f"test-{secrets.token_hex(4)}")
    yield desk
    desk.client.close()


@pytest.fixture
def ledger(desk: Desk) -> Ledger:
    """The keys of the desk's jobs in Redis."""
    from tests.support.job_keys import Ledger

    return Ledger.open(desk.client, desk.model)
