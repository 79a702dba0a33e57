"""A real Redis and a real API in this process; each test has its own model name, so its own queue."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from ms_core.config import ModelCard
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.registry import Registry
from tests.support.played_worker import PlayedWorker


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    # Tests send more in a minute than people do.
    own = {"model": f"test-{secrets.token_hex(4)}", "max_submits_per_minute": 0}
    return Settings(redis_url=redis_url, data_dir=tmp_path / "data", **own)


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def later(redis_client: redis.Redis) -> JobStore:
    """Sees the jobs in a month from now."""
    return JobStore(redis_client, clock=lambda: time.time() + 30 * 24 * 3600)


@pytest.fixture
def registry(redis_client: redis.Redis) -> Registry:
    return Registry(redis_client)


@pytest.fixture
def artifacts(settings: Settings) -> ArtifactStore:
    return ArtifactStore(settings.data_dir)


@pytest.fixture
def worker(redis_client: redis.Redis, store: JobStore, artifacts: ArtifactStore) -> PlayedWorker:
    return PlayedWorker(redis_client, store, artifacts)


@pytest.fixture
def card(settings: Settings, registry: Registry) -> ModelCard:
    """A card as a worker publishes it."""
    card = ModelCard.from_dict(
        {
            "name": settings.model,
            "defaults": {"height": 128, "width": 256, "num_inference_steps": 20, "scale": 0.6},
            "max_height": 512,
            "max_width": 512,
            "max_subjects": 4,
            "sizes": [[128, 256], [256, 256]],
            "presets": {
                "quick": {
                    "description": "Four steps.",
                    "num_inference_steps": 4,
                    "guidance_scale": 1.0,
                    "timestep_spacing": "trailing",
                    "loras": [{"name": "lightning", "weight": 0.9}],
                },
                "broken": {"loras": [{"name": "missing"}]},
            },
            "extras": {"loras": ["lightning", "paper"], "controls": ["canny"], "embeddings": ["zoë"]},
        }
    )
    registry.publish_card(settings.model, card)
    return card


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The OpenAPI document, which takes a quarter of a second to write; do not change it."""
    with TestClient(create_app(Settings())) as client:
        return client.get("/openapi.json").json()
