"""Settings of the API, from the environment (prefix ``MSD_``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ms_jobs.records import is_model_name

MEBIBYTE = 1024 * 1024


def _check_model_name(name: str) -> str:
    if not is_model_name(name):
        raise ValueError(f"{name!r} cannot name a model: use letters, digits, '.', '-' and '_'")
    return name


class Settings(BaseSettings):
    """What one API process needs to know.

    Attributes:
        redis_url: the Redis that carries the jobs; ``redis://``, ``rediss://`` or ``unix://``.
        data_dir: root of the artifact store, shared with the workers.
        model: name of the model whose queue the API fills.
        cors_origins: web origins that may call the API from a browser, parted by commas; ``*`` for any.
        max_body_bytes: largest request body.
        max_picture_pixels: largest reference picture, by its header.
        max_picture_side: longer side, in pixels, to which larger reference pictures are reduced.
        job_timeout_s: time after which a running job is given up, in seconds.
        lifetime_s: how long a job may wait, and how long it and its files are kept after its end, in seconds.
        min_free_disk_mb: free space of ``data_dir``, in MiB, below which no jobs are accepted.
        redis_timeout_s: time after which a silent Redis counts as down, in seconds.
        max_watchers: most clients of one API process that wait for changes of jobs at a time.
    """

    model_config = SettingsConfigDict(env_prefix="MSD_", frozen=True, extra="ignore")

    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("data")
    model: Annotated[str, AfterValidator(_check_model_name)] = "mini"
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    max_body_bytes: Annotated[int, Field(ge=1)] = 64 * MEBIBYTE
    max_picture_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    max_picture_side: Annotated[int, Field(ge=64)] = 2048
    job_timeout_s: Annotated[int, Field(ge=1)] = 600
    lifetime_s: Annotated[float, Field(gt=0)] = 24 * 3600
    min_free_disk_mb: Annotated[int, Field(ge=0)] = 512
    redis_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    max_watchers: Annotated[int, Field(ge=1)] = 400

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
