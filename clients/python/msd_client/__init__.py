"""Pictures of your own subjects, each in its box, from a running service.

>>> from msd_client import Client, Subject
>>> with Client() as client:
...     result = client.generate("a cat on the beach", [Subject("cat", "cat.png", box=(0.2, 0.3, 0.7, 0.9))])
>>> result.images[0].save("out.png")
"""

from msd_client._calls import Retries
from msd_client._connection import API_KEY
from msd_client.async_client import AsyncClient
from msd_client.client import Client
from msd_client.errors import (
    AccessError,
    ApiError,
    ConflictError,
    InputError,
    InputProblem,
    JobCanceledError,
    JobError,
    JobExpiredError,
    JobFailedError,
    MsdError,
    NoAnswerError,
    NotFoundError,
    PictureError,
    RateLimitError,
    ServiceError,
)
from msd_client.events import EndEvent, Event, GoneEvent, PreviewEvent, ProgressEvent, StatusEvent
from msd_client.jobs import (
    Asset,
    Estimate,
    Inspection,
    Job,
    JobImage,
    JobWarning,
    Model,
    Readiness,
    Redraw,
    Score,
    SubjectScore,
)
from msd_client.pictures import PictureSource
from msd_client.requests import Box, Control, Lora, Options, Start, Subject
from msd_client.results import Picture, Result

__all__ = [
    "API_KEY",
    "AccessError",
    "ApiError",
    "Asset",
    "AsyncClient",
    "Box",
    "Client",
    "ConflictError",
    "Control",
    "EndEvent",
    "Estimate",
    "Event",
    "GoneEvent",
    "InputError",
    "InputProblem",
    "Inspection",
    "Job",
    "JobCanceledError",
    "JobError",
    "JobExpiredError",
    "JobFailedError",
    "JobImage",
    "JobWarning",
    "Lora",
    "Model",
    "MsdError",
    "NoAnswerError",
    "NotFoundError",
    "Options",
    "Picture",
    "PictureError",
    "PictureSource",
    "PreviewEvent",
    "ProgressEvent",
    "RateLimitError",
    "Readiness",
    "Result",
    "Retries",
    "Redraw",
    "Score",
    "ServiceError",
    "Start",
    "StatusEvent",
    "Subject",
    "SubjectScore",
]
