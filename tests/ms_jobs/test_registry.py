from __future__ import annotations

from ms_core.config import ModelCard, Preset
from ms_jobs.records import WorkerRecord, WorkerState
from tests.support.job_helpers import Desk


def worker_record(desk: Desk, name: str = "w1") -> WorkerRecord:
    return WorkerRecord(
        name=f"{desk.model}-{name}",
        model=desk.model,
        state=WorkerState.IDLE,
        device="cpu",
        host="here",
        pid=1,
        started_at=0.0,
    )


def test_workers_are_seen_until_they_retire(desk: Desk) -> None:
    first, second = worker_record(desk, "w1"), worker_record(desk, "w2")
    desk.registry.publish_worker(first, ttl_s=60)
    desk.registry.publish_worker(second, ttl_s=60)
    desk.registry.retire_worker(first.name, desk.model)
    assert desk.registry.workers(desk.model) == [second]


def test_a_worker_that_beats_no_more_is_gone(desk: Desk) -> None:
    record = worker_record(desk)
    desk.registry.publish_worker(record, ttl_s=60)
    assert 0 < desk.client.ttl(f"msd:worker:{record.name}") <= 60
    desk.client.delete(f"msd:worker:{record.name}")
    assert desk.registry.workers(desk.model) == []
    assert desk.client.exists(f"msd:workers:{desk.model}") == 0


def test_a_card_comes_back_as_it_was(desk: Desk) -> None:
    card = ModelCard(name="golden", max_subjects=3, presets={"fast": Preset(num_inference_steps=4)})
    assert desk.registry.card(desk.model) is None
    desk.registry.publish_card(desk.model, card)
    assert desk.registry.card(desk.model) == card
