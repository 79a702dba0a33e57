"""Every error of the project, in one tree, free of HTTP.

::

    MSDiffusionError
    ├── InvalidInputError            what the caller asked for cannot be done; carries a JSON pointer
    │   ├── LayoutError              a box that is reversed, outside, or has no area; an empty mask
    │   ├── PhraseNotFoundError      auto layout needs the phrase in the prompt
    │   ├── PictureError             a reference picture that cannot be decoded or is not allowed
    │   ├── PictureTooLargeError     a reference picture over the pixel limit
    │   ├── PictureNotFetchedError   nothing could be fetched from a picture's address
    │   ├── UnknownUploadError       a request names a part of the form that was not sent
    │   ├── UnusedUploadError        a part of the form is named nowhere
    │   ├── UnsupportedSchedulerError
    │   ├── UnknownNameError         the model has no such preset, LoRA or ControlNet
    │   ├── NoScorerError            scores are asked for, and the model has no scorer
    │   ├── UnfitLoraError           a file that is not a LoRA, or a LoRA for another base
    │   └── BatchMismatchError       specs that cannot share one UNet batch
    ├── ModelError
    │   ├── ModelNotFoundError       no model directory, or a file of it is missing
    │   ├── CheckpointError          keys or shapes of the weights do not fit
    │   │   └── WrongImageEncoderError
    │   ├── DownloadError            files of a model cannot be fetched: network, access, revision, disk
    │   ├── ModelTargetError         a model directory cannot be written: it is there already, or the disk forbids
    │   └── UnknownAttentionDataError   a per-call key that no processor reads
    ├── DeviceError
    │   ├── DeviceOutOfMemoryError
    │   ├── InsufficientMemoryError  the model cannot fit into the memory that is free
    │   └── DeviceLostError          a broken CUDA context: the process must end
    └── ServiceError
        ├── QueueUnavailableError    Redis cannot be reached
        ├── StorageError             the artifact store cannot be read or written
        │   ├── StorageFullError     there is no room left
        │   └── AttemptOverError     an older attempt at a job wants to write, or one at a job that was removed
        ├── UnreadableJobError       a job's record is damaged, or a newer version wrote it
        ├── JobNotFoundError
        │   └── JobGoneError         the job was removed, by its owner or when its time was over
        ├── ImageNotFoundError
        ├── AssetNotFoundError
        ├── CastNotFoundError
        ├── JobConflictError         the job's state forbids what was asked
        ├── RequestMismatchError     the job id or idempotency key stands for another request
        ├── LimitError               the owner, or all together, have used what they may
        │   ├── TooManyWaitingError  jobs of this owner that wait
        │   ├── QueueFullError       jobs of all owners that wait
        │   ├── StepsSpentError      picture-steps of this owner in 24 hours
        │   └── AssetsFullError      bytes of this owner's assets
        └── StartupError             a command cannot start: port, data directory, model, host
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MSDiffusionError(Exception):
    """Base of every error of this project.

    Attributes:
        code: stable, machine-readable name of the error.
        detail: what is wrong and what to do, in one sentence.
    """

    code = "error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidInputError(MSDiffusionError):
    """A value of the request cannot be used.

    Attributes:
        pointer: RFC 6901 pointer to the value in the request, such as ``/subjects/0/box``.
    """

    code = "invalid_input"

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer

    def below(self, prefix: str) -> InvalidInputError:
        """Return the same error with its pointer moved below ``prefix``."""
        return type(self)(self.detail, prefix + self.pointer)


class LayoutError(InvalidInputError):
    """A box is reversed, outside the picture, or has no area; or a mask is empty."""

    code = "invalid_box"


class PhraseNotFoundError(InvalidInputError):
    """Auto layout needs a subject's phrase in the prompt, and it is not there."""

    code = "phrase_not_found"


class PictureError(InvalidInputError):
    """A reference picture cannot be decoded, or its format is not allowed."""

    code = "invalid_picture"


class PictureTooLargeError(InvalidInputError):
    """A reference picture has more pixels than allowed."""

    code = "picture_too_large"


class PictureNotFetchedError(InvalidInputError):
    """A picture's address leads to nothing that may be reached, or that answers."""

    code = "picture_not_fetched"


class UnknownUploadError(InvalidInputError):
    """A request names a part of its form that was not sent."""

    code = "upload_not_found"


class UnusedUploadError(InvalidInputError):
    """A part of the form is named nowhere in the request."""

    code = "upload_unused"


class UnsupportedSchedulerError(InvalidInputError):
    """The scheduler's name is not one of ``ms_core.spec.SCHEDULERS``."""

    code = "unsupported_scheduler"


class UnknownNameError(InvalidInputError):
    """The model has no preset, LoRA or ControlNet of this name."""

    code = "unknown_name"


class NoScorerError(InvalidInputError):
    """Scores are asked for, and the model has no scorer."""

    code = "no_scorer"


class UnfitLoraError(InvalidInputError):
    """A LoRA was made for another base, or the file holds none."""

    code = "unfit_lora"


class BatchMismatchError(InvalidInputError):
    """Specs of one batch differ in a field that one UNet call must share."""

    code = "batch_mismatch"


class ModelError(MSDiffusionError):
    """A model cannot be loaded or used."""

    code = "model_error"


