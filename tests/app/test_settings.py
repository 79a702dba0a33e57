"""Settings come from the environment; the API starts light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings
from tests.support.paths import ROOT

HEAVY = ("torch", "numpy", "transformers", "diffusers", "safetensors", "accelerate")


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MSD_REDIS_URL", "redis://elsewhere:6379/3")
    monkeypatch.setenv("MSD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MSD_MODEL", "sdxl")
    monkeypatch.setenv("MSD_CORS_ORIGINS", "https://a.example, https://b.example")
    settings = Settings()
    assert (settings.redis_url, settings.data_dir, settings.model) == ("redis://elsewhere:6379/3", tmp_path, "sdxl")
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_cors_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSD_CORS_ORIGINS", raising=False)
    assert Settings().cors_origins == ()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("http://localhost:3000/", "http://localhost:3000"),
        ("HTTPS://Front.Example", "https://front.example"),
        ("https://front.example:443", "https://front.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_origins_are_kept_as_browsers_write_them(given: str, read: str) -> None:
    assert Settings(cors_origins=(given,)).cors_origins == (read,)


@pytest.mark.parametrize(
    "given", ["localhost:3000", "http://localhost:3000/app", "https://", "ftp://a.example", "https://*.example", "null"]
)
def test_an_origin_that_can_never_match_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        Settings(cors_origins=(given,))


@pytest.mark.parametrize("given", ["http://a.example", "a.example:8000", "a.example/"])
def test_a_host_with_more_than_its_name_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="is not a host"):
        Settings(allowed_hosts=(given,))


def test_a_model_name_that_cannot_name_a_queue_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not a model name"):
        Settings(model="../sdxl")


def test_the_api_imports_no_heavy_library() -> None:
    code = (
        "import sys, app.main; app.main.create_app().openapi(); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
