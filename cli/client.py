"""How the commands ask a service: by the client that everybody uses."""

from __future__ import annotations

from http import HTTPStatus

from cli.request_options import refusal_lines
from ms_jobs.remaining import remaining_s
from msd_client import API_KEY, Client, Job, MsdError, Retries

# A restart of Redis or of the API may pass while a job is followed.
PATIENCE_S = 30.0


def service_client(url: str) -> Client:
    """A client that tells at once of a refusal, and sends pictures within the request, so that they are deleted with it.

    Raises:
        MsdError: this is not an address.
    """
    return Client(url, retries=Retries(PATIENCE_S, refusals=False), upload=False)


def eta_s(job: Job) -> float | None:
    """What is left of a job, by the service's last estimate and, while it denoises, by its own pace."""
    estimate = job.estimate
    if estimate is None:
        return None
    begin = estimate.step or 0
    step, steps = (value if value is None else value - begin for value in (job.step, job.steps))
    return remaining_s(estimate.seconds, estimate.age_s, step, steps)


def refusal(error: MsdError) -> str:
    """What to tell the user of an error: each sentence once, with the options that it is about."""
    lines = refusal_lines([(item.pointer, item.detail) for item in error.errors], error.detail)
    if error.status == HTTPStatus.UNAUTHORIZED:
        lines = [*lines, f"Commands send the key that is in {API_KEY}."]
    return "\n".join(lines)
