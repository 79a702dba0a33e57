"""What the API and the workers say to each other: the public face of this room, free of torch, redis and fastapi.

A job has a *request* (in the artifact store, see ``worker.artifacts``) and a *record* (one small Redis hash). Redis sees
ids and numbers only. The API enqueues ``GENERATE_JOB`` by name on ``queue_name(model)``, with the job's owner and id as its
only arguments and ``JobRecord.entry`` as RQ's own job id.
"""

from ms_core.config import ModelCard
from worker.job_store import JobKey, JobStore
from worker.measures import BUCKETS, UNBOUNDED, Histogram, Measures
from worker.outcomes import CancelOutcome, CreateOutcome, Gone, ProgressReply, Requeue
from worker.pace import Estimates, Pace, Shape, read_estimates
from worker.records import (
    GENERATE_JOB,
    JOB_ID_PATTERN,
    LOCAL_OWNER,
    MAX_ATTEMPTS,
    MAX_IMAGES,
    MODEL_NAME_PATTERN,
    JobError,
    JobRecord,
    JobState,
    JobWarning,
    PictureScore,
    StoredImage,
    SubjectScore,
    Usage,
    WorkerRecord,
    WorkerState,
    is_job_id,
    is_model_name,
    new_job_id,
    queue_name,
)
from worker.redis_client import RedisClient, tells_cannot_write
from worker.registry import Registry
from worker.stored_request import (
    StoredControl,
    StoredLayout,
    StoredLora,
    StoredRequest,
    StoredStart,
    StoredSubject,
)

__all__ = [
    "BUCKETS",
    "GENERATE_JOB",
    "JOB_ID_PATTERN",
    "LOCAL_OWNER",
    "MAX_ATTEMPTS",
    "MAX_IMAGES",
    "MODEL_NAME_PATTERN",
    "UNBOUNDED",
    "CancelOutcome",
    "CreateOutcome",
    "Estimates",
    "Gone",
    "Histogram",
    "JobError",
    "JobKey",
    "JobRecord",
    "JobState",
    "JobStore",
    "JobWarning",
    "Measures",
    "ModelCard",
    "Pace",
    "PictureScore",
    "ProgressReply",
    "RedisClient",
    "Registry",
    "Requeue",
    "Shape",
    "StoredControl",
    "StoredImage",
    "StoredLayout",
    "StoredLora",
    "StoredRequest",
    "StoredStart",
    "StoredSubject",
    "SubjectScore",
    "Usage",
    "WorkerRecord",
    "WorkerState",
    "is_job_id",
    "is_model_name",
    "new_job_id",
    "queue_name",
    "read_estimates",
    "tells_cannot_write",
]
