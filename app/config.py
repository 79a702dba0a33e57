"""Settings of the API, from the environment (prefix ``MSD_``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ms_jobs.records import is_model_name

MEBIBYTE = 1024 * 1024


def _check_model_name(name: str) -> str:
    if not is_model_name(name):
        raise ValueError(f"{name!r} is not a model name: use letters, digits, '.', '-' and '_'")
    return name


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        if "/" in host or (":" in host and not host.startswith("[")):
            raise ValueError(f"{host!r} is not a host: give the name or address alone, without scheme, port or path")
    return tuple(host.lower().strip("[]").rstrip(".") for host in hosts)


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers write them; another form would never match."""
    return tuple(origin if origin == "*" else _origin(origin) for origin in origins)


def _origin(text: str) -> str:
    parts = urlsplit(text.lower())
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{text!r} is not an origin: give scheme, host and port alone, such as http://localhost:3000")
    if "@" in parts.netloc or "*" in parts.netloc:
        raise ValueError(f"{text!r} is not an origin: give each host by its name")
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


class Settings(BaseSettings):
    """Settings of one API process.

    Attributes:
        redis_url: Redis with the jobs; ``redis://``, ``rediss://`` or ``unix://``.
        data_dir: root of the artifact store, shared with the workers.
        model: name of the model.
        allowed_hosts: names and addresses by which clients reach the API, beside the loopback ones, separated by commas; ``*``
            for all. Requests for others are refused: a page may have its name point here.
        cors_origins: web origins that may call the API from a browser, separated by commas; ``*`` for all.
        max_body_bytes: size limit of a request body.
        max_picture_pixels: pixel limit of a reference picture.
        max_request_pixels: pixel limit of all pictures of a request together.
        max_picture_side: larger reference pictures are reduced to this longer side, in pixels.
        job_timeout_s: time limit of a running job, in seconds.
        lifetime_s: how long a job may wait in the queue, and how long it is kept after its end, in seconds.
        min_free_disk_mb: jobs are refused while ``data_dir`` has less free space than this, in MiB.
        redis_timeout_s: Redis counts as down when it has not answered for this long, in seconds.
        max_watchers: how many clients of one API process may watch or wait for jobs at a time.
    """

    model_config = SettingsConfigDict(env_prefix="MSD_", frozen=True, extra="ignore")

    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("data")
    model: Annotated[str, AfterValidator(_check_model_name)] = "mini"
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, AfterValidator(_check_hosts)] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode, AfterValidator(_check_origins)] = ()
    max_body_bytes: Annotated[int, Field(ge=1)] = 64 * MEBIBYTE
    max_picture_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    max_request_pixels: Annotated[int, Field(ge=1)] = 250_000_000
    max_picture_side: Annotated[int, Field(ge=64)] = 2048
    job_timeout_s: Annotated[int, Field(ge=1)] = 600
    lifetime_s: Annotated[float, Field(gt=0)] = 24 * 3600
    min_free_disk_mb: Annotated[int, Field(ge=0)] = 512
    redis_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    max_watchers: Annotated[int, Field(ge=1)] = 400

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
