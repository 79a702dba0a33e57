from __future__ import annotations

import json

import pytest

from ms_core.errors import UnreadableJobError
from ms_core.spec import GenerationWarning
from ms_core.spec.score import UNKNOWN_SCORE, Redraw
from ms_jobs.keys import JobKey
from ms_jobs.records import (
    ErasedJob,
    JobError,
    JobRecord,
    JobState,
    PictureScore,
    StoredImage,
    SubjectScore,
    WorkerRecord,
    WorkerState,
    is_job_id,
    is_model_name,
    new_job_id,
    read_beats,
)

SHA = "ab" * 32


def test_new_job_ids_are_valid_and_differ() -> None:
    ids = {new_job_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_job_id(job_id) for job_id in ids)


@pytest.mark.parametrize("text", ["", "short", "../../../../etc/passwd", "a" * 65, "a" * 15, "abcdefghijklmnop\n"])
def test_other_text_is_no_job_id(text: str) -> None:
    assert not is_job_id(text)


@pytest.mark.parametrize("text", ["", ".hidden", "a/b", "a b", "x" * 65])
def test_other_text_names_no_model(text: str) -> None:
    assert not is_model_name(text)


def test_states_that_have_ended() -> None:
    assert [state for state in JobState if not state.ended] == [JobState.QUEUED, JobState.RUNNING]


def test_what_a_newer_version_knows_of_a_job_is_passed_over() -> None:
    record = JobRecord(id=new_job_id(), model="mini", folder="f", seed=7)
    assert JobRecord.from_hash(record.to_hash() | {"colour": '"blue"'}) == record


def test_scores_take_little_room_and_come_back() -> None:
    subjects = (SubjectScore(0.99, 0.8, 0.7), None, UNKNOWN_SCORE)
    score = PictureScore(3, subjects, (Redraw(0, True), Redraw(None, False)))
    image = StoredImage(index=0, sha256=SHA, width=16, height=8, seed=7, score=score)
    plain = image.model_copy(update={"score": None})
    record = JobRecord(id=new_job_id(), model="mini", folder="f", seed=7, images=(image, plain))
    fields = record.to_hash()
    assert fields["images"].count("score") == 1
    assert '"score":[3,[[0.99,0.8,0.7],null,[null,null,null]],[[0,true],[null,false]]]' in fields["images"]
    assert JobRecord.from_hash(fields) == record


def test_what_a_newer_version_says_of_a_worker_is_kept_and_written_back() -> None:
    record = WorkerRecord(
        name="w1", model="mini", state=WorkerState.IDLE, device="cpu", host="h", pid=1, started_at=0.0
    )
    read = WorkerRecord.from_beat(record.model_dump_json()[:-1] + ',"colour":"blue"}')
    assert (read.name, read.state) == (record.name, record.state)
    assert json.loads(read.model_copy(update={"phase": "load"}).model_dump_json())["colour"] == "blue"


def test_a_state_that_only_a_newer_version_knows_is_unknown_and_does_not_serve() -> None:
    record = WorkerRecord(
        name="w1", model="mini", state=WorkerState.IDLE, device="cpu", host="h", pid=1, started_at=0.0
    )
    read = WorkerRecord.from_beat(record.model_dump_json().replace('"idle"', '"resting"'))
    assert (read.state, read.state.serves) == (WorkerState.UNKNOWN, False)


def test_a_heartbeat_that_cannot_be_read_costs_no_other() -> None:
    record = WorkerRecord(
        name="w1", model="mini", state=WorkerState.IDLE, device="cpu", host="h", pid=1, started_at=0.0
    )
    assert list(read_beats([b"{", None, b"[]", record.model_dump_json(), b"\xff"])) == [record]


def test_more_numbers_in_a_stored_score_are_passed_over() -> None:
    score = [2, [[0.9, 0.8, 0.7, 0.6], None], [[0, True, "new"]], "new"]
    image = StoredImage.model_validate({"index": 0, "sha256": SHA, "width": 16, "height": 8, "seed": 7, "score": score})
    assert image.score == PictureScore(2, (SubjectScore(0.9, 0.8, 0.7), None), (Redraw(0, True),))


def test_a_score_without_redraws_of_an_older_version_can_be_read() -> None:
    image = StoredImage.model_validate(
        {"index": 0, "sha256": SHA, "width": 16, "height": 8, "seed": 7, "score": [2, [[0.9, 0.8, 0.7], None]]}
    )
    assert image.score == PictureScore(2, (SubjectScore(0.9, 0.8, 0.7), None))


def test_what_a_newer_version_stored_of_a_picture_is_written_back() -> None:
    stored = {"index": 0, "sha256": SHA, "width": 16, "height": 8, "seed": 7, "colour": "blue"}
    assert StoredImage.model_validate(stored).model_dump()["colour"] == "blue"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("state", '"paused"'),
        ("seed", "{"),
        ("version", '"one"'),
        ("created_at", "1e300"),
        ("started_at", "-1"),
        ("steps", "9" * 400),
        ("images", '[{"index":0}]'),
        ("folder", "null"),
    ],
)
def test_a_damaged_record_is_told_as_one_error(name: str, text: str) -> None:
    record = JobRecord(id=new_job_id(), model="mini", folder="f", seed=7)
    with pytest.raises(UnreadableJobError):
        JobRecord.from_hash(record.to_hash() | {name: text})


def test_of_an_erased_record_only_what_is_needed_must_be_readable() -> None:
    key = JobKey("local", new_job_id())
    fields = {"folder": '"f"', "model": "{", "attempt": "2", "state": "?"}
    assert ErasedJob.from_hash(key, fields) == ErasedJob("f", None, key.entry(2))
    assert ErasedJob.from_hash(key, {"attempt": "many"}) == ErasedJob(None, None, key.entry(0))


def test_a_record_survives_its_hash() -> None:
    record = JobRecord(
        id=new_job_id(),
        model="mini",
        state=JobState.FAILED,
        folder="f",
        seed=0,
        cancel_requested=True,
        started_at=1.5,
        warnings=(GenerationWarning(code="a", detail="b", pointer="/c"),),
        images=(StoredImage(index=0, sha256=SHA, width=8, height=8, seed=0),),
        error=JobError(code="internal", detail="Ünicode"),
    )
    as_redis_gives_it = {name.encode(): value.encode() for name, value in record.to_hash().items()}
    assert JobRecord.from_hash(as_redis_gives_it) == record


def test_a_record_of_an_older_version_is_read() -> None:
    record = JobRecord(id=new_job_id(), model="mini", folder="f", seed=0)
    fields = record.to_hash()
    del fields["references"]
    assert JobRecord.from_hash(fields) == record


def test_workers_serve_while_they_are_idle_or_busy() -> None:
    assert [state for state in WorkerState if state.serves] == [WorkerState.IDLE, WorkerState.BUSY]
