"""The worker's second function: cut-outs of assets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from ms_core.errors import DeviceLostError, DeviceOutOfMemoryError
from ms_core.spec import Subject
from ms_jobs.asset_variants import NewVariant
from ms_jobs.assets import AssetStore
from ms_jobs.records import CUTOUT_JOB, LOCAL_OWNER, JobError
from tests.support.job_helpers import Desk, picture_png
from tests.support.sample_requests import decoded
from tests.worker.flat_runtime import FlatRuntime
from worker import jobs
from worker.cutouts import make_cutout
from worker.job_run import WorkerContext
from worker.rq_worker import ALLOWED


@pytest.fixture
def assets(desk: Desk) -> AssetStore:
    return desk.artifacts.assets(100)


@pytest.fixture
def asset_id(assets: AssetStore) -> str:
    variant = NewVariant(picture_png((255, 0, 0)), 32, 32, {})
    with assets.adding() as new:
        new.add(False, {"shown": variant, "exact": variant, "mask": variant})
        return assets.publish(new)[0].id


@pytest.fixture
def seen(runtime: FlatRuntime, monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """Subjects that the runtime was shown; it draws them blue."""
    subjects: list[Subject] = []

    def preview(subject: Subject) -> Image.Image:
        subjects.append(subject)
        return Image.new("RGB", (8, 8), "blue")

    monkeypatch.setattr(runtime, "preview", preview)
    return subjects


def failing(error: Exception) -> Callable[[Subject], Image.Image]:
    def preview(subject: Subject) -> Image.Image:
        raise error

    return preview


def test_the_name_in_the_contract_is_the_function() -> None:
    module, _, name = CUTOUT_JOB.rpartition(".")
    assert (module, name) == (jobs.cutout.__module__, jobs.cutout.__qualname__)
    assert ALLOWED[CUTOUT_JOB] is jobs.cutout
    assert len(ALLOWED) == 2


def test_it_stores_what_the_model_sees(
    context: WorkerContext, desk: Desk, assets: AssetStore, asset_id: str, seen: list[Subject]
) -> None:
    make_cutout(context, LOCAL_OWNER, asset_id)
    made = assets.cutout(asset_id, desk.model)
    assert isinstance(made, bytes)
    assert decoded(made).getpixel((0, 0)) == (0, 0, 255)
    (subject,) = seen
    assert subject.cutout
    assert subject.images[0].getpixel((16, 16)) == (255, 0, 0)
    assert context.heartbeat.is_idle


def test_one_that_is_there_is_not_made_again(
    context: WorkerContext, desk: Desk, assets: AssetStore, asset_id: str, seen: list[Subject]
) -> None:
    assets.keep_cutout(asset_id, desk.model, b"png")
    make_cutout(context, LOCAL_OWNER, asset_id)
    assert seen == []


@pytest.mark.parametrize(("owner", "asset_id"), [("alice", "0" * 32), ("../x", "0" * 32), (LOCAL_OWNER, "../x")])
def test_what_is_not_there_is_left_alone(
    context: WorkerContext, seen: list[Subject], owner: str, asset_id: str
) -> None:
    make_cutout(context, owner, asset_id)
    assert seen == []
    assert context.heartbeat.is_idle


def test_an_error_of_the_device_is_kept_for_who_asked(
    context: WorkerContext, desk: Desk, assets: AssetStore, asset_id: str, runtime: FlatRuntime
) -> None:
    runtime.preview = failing(DeviceOutOfMemoryError("Too little memory."))
    make_cutout(context, LOCAL_OWNER, asset_id)
    assert assets.cutout(asset_id, desk.model) == JobError(code="device_out_of_memory", detail="Too little memory.")
    assert not context.device_lost


def test_a_lost_device_ends_the_worker_and_is_told(
    context: WorkerContext, desk: Desk, assets: AssetStore, asset_id: str, runtime: FlatRuntime
) -> None:
    """Who waits for the cut-out must not have one device after the other lost."""
    runtime.preview = failing(DeviceLostError("gone"))
    make_cutout(context, LOCAL_OWNER, asset_id)
    assert context.device_lost
    assert assets.cutout(asset_id, desk.model) == JobError(code="device_lost", detail="gone")


def test_a_bug_costs_no_worker(
    context: WorkerContext, desk: Desk, assets: AssetStore, asset_id: str, runtime: FlatRuntime
) -> None:
    runtime.preview = failing(KeyError("bug"))
    make_cutout(context, LOCAL_OWNER, asset_id)
    found = assets.cutout(asset_id, desk.model)
    assert isinstance(found, JobError)
    assert (found.code, "KeyError" in found.detail) == ("internal_error", False)


def test_one_that_is_erased_meanwhile_is_not_stored(
    context: WorkerContext, assets: AssetStore, asset_id: str, runtime: FlatRuntime
) -> None:
    def preview(subject: Subject) -> Image.Image:
        assets.remove(asset_id)
        return Image.new("RGB", (8, 8))

    runtime.preview = preview
    make_cutout(context, LOCAL_OWNER, asset_id)
    assert assets.page(10, None) == ([], False)
