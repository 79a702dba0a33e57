"""MS-Bench's pictures by the ordinary queue of a running service."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any, TypeVar

from cli.client import refusal, service_client
from ms_core.errors import StartupError
from ms_jobs.result_files import RecipeError, read_recipe
from ms_lab.evaluation.msbench.making import NoPictureError
from ms_lab.evaluation.msbench.samples import Sample
from msd_client import Client, Job, MsdError, NoAnswerError, RateLimitError, Retries, Subject

# A restart of the service, the loading of a model and an upgrade pass while the benchmark runs.
PATIENCE_S = 300.0
# So long nobody looks whether the picture is still wanted.
ROUND_S = 10.0

T = TypeVar("T")


class _StoppedError(Exception):
    """Nobody waits for the picture any more."""


class QueuedPictures:
    """Asks a service for pictures, each as a job of its own; may be shared by threads.

    A job is known by the folder's key, the sample and the attempt: asked for twice, it is one job.

    Args:
        client: of the service.
        request: fields that all requests have.
        seed: from which each sample's own is made.
        key: of the folder.
    """

    def __init__(self, client: Client, request: Mapping[str, Any], seed: int, key: str) -> None:
        self._client, self._request, self._seed, self._key = client, dict(request), seed, key
        self._model: str | None = None

    def describe(self) -> dict[str, Any]:
        """The service's model with its defaults, and the preset that is asked for.

        Raises:
            StartupError: it cannot be reached, or has no model yet.
        """
        try:
            # Whoever begins wants to know at once.
            with service_client(self._client.url) as client:
                model = client.models()[0]
        except NoAnswerError as error:
            raise StartupError(f"{error.detail.removesuffix('.')}, or say where one is with --url.") from error
        except MsdError as error:
            raise StartupError(refusal(error)) from error
        if model.abilities is None:
            raise StartupError(f"The service has not loaded {model.name} yet; run this again when it is ready.")
        self._model = model.name
        presets = {preset["name"]: preset for preset in model.abilities["presets"]}
        chosen = self._request.get("preset")
        return {
            "model": model.name,
            "defaults": model.abilities["defaults"],
            "preset": None if chosen is None else presets.get(chosen),
        }

    def paint(self, sample: Sample, attempt: int, stop: Event) -> bytes:
        """A sample's picture as a PNG.

        Raises:
            NoPictureError: the job ended without it, or another model than the described one made it.
            StartupError: the service refuses, or does not answer any more.
        """
        try:
            key = hashlib.sha256(f"{self._key} {sample.name} {attempt}".encode()).hexdigest()
            queued = self._submit(sample, key, stop)
            job = _patiently(lambda: self._client.wait(queued.id, lambda _: _raise_if(stop)), stop)
            if job.status != "succeeded":
                raise NoPictureError(job.error or f"the job was {job.status}.")
            content = _patiently(lambda: self._client.image(job.id), stop)
        except MsdError as error:
            raise StartupError(
                f"{sample.name}: {refusal(error)} What is made is kept; run the same command again."
            ) from error
        self._require_model(content)
        return content

    def _require_model(self, content: bytes) -> None:
        """Refuse a picture by a model that took the described one's place while the benchmark ran."""
        made_by = _model_of(content)
        if None not in (made_by, self._model) and made_by != self._model:
            raise NoPictureError(f"the service made it with the model {made_by}, and began with {self._model}.")

    def _submit(self, sample: Sample, key: str, stop: Event) -> Job:
        """Queue the job."""
        options: Any = {**self._request, "seed": sample.seed(self._seed), "output_format": "png"}
        subjects = [
            Subject(
                each.phrase,
                each.path,
                scene=True if each.is_scene else None,
                box=None if each.is_scene else each.box.as_tuple(),
            )
            for each in sample.subjects
        ]
        return _patiently(lambda: self._client.submit(sample.prompt, subjects, idempotency_key=key, **options), stop)


def _raise_if(stop: Event) -> None:
    if stop.is_set():
        raise _StoppedError


def _patiently(call: Callable[[], T], stop: Event) -> T:
    """What a call gives; limits of the service and failures that may pass are waited for, while the picture is wanted."""
    rounds = round(PATIENCE_S / ROUND_S)
    while True:
        _raise_if(stop)
        try:
            return call()
        except RateLimitError as error:
            if error.retry_after_s is None:
                raise
            stop.wait(error.retry_after_s)
        except MsdError as error:
            rounds -= 1
            if not error.may_pass or rounds <= 0:
                raise


def _model_of(content: bytes) -> str | None:
    """Name of the model that made a picture; ``None`` where its recipe does not say."""
    try:
        recipe: Any = read_recipe(content)
        return str(recipe["model"]["name"])
    except (RecipeError, KeyError, TypeError):
        return None


def benchmark_client(url: str) -> Client:
    """A client that waits for a service that starts again, and uploads each picture once.

    Raises:
        StartupError: this is not an address.
    """
    try:
        return Client(url, retries=Retries(ROUND_S))
    except MsdError as error:
        raise StartupError(error.detail) from error
