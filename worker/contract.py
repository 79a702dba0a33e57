"""What the API and the workers say to each other: the public face of this room, free of torch, redis and fastapi.

A job has a *request* (in the artifact store, see ``worker.artifacts``) and a *record* (one small Redis hash). Redis sees
ids and numbers only. The API enqueues ``GENERATE_JOB`` by name on ``queue_name(model)``, with the job's id as its only
argument and as RQ's own job id.
"""

from ms_core.config import ModelCard
from worker.job_store import CancelOutcome, JobStore, ProgressReply, RedisClient
from worker.records import (
    JOB_ID_PATTERN,
    MAX_IMAGES,
    MODEL_NAME_PATTERN,
    JobError,
    JobRecord,
    JobState,
    JobWarning,
    StoredImage,
    WorkerRecord,
    WorkerState,
    is_job_id,
    is_model_name,
    new_job_id,
    queue_name,
)
from worker.stored_request import (
    StoredControl,
    StoredLayout,
    StoredLora,
    StoredRequest,
    StoredStart,
    StoredSubject,
)

GENERATE_JOB = "worker.jobs.generate"

__all__ = [
    "GENERATE_JOB",
    "JOB_ID_PATTERN",
    "MODEL_NAME_PATTERN",
    "MAX_IMAGES",
    "CancelOutcome",
    "JobError",
    "JobRecord",
    "JobState",
    "JobStore",
    "JobWarning",
    "ModelCard",
    "ProgressReply",
    "RedisClient",
    "StoredControl",
    "StoredImage",
    "StoredLayout",
    "StoredLora",
    "StoredRequest",
    "StoredStart",
    "StoredSubject",
    "WorkerRecord",
    "WorkerState",
    "is_job_id",
    "is_model_name",
    "new_job_id",
    "queue_name",
]
