"""Makes the cut-out of an asset: what the model sees of a subject with ``cutout``, before any job asks for it."""

from __future__ import annotations

import logging

from ms_core.errors import AssetNotFoundError, DeviceLostError, MSDiffusionError
from ms_core.spec import WHOLE_PICTURE, Subject
from ms_jobs.assets import AssetStore
from ms_jobs.records import JobError, WorkerState
from ms_jobs.result_files import png_of
from worker.job_run import WorkerContext
from worker.logs import error_fields

log = logging.getLogger(__name__)


def make_cutout(context: WorkerContext, owner: str, asset_id: str) -> None:
    """Store the cut-out of an asset beside it, or why there is none; raises nothing."""
    context.heartbeat.enter("encode", WorkerState.BUSY)
    model = context.queue.model
    try:
        assets = context.artifacts.for_owner(owner).assets(context.asset_lifetime_s)
        _make(context, assets, asset_id, model)
    except AssetNotFoundError:
        log.info("asset %s is gone; its cut-out is not made", asset_id)
    except DeviceLostError as error:
        log.critical("device lost", extra=error_fields(error))
        context.device_lost = True
    except MSDiffusionError as error:
        log.warning("cut-out cannot be made", extra=error_fields(error))
    finally:
        state = WorkerState.DEFUNCT if context.device_lost else WorkerState.IDLE
        context.heartbeat.enter("idle", state)


def _make(context: WorkerContext, assets: AssetStore, asset_id: str, model: str) -> None:
    if assets.cutout(asset_id, model) is not None:
        return
    picture = assets.find(asset_id).kept("shown").load()
    try:
        # The phrase is not read.
        seen = context.runtime.preview(Subject("subject", picture, WHOLE_PICTURE, cutout=True))
        assets.keep_cutout(asset_id, model, png_of(seen))
        log.info("made the cut-out of asset %s", asset_id)
    except MSDiffusionError as error:
        assets.refuse_cutout(asset_id, model, JobError(code=error.code, detail=error.detail))
        raise
    except Exception:  # as the boundary of a job: the worker goes on after any error
        log.exception("a cut-out broke the service's own code")
        detail = "The cut-out cannot be made: internal error; see the worker's log."
        assets.refuse_cutout(asset_id, model, JobError(code="internal_error", detail=detail))
