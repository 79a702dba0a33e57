from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.config import ModelCard
from ms_core.device.devices import DeviceMemory
from ms_jobs.records import WorkerState
from tests.support.job_helpers import Desk
from worker.config import SETUP_FAILED_EXIT_CODE
from worker.job_run import WorkerContext
from worker.main import Announcer, main
from worker.telemetry import UsageProbe


@pytest.fixture
def empty_model(desk: Desk, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory with a card and nothing else, in the environment as the supervisor gives it."""
    directory = tmp_path / desk.model
    directory.mkdir()
    ModelCard().save(directory)
    values = {"REDIS_URL": redis_url, "MODEL": directory, "DEVICE": "cpu", "WORKER_NAME": f"{desk.model}-w1"}
    for name, value in values.items():
        monkeypatch.setenv(f"MSD_{name}", str(value))
    return directory


@pytest.mark.usefixtures("empty_model")
def test_a_model_that_cannot_be_loaded_is_told(desk: Desk) -> None:
    assert main() == SETUP_FAILED_EXIT_CODE
    (record,) = desk.registry.workers(desk.model)
    assert record.error is not None
    assert (record.state, record.error.code) == (WorkerState.FAILED, "model_not_found")
    assert "model_index.json" in record.error.detail


@pytest.mark.usefixtures("empty_model")
def test_a_device_that_torch_cannot_use_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("MSD_DEVICE", "cuda")
    assert main() == SETUP_FAILED_EXIT_CODE
    (record,) = desk.registry.workers(desk.model)
    assert record.error is not None
    assert "MSD_DEVICE=cpu" in record.error.detail


@pytest.mark.usefixtures("empty_model")
def test_a_device_that_someone_else_uses_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = DeviceMemory(free=1000, total=24 * 10**9, used_by_others=23 * 10**9)
    monkeypatch.setattr("ms_core.device.memory.choice.read_memory", lambda device: memory)
    assert main() == SETUP_FAILED_EXIT_CODE
    (record,) = desk.registry.workers(desk.model)
    assert record.error is not None
    assert record.error.code == "insufficient_memory"
    assert "used by other processes" in record.error.detail


@pytest.mark.usefixtures("empty_model")
@pytest.mark.parametrize("name", ["no_such_module:Runtime", "worker.runtime:NoSuchRuntime"])
def test_a_runtime_that_is_not_there_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MSD_RUNTIME", name)
    assert main() == SETUP_FAILED_EXIT_CODE
    (record,) = desk.registry.workers(desk.model)
    assert record.error is not None
    assert name in record.error.detail
    assert "Unset it" in record.error.detail


@pytest.mark.parametrize(("every_s", "told_next"), [(600.0, "first"), (0.0, "second")])
def test_a_loaded_model_is_announced_and_again_after_a_while(
    desk: Desk, context: WorkerContext, monkeypatch: pytest.MonkeyPatch, every_s: float, told_next: str
) -> None:
    monkeypatch.setattr("worker.main.CARD_EVERY_S", every_s)
    announcer = Announcer(desk.registry, 60, UsageProbe(None))
    beat = context.heartbeat._record
    announcer(beat)
    assert desk.registry.card(desk.model) is None
    announcer.card, announcer.context = ModelCard(name="first"), context
    context.jobs_done = 3
    announcer(beat)
    assert desk.registry.card(desk.model) == ModelCard(name="first")
    assert [worker.jobs_done for worker in desk.registry.workers(desk.model)] == [3]
    announcer.card = ModelCard(name="second")
    announcer(beat)
    assert desk.registry.card(desk.model) == ModelCard(name=told_next)
