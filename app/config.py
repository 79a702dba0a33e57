"""Settings of the API, from the environment (prefix ``MSD_``)."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import idna
from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ms_jobs.assets import DEFAULT_ASSET_LIFETIME_S
from ms_jobs.connection import DEFAULT_URL
from ms_jobs.records import is_model_name

MEBIBYTE = 1024 * 1024
_FETCH_HOST = re.compile(r"(?P<start>\.?)(?P<host>[^:/@\[\]*]+\.[^:/@\[\]*]+|\*)(?P<port>:[0-9]{1,5})?")


def _check_model_name(name: str) -> str:
    if not is_model_name(name):
        raise ValueError(f"{name!r} is not a model name: use letters, digits, '.', '-' and '_'")
    return name


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        if "/" in host or (":" in host and not host.startswith("[")):
            raise ValueError(f"{host!r} is not a host: give the name or address alone, without scheme, port or path")
    return tuple(host.lower().strip("[]").rstrip(".") for host in hosts)


def _check_public_url(url: str) -> str:
    """An address to which paths are added; empty for none."""
    parts = urlsplit(url)
    if url and (
        parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username
    ):
        raise ValueError(f"{url!r} is not the address of a service: write it as https://pictures.example.org")
    return url.rstrip("/")


def _check_proxies(proxies: tuple[str, ...]) -> tuple[str, ...]:
    for proxy in proxies:
        if proxy != "*":
            # Raises a ValueError that names it.
            ip_network(proxy)
    return proxies


def _check_fetch_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_fetch_host(host.lower()) for host in hosts)


def _fetch_host(text: str) -> str:
    """A host as addresses are compared with it: in ASCII, without the port of https."""
    parts = _FETCH_HOST.fullmatch(text)
    try:
        if parts is not None and parts["start"] + parts["host"] != ".*":
            host = parts["host"] if parts["host"] == "*" else idna.encode(parts["host"], strict=True).decode()
            return parts["start"] + host + ("" if parts["port"] in (None, ":443") else parts["port"])
    except idna.IDNAError:
        pass
    detail = "give a name such as pictures.example.com, .example.com for all below it, or * for all, with :port unless it is 443"
    raise ValueError(f"{text!r} is no host to fetch from: {detail}")


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
        max_body_bytes: size limit of a request body, with the pictures that are fetched for it.
        fetch_hosts: hosts from which pictures are fetched that a request names by https address, separated by commas: a name, a
            name that begins with ``.`` for all below it, or ``*`` for all; none are fetched by default. Private addresses are
            never connected to. Other ports than 443 are named: ``pictures.example.com:8443``.
        fetch_timeout_s: time limit for fetching all pictures of a request, in seconds.
        max_picture_pixels: pixel limit of a reference picture.
        max_request_pixels: pixel limit of all pictures of a request together.
        max_picture_side: larger reference pictures are reduced to this longer side, in pixels.
        job_timeout_s: time limit of a running job, in seconds.
        lifetime_s: how long a job may wait in the queue, and how long it is kept after its end, in seconds.
        asset_lifetime_s: how long an uploaded picture is kept after its last use, in seconds.
        min_free_disk_mb: jobs and uploads are refused while ``data_dir`` has less free space than this, in MiB.
        redis_timeout_s: Redis counts as down when it has not answered for this long, in seconds.
        retry_window_s: how long a job of OpenAI's interface waits for its client to come back, in seconds; then it is canceled.
        max_waiting: how many jobs of one owner may wait; here and below 0 is no limit.
        max_queue: how many jobs of all owners may wait.
        max_steps_per_day: picture-steps of one owner within 24 hours: pictures, times calls of the UNet, times one and the retries.
        max_submits_per_minute: jobs of one owner that are sent within a minute, also those that are refused.
        max_asset_mb: what all assets of one owner may take, in MiB.
        max_sent_mb_per_day: what one owner may send within 24 hours, in MiB.
        auth: whether requests need a key; ``auto``: if ``msd api`` accepts them from other machines.
        public_url: address of the service as its clients see it, which then stands before all ``urls``; empty: they are relative.
        trusted_proxies: addresses and networks of the proxies that may say whose request they pass on, separated by commas.
        session_lifetime_s: how long a browser's session lasts, in seconds.
        signed_url_lifetime_s: how long a signed address is valid, in seconds.
        max_watchers: how many clients of one API process may watch or wait for jobs at a time.
    """

    model_config = SettingsConfigDict(env_prefix="MSD_", frozen=True, extra="ignore")

    redis_url: str = DEFAULT_URL
    data_dir: Path = Path("data")
    model: Annotated[str, AfterValidator(_check_model_name)] = "mini"
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, AfterValidator(_check_hosts)] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode, AfterValidator(_check_origins)] = ()
    fetch_hosts: Annotated[tuple[str, ...], NoDecode, AfterValidator(_check_fetch_hosts)] = ()
    fetch_timeout_s: Annotated[float, Field(gt=0)] = 15.0
    max_body_bytes: Annotated[int, Field(ge=1)] = 64 * MEBIBYTE
    max_picture_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    max_request_pixels: Annotated[int, Field(ge=1)] = 250_000_000
    max_picture_side: Annotated[int, Field(ge=64)] = 2048
    job_timeout_s: Annotated[int, Field(ge=1)] = 600
    lifetime_s: Annotated[float, Field(gt=0)] = 24 * 3600
    asset_lifetime_s: Annotated[float, Field(gt=0)] = DEFAULT_ASSET_LIFETIME_S
    min_free_disk_mb: Annotated[int, Field(ge=0)] = 512
    redis_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    retry_window_s: Annotated[float, Field(gt=0)] = 10.0
    max_waiting: Annotated[int, Field(ge=0)] = 200
    max_queue: Annotated[int, Field(ge=0)] = 1000
    max_steps_per_day: Annotated[int, Field(ge=0)] = 1_000_000
    max_submits_per_minute: Annotated[int, Field(ge=0)] = 120
    max_asset_mb: Annotated[int, Field(ge=0)] = 4096
    max_sent_mb_per_day: Annotated[int, Field(ge=0)] = 16_384
    auth: Literal["auto", "on", "off"] = "auto"
    public_url: Annotated[str, AfterValidator(_check_public_url)] = ""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, AfterValidator(_check_proxies)] = ()
    session_lifetime_s: Annotated[float, Field(ge=60)] = 12 * 3600
    signed_url_lifetime_s: Annotated[float, Field(ge=1, le=86400)] = 600
    max_watchers: Annotated[int, Field(ge=1)] = 400

    @field_validator("allowed_hosts", "cors_origins", "trusted_proxies", "fetch_hosts", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