class ModelNotFoundError(ModelError):
    """There is no model directory at a path, or a file of it is missing."""

    code = "model_not_found"


class CheckpointError(ModelError):
    """Keys or shapes of adapter weights do not fit the model."""

    code = "checkpoint_mismatch"


class WrongImageEncoderError(CheckpointError):
    """The adapter was trained on features of another image encoder."""

    code = "wrong_image_encoder"


class DownloadError(ModelError):
    """Files of a model cannot be fetched: the hub refuses, the network fails, or there is no room for them."""

    code = "download_failed"


class ModelTargetError(ModelError):
    """A model directory cannot be written: it exists already, its place is read-only, or the disk is full."""

    code = "model_target"


class UnknownAttentionDataError(ModelError):
    """A per-call key reached an attention processor that does not read it."""

    code = "unknown_attention_data"


class DeviceError(MSDiffusionError):
    """A device failed."""

    code = "device_error"


class DeviceOutOfMemoryError(DeviceError):
    """The device has too little free memory for this job."""

    code = "device_out_of_memory"


class InsufficientMemoryError(DeviceError):
    """A model needs more memory than is free, found out before it is loaded or while it is."""

    code = "insufficient_memory"


class DeviceLostError(DeviceError):
    """The CUDA context is broken; only a new process can use the device again."""

    code = "device_lost"


class ServiceError(MSDiffusionError):
    """A part of the service failed."""

    code = "service_error"


class QueueUnavailableError(ServiceError):
    """Redis cannot be reached."""

    code = "queue_unavailable"


class StorageError(ServiceError):
    """The artifact store cannot be read or written."""

    code = "storage_unavailable"


class StorageFullError(StorageError):
    """There is no room left in the artifact store."""

    code = "storage_full"


class AttemptOverError(StorageError):
    """An older attempt at a job, or one at a job that was removed, has no place to write to any more."""

    code = "attempt_over"


class UnreadableJobError(ServiceError):
    """A job's record cannot be read: it is damaged, or a newer version of the service wrote it."""

    code = "unreadable_job"


class JobNotFoundError(ServiceError):
    """No job has this id."""

    code = "job_not_found"


class JobGoneError(JobNotFoundError):
    """The job was removed, by its owner or when its time was over."""

    code = "job_gone"


class ImageNotFoundError(ServiceError):
    """The job has no image with this index."""

    code = "image_not_found"


class AssetNotFoundError(ServiceError):
    """No asset has this id, or no longer."""

    code = "asset_not_found"


class CastNotFoundError(ServiceError):
    """No subject of the cast has this name."""

    code = "cast_not_found"


class JobConflictError(ServiceError):
    """The job's state forbids what was asked."""

    code = "job_conflict"


class RequestMismatchError(ServiceError):
    """The job id or the idempotency key stands for another request."""

    code = "request_mismatch"


class LimitError(ServiceError):
    """What an owner, or all together, may use is used up.

    Attributes:
        retry_after_s: when to try again, in seconds; ``None``: the request alone is more than the limit.
    """

    code = "limit_reached"

    def __init__(self, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyWaitingError(LimitError):
    """As many jobs of this owner wait as may."""

    code = "too_many_waiting"


class QueueFullError(LimitError):
    """As many jobs of all owners wait as may."""

    code = "queue_full"


class StepsSpentError(LimitError):
    """The owner's picture-steps of 24 hours are spent."""

    code = "steps_spent"


class AssetsFullError(LimitError):
    """The owner's assets are as large together as they may be."""

    code = "assets_full"


class StartupError(ServiceError):
    """A command cannot start; the sentence says what to change."""

    code = "startup_failed"


def unknown_name(kind: str, name: str, known: Iterable[str], pointer: str) -> UnknownNameError:
    """The error for a ``kind`` of thing that the model has under other names only."""
    names = sorted(known)
    there_are = f"it has {', '.join(names)}" if names else "it has none"
    close = get_close_matches(name, names, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return UnknownNameError(f"This model has no {kind} {name!r}; {there_are}.{meant}", pointer)


def cannot_begin_with_noise(scheduler: str, others: Iterable[str]) -> UnsupportedSchedulerError:
    """The error for a scheduler whose first step would be at pure noise, where it fails."""
    detail = f"The scheduler {scheduler} cannot start from pure noise, as this model does; choose {', '.join(others)}."
    return UnsupportedSchedulerError(detail, "/scheduler")


def no_scorer(model: str) -> NoScorerError:
    """The error for scores of a model without a scorer."""
    return NoScorerError(
        f"The model {model} has no scorer, so it cannot score its pictures; leave score out.", "/score"
    )


def missing_lora(preset: str, lora: str, extra: str) -> UnknownNameError:
    """The error for a preset whose LoRA is not there; ``extra`` is its name for ``msd download``, or empty."""
    remedy = f"add it as loras/{lora}.safetensors" + (
        f", or, for a downloaded SDXL, run: msd download sdxl --with {extra} --force" if extra else ""
    )
    return UnknownNameError(
        f"The preset {preset!r} needs the LoRA {lora!r}, which is not in this model; {remedy}", "/preset"
    )


def not_a_model_directory(name: str, missing: str) -> ModelNotFoundError:
    """Make the error for a directory that lacks a file of every model."""
    return ModelNotFoundError(f"{name} is not a model directory: it holds no {missing}.")
