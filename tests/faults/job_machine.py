"""A model of a job's life: what Redis, the disk, workers, sweepers and clients do to jobs, one step at a time.

The first half is the *record*: one function for each script in ``ms_jobs/lua``, of the same name and with the same answer.
The second half is the *world* around it: who calls these scripts, in which order, and what can go wrong in between.

A worker takes an entry from the queue, then walks through these places (``Worker.at``); each arrow is one step, and
anything may happen between two steps::

    idle -take-> took -begin-> begun -open_attempt-> opened -progress-> working -save_manifest-> saved -finish-> idle
                                                      |  told to end, or the device is lost
                                                      +-> putting_back -requeue-> enqueuing -put_first-> idle

A sweeper looks for jobs that nobody works on (``Sweeper.at``): it sees one, looks for its manifest (and takes the place of
a last attempt away first, so that none comes later), then ends the job or lets it wait again, then puts it into the queue.

Faults are: a worker dies, stands still, is not heard, is told to end, loses its device, fails; a script is run and its
answer is lost; the queue loses an entry; a sweeper dies; the API dies between any two steps of accepting a job.
Redis being away is no step of its own: as long as it lasts, no script is run, and the workers are not heard.
Time stands in whole units; everything that a clock decides is decided by ``now``.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

MAX_ATTEMPTS = 2
NOBODY = -1
ENDED = ("succeeded", "failed", "canceled", "expired")
DEADLINE_BY = {"cancel_after": 1, "start_within": 1}


class Rules(NamedTuple):
    """The guards of the machine. Each can be taken away, to see that the check finds what it protects from."""

    attempt_is_checked: bool = True
    promised_cancel_is_kept: bool = True
    opening_fences_older: bool = True
    older_cannot_open: bool = True
    sweeper_fences_first: bool = True
    letting_go_is_told: bool = True
    attempts_are_limited: bool = True
    end_is_final: bool = True
    lost_entries_are_put_back: bool = True


SOUND = Rules()


class Record(NamedTuple):
    """A job's hash in Redis, but for what nothing depends on. ``ends`` counts terminal events, which Redis does not."""

    queued_at: int
    cancel_at: int | None
    start_before: int | None
    state: str = "queued"
    version: int = 1
    attempt: int = 0
    handed_back: int = 0
    worker: int = NOBODY
    cancel_requested: bool = False
    result_attempt: int | None = None
    expires_at: int | None = None
    ends: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Scripts(NamedTuple):
    """The scripts; each gives the record as it is afterwards (``None``: there is none) and its answer."""

    rules: Rules = SOUND
    lifetime: int = 2

    def create(self, now: int, cancel_after: int | None = None, start_within: int | None = None) -> Record:
        return Record(
            queued_at=now,
            cancel_at=None if cancel_after is None else now + cancel_after,
            start_before=None if start_within is None else now + start_within,
        )

    def begin(self, record: Record | None, now: int, worker: int) -> tuple[Record | None, int | None]:
        """Answers the attempt's number."""
        if record is None:
            return None, None
        if record.state == "running" and record.worker == worker:
            return record, record.attempt  # its answer was lost on the way, and it asks again
        record = self._apply_deadlines(record, now) if record.state == "queued" else record
        if record.state != "queued":
            return record, None
        record = self._change(record, state="running", attempt=record.attempt + 1, worker=worker)
        return record, record.attempt

    def progress(self, record: Record | None, now: int, attempt: int) -> tuple[Record | None, str]:
        if record is None or not self._is_run_by(record, attempt):
            return record, "taken"
        record = self._change(self._apply_deadlines(record, now))
        return record, "cancel" if record.cancel_requested else "continue"

    def finish(
        self, record: Record | None, now: int, attempt: int, state: str, result_attempt: int | None = None
    ) -> tuple[Record | None, str | None]:
        if record is None or not self._is_run_by(record, attempt):
            return record, None
        kept = record.cancel_requested and self.rules.promised_cancel_is_kept
        if kept or state == "canceled":
            record = self._finish(record, now, "canceled")
        else:
            record = self._finish(record, now, state, result_attempt=result_attempt)
        return record, record.state

    def requeue(
        self, record: Record | None, now: int, attempt: int, reason: str, is_claimed: bool = False
    ) -> tuple[Record | None, str | None]:
        """``is_claimed``: the record's worker is heard, and says that it has the job."""
        if record is not None and record.state == "queued" and record.attempt == attempt:
            return record, "queued"  # its answer was lost on the way, and it is told again
        if record is None or not self._is_run_by(record, attempt):
            return record, None
        if reason == "abandoned" and is_claimed:
            return record, None
        handed_back = record.handed_back + (reason == "handed_back")
        if record.cancel_requested and self.rules.promised_cancel_is_kept:
            record = self._finish(record, now, "canceled")
        elif record.attempt - handed_back >= MAX_ATTEMPTS and self.rules.attempts_are_limited:
            record = self._finish(record, now, "failed")
        else:
            record = self._change(record, state="queued", queued_at=now, handed_back=handed_back, worker=NOBODY)
        return record, record.state

    def cancel(self, record: Record | None, now: int) -> tuple[Record | None, str]:
        if record is None:
            return None, "unknown"
        if record.state == "queued":
            record = self._finish(record, now, "canceled", cancel_requested=True)
        if record.state == "canceled":
            return record, "canceled"
        if record.state != "running":
            return record, "ended"
        if not record.cancel_requested:
            record = self._change(record, cancel_requested=True)
        return record, "requested"

    def pass_time(self, record: Record | None, now: int) -> tuple[Record | None, tuple[str, bool] | None]:
        """Answers the state, and whether the job has outlived its lifetime."""
        if record is None:
            return None, None
        record = self._apply_deadlines(record, now)
        return record, (record.state, record.expires_at is not None and now >= record.expires_at)

    def erase(self, record: Record | None, now: int, reason: str | None) -> tuple[Record | None, bool]:
        if record is None:
            return None, False
        if reason == "expired" and (record.expires_at is None or now < record.expires_at):
            return record, False
        return None, True

    def due(self, record: Record | None) -> int | None:
        """When the next thing happens to the job by the mere passing of time."""
        if record is None:
            return None
        if record.state == "running":
            return None if record.cancel_requested else record.cancel_at
        if record.state != "queued":
            return record.expires_at
        times = [record.queued_at + self.lifetime]
        times += [] if record.cancel_at is None else [record.cancel_at]
        times += [] if record.start_before is None or record.attempt > 0 else [record.start_before]
        return min(times)

    def _is_run_by(self, record: Record, attempt: int) -> bool:
        is_running = record.state == "running" or not self.rules.end_is_final
        return is_running and (record.attempt == attempt or not self.rules.attempt_is_checked)

    def _change(self, record: Record, **fields: object) -> Record:
        return record._replace(version=record.version + 1, **fields)

    def _finish(self, record: Record, now: int, state: str, **fields: object) -> Record:
        return self._change(record, state=state, expires_at=now + self.lifetime, ends=record.ends + 1, **fields)

    def _apply_deadlines(self, record: Record, now: int) -> Record:
        cancel_is_due = record.cancel_at is not None and now >= record.cancel_at and not record.cancel_requested
        if record.state == "queued":
            start_is_due = record.start_before is not None and record.attempt == 0 and now >= record.start_before
            if cancel_is_due:
                return self._finish(record, now, "canceled", cancel_requested=True)
            if start_is_due or now >= record.queued_at + self.lifetime:
                return self._finish(record, now, "expired")
        elif record.state == "running" and cancel_is_due:
            return self._change(record, cancel_requested=True)
        return record


class Files(NamedTuple):
    """A job's folder: the newest attempt that has a place there, and the attempt that left a manifest (0: none)."""

    there: bool = False
    opened: int = 0
    manifest: int = 0


class Job(NamedTuple):
    """``entry``: it is in the queue. ``is_used``: its id is, so that it is not made again."""

    record: Record | None = None
    files: Files = Files()
    entry: bool = False
    is_used: bool = False


class Worker(NamedTuple):
    """``is_heard``: its beats have not run out. One that died is followed by another in its place."""

    at: str = "idle"
    job: int = NOBODY
    attempt: int = 0
    result: int = 0
    reason: str = ""
    is_frozen: bool = False
    is_heard: bool = True


class Sweeper(NamedTuple):
    """``is_last``: the attempt that it saw is the last that the job has."""

    at: str = "idle"
    job: int = NOBODY
    attempt: int = 0
    is_last: bool = False


class World(NamedTuple):
    """Everything there is. ``drains``: how often a worker may still be told to end. ``faults``: how many faults may still
    happen (-1: any number)."""

    jobs: tuple[Job, ...]
    workers: tuple[Worker, ...]
    sweepers: tuple[Sweeper, ...]
    now: int = 0
    drains: int = 1
    faults: int = -1


class Kind(Enum):
    """Whether a step happens sooner or later (``SURE``), may never happen (``MAYBE``), or is one of the faults."""

    SURE = auto()
    MAYBE = auto()
    FAULT = auto()


SURE, MAYBE, FAULT = Kind


class Step(NamedTuple):
    """One transition."""

    name: str
    kind: Kind
    world: World


class JobMachine:
    """All that can happen next, in a world of so many jobs, workers and sweepers.

    Args:
        last_time: time stands still from then on.
        deadline: ``cancel_after`` or ``start_within``: what clients ask for.
        drains: how often a worker may be told to end.
        faults: how many faults may happen in all; -1 for any number.
    """

    def __init__(
        self,
        jobs: int = 1,
        workers: int = 2,
        sweepers: int = 1,
        last_time: int = 0,
        deadline: str | None = None,
        drains: int = 1,
        faults: int = -1,
        rules: Rules = SOUND,
    ) -> None:
        self.rules = rules
        # With time standing still nothing expires.
        self.scripts = Scripts(rules, lifetime=2)
        self._last_time = last_time
        self._limits = {} if deadline is None else {deadline: DEADLINE_BY[deadline]}
        self.start = World(
            (Job(),) * jobs, (Worker(),) * workers, (Sweeper(),) * sweepers, drains=drains, faults=faults
        )

    def steps(self, world: World) -> Iterator[Step]:
        """Everything that can happen next."""
        for step in self._all_steps(world):
            if step.kind is not FAULT or world.faults < 0:
                yield step
            elif world.faults > 0:
                yield step._replace(world=step.world._replace(faults=world.faults - 1))

    def _all_steps(self, world: World) -> Iterator[Step]:
        for index in range(len(world.jobs)):
            yield from self._client_steps(world, index)
            yield from self._housekeeping_steps(world, index)
        for index in range(len(world.workers)):
            yield from self._worker_steps(world, index)
            yield from self._worker_faults(world, index)
        for index in range(len(world.sweepers)):
            yield from self._sweeper_steps(world, index)
        if world.now < self._last_time:
            yield Step("time passes", SURE, world._replace(now=world.now + 1))

    def _client_steps(self, world: World, index: int) -> Iterator[Step]:
        job = world.jobs[index]
        if not job.is_used:
            # The API may die after each of these, and the sweeper puts into the queue what is not there.
            if not job.files.there:
                yield Step(f"j{index}: files", MAYBE, _with_job(world, index, files=Files(there=True)))
            else:
                record = self.scripts.create(world.now, **self._limits)
                world = _with_job(world, index, record=_unversioned(record), is_used=True)
                yield Step(f"j{index}: create", MAYBE, world)
            return
        if job.record is not None:
            record, answer = self.scripts.cancel(job.record, world.now)
            if record != job.record:
                yield Step(f"j{index}: cancel ({answer})", MAYBE, _with_record(world, index, record))
            yield Step(f"j{index}: erase (deleted)", MAYBE, _with_record(world, index, None))

    def _housekeeping_steps(self, world: World, index: int) -> Iterator[Step]:
        job = world.jobs[index]
        if job.record is None and job.files.there and job.is_used:
            yield Step(f"j{index}: remove files", SURE, _with_job(world, index, files=Files()))
        due = self.scripts.due(job.record)
        if due is not None and due <= world.now:
            record, answer = self.scripts.pass_time(job.record, world.now)
            if answer is not None and answer[1]:
                record, _ = self.scripts.erase(record, world.now, "expired")
            yield Step(f"j{index}: pass_time", SURE, _with_record(world, index, record))

    def _worker_steps(self, world: World, index: int) -> Iterator[Step]:
        worker = world.workers[index]
        if worker.is_frozen:
            return
        if not worker.is_heard:
            yield Step(f"w{index}: beat", SURE, _with_worker(world, index, worker._replace(is_heard=True)))
        if worker.at == "idle":
            for number, job in enumerate(world.jobs):
                if job.entry:
                    taken = _with_job(world, number, entry=False)
                    yield Step(
                        f"w{index}: take j{number}",
                        SURE,
                        _with_worker(taken, index, worker._replace(at="took", job=number)),
                    )
            return
        name = f"w{index} at {worker.at}"
        steps = {
            "took": self._begin,
            "begun": self._open,
            "opened": self._report,
            "working": self._save,
            "saved": self._end,
            "ending": self._end,
            "putting_back": self._put_back,
            "enqueuing": self._enqueue,
        }
        yield from steps[worker.at](world, index, worker, name)

    def _worker_faults(self, world: World, index: int) -> Iterator[Step]:
        worker = world.workers[index]
        if worker.is_frozen:
            thawed = worker._replace(is_frozen=False)
            yield Step(f"w{index}: goes on", MAYBE, _with_worker(world, index, thawed))
        elif worker.at != "idle":
            yield Step(f"w{index}: stands still", FAULT, _with_worker(world, index, worker._replace(is_frozen=True)))
        if worker.is_heard:
            # One that stands still is not heard soon, one that cannot reach Redis may be.
            silent = _with_worker(world, index, worker._replace(is_heard=False))
            yield Step(f"w{index}: is not heard", SURE if worker.is_frozen else FAULT, silent)
        if worker != Worker():
            # A supervisor kills what stands still.
            is_hung = worker.is_frozen and not worker.is_heard
            yield Step(f"w{index}: dies", SURE if is_hung else FAULT, _without_worker(world, index))

    def _begin(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        record, attempt = self.scripts.begin(world.jobs[worker.job].record, world.now, index)
        begun = _with_record(world, worker.job, record)
        yield Step(f"{name}: begin, answer lost", FAULT, begun)
        if attempt is None:
            yield Step(f"{name}: begin (not its own)", SURE, _idle(begun, index))
        else:
            worker = worker._replace(at="begun", attempt=attempt)
            yield Step(f"{name}: begin ({attempt})", SURE, _with_worker(begun, index, worker))

    def _open(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        files = world.jobs[worker.job].files
        if not files.there:
            yield self._let_go(world, index, worker, f"{name}: no files")
            return
        files, is_over = self._fenced(files, worker.attempt)
        opened = _with_job(world, worker.job, files=files)
        if files.manifest:
            worker = worker._replace(at="saved", result=files.manifest)
            yield Step(f"{name}: finds manifest {files.manifest}", SURE, _with_worker(opened, index, worker))
        elif is_over:
            yield self._let_go(world, index, worker, f"{name}: a later attempt has a place")
        else:
            yield Step(f"{name}: opens", SURE, _with_worker(opened, index, worker._replace(at="opened")))

    def _fenced(self, files: Files, attempt: int) -> tuple[Files, bool]:
        """The files after an attempt made itself a place, and whether it came too late for that."""
        if files.manifest or (files.opened > attempt and self.rules.older_cannot_open):
            return files, files.opened > attempt
        return files._replace(opened=attempt), False

    def _report(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        record, answer = self.scripts.progress(world.jobs[worker.job].record, world.now, worker.attempt)
        reported = _with_record(world, worker.job, record)
        if answer == "taken":
            yield Step(f"{name}: progress (taken)", SURE, _idle(reported, index))
        elif answer == "cancel":
            canceling = worker._replace(at="ending", reason="canceled")
            yield Step(f"{name}: progress (cancel)", SURE, _with_worker(reported, index, canceling))
        else:
            working = _with_worker(reported, index, worker._replace(at="working"))
            yield Step(f"{name}: progress (continue)", SURE, working)
        # Redis does not answer, and the work goes on.
        yield Step(f"{name}: unreported", FAULT, _with_worker(world, index, worker._replace(at="working")))
        failed = worker._replace(at="ending", reason="failed")
        yield Step(f"{name}: the job fails", FAULT, _with_worker(world, index, failed))
        lost = worker._replace(at="putting_back", reason="given_back")
        yield Step(f"{name}: the device is lost", FAULT, _with_worker(world, index, lost))
        if world.drains:
            told = worker._replace(at="putting_back", reason="handed_back")
            drained = world._replace(drains=world.drains - 1)
            yield Step(f"{name}: told to end", FAULT, _with_worker(drained, index, told))

    def _save(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        files = world.jobs[worker.job].files
        is_fenced = files.opened != worker.attempt and self.rules.opening_fences_older
        if not files.there or is_fenced:
            yield self._let_go(world, index, worker, f"{name}: its place is gone")
            return
        saved = _with_job(world, worker.job, files=files._replace(manifest=worker.attempt))
        worker = worker._replace(at="saved", result=worker.attempt)
        yield Step(f"{name}: saves the manifest", SURE, _with_worker(saved, index, worker))

    def _end(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        state = worker.reason or "succeeded"
        result = worker.result if state == "succeeded" else None
        record = world.jobs[worker.job].record
        record, answer = self.scripts.finish(record, world.now, worker.attempt, state, result)
        ended = _with_record(world, worker.job, record)
        yield Step(f"{name}: finish, answer lost", FAULT, ended)
        yield Step(f"{name}: finish ({answer})", SURE, _idle(ended, index))

    def _put_back(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        record = world.jobs[worker.job].record
        record, answer = self.scripts.requeue(record, world.now, worker.attempt, worker.reason)
        requeued = _with_record(world, worker.job, record)
        yield Step(f"{name}: requeue, answer lost", FAULT, requeued)
        if answer == "queued":
            worker = worker._replace(at="enqueuing")
            yield Step(f"{name}: requeue (queued)", SURE, _with_worker(requeued, index, worker))
        else:
            yield Step(f"{name}: requeue ({answer})", SURE, _idle(requeued, index))

    def _enqueue(self, world: World, index: int, worker: Worker, name: str) -> Iterator[Step]:
        yield Step(f"{name}: put_first", SURE, _idle(_with_job(world, worker.job, entry=True), index))

    def _let_go(self, world: World, index: int, worker: Worker, name: str) -> Step:
        """The attempt is over, so the worker says: if the record does not know yet, it does then."""
        if not self.rules.letting_go_is_told:
            return Step(name, SURE, _idle(world, index))
        return Step(name, SURE, _with_worker(world, index, worker._replace(at="putting_back", reason="given_back")))

    def _sweeper_steps(self, world: World, index: int) -> Iterator[Step]:
        sweeper = world.sweepers[index]
        name = f"s{index} at {sweeper.at}"
        if sweeper.at == "idle":
            for number, job in enumerate(world.jobs):
                record = job.record
                if record is None or job.entry or record.ended:
                    continue
                if record.state == "queued" and self.rules.lost_entries_are_put_back:
                    # Its look and its deed are one step: a second entry does no harm.
                    yield Step(f"{name}: put_first j{number}", SURE, _with_job(world, number, entry=True))
                elif record.state == "running" and not self._is_heard(world, record.worker):
                    is_last = record.attempt - record.handed_back >= MAX_ATTEMPTS
                    seen = Sweeper("saw", number, record.attempt, is_last)
                    yield Step(f"{name}: sees j{number} left", SURE, _with_sweeper(world, index, seen))
            return
        yield Step(f"{name}: dies", FAULT, _with_sweeper(world, index, Sweeper()))
        steps = {
            "saw": self._sweep_files,
            "fenced": self._abandon,
            "found": self._adopt,
            "enqueuing": self._enqueue_again,
        }
        yield steps[sweeper.at](world, index, sweeper, name)

    def _is_heard(self, world: World, worker: int) -> bool:
        return worker != NOBODY and world.workers[worker].is_heard

    def _is_claimed(self, world: World, worker: int, job: int) -> bool:
        # A worker says what it works on from when it opens a place for it.
        is_told = self._is_heard(world, worker) and world.workers[worker].at not in ("idle", "took", "begun")
        return is_told and world.workers[worker].job == job

    def _sweep_files(self, world: World, index: int, sweeper: Sweeper, name: str) -> Step:
        job = world.jobs[sweeper.job]
        files = job.files
        # What comes later than this look is found by the next attempt; if there is none, nothing may come later.
        is_last = sweeper.is_last
        if is_last and self.rules.sweeper_fences_first and files.there:
            files, _ = self._fenced(files, sweeper.attempt + 1)
        world = _with_job(world, sweeper.job, files=files)
        is_found = files.manifest and (is_last or files.manifest == sweeper.attempt)
        at = "found" if is_found else "fenced"
        return Step(f"{name}: {at}", SURE, _with_sweeper(world, index, sweeper._replace(at=at)))

    def _adopt(self, world: World, index: int, sweeper: Sweeper, name: str) -> Step:
        job = world.jobs[sweeper.job]
        result = job.files.manifest
        record, answer = self.scripts.finish(job.record, world.now, sweeper.attempt, "succeeded", result)
        world = _with_record(world, sweeper.job, record)
        return Step(f"{name}: finish ({answer})", SURE, _with_sweeper(world, index, Sweeper()))

    def _abandon(self, world: World, index: int, sweeper: Sweeper, name: str) -> Step:
        record = world.jobs[sweeper.job].record
        is_claimed = record is not None and self._is_claimed(world, record.worker, sweeper.job)
        record, answer = self.scripts.requeue(record, world.now, sweeper.attempt, "abandoned", is_claimed)
        world = _with_record(world, sweeper.job, record)
        sweeper = sweeper._replace(at="enqueuing") if answer == "queued" else Sweeper()
        return Step(f"{name}: requeue ({answer})", SURE, _with_sweeper(world, index, sweeper))

    def _enqueue_again(self, world: World, index: int, sweeper: Sweeper, name: str) -> Step:
        queued = _with_job(world, sweeper.job, entry=True)
        return Step(f"{name}: put_first", SURE, _with_sweeper(queued, index, Sweeper()))


def broken_invariants(world: World) -> list[str]:
    """Which of the invariants do not hold; the first, that a job always ends, is a matter of paths and not told here."""
    broken = []
    for index, job in enumerate(world.jobs):
        record = job.record
        if record is None:
            continue
        if record.ends > 1 or (record.ends == 1) != record.ended:
            broken.append(f"j{index}: it ends once")
        if record.ended and record.cancel_requested and record.state != "canceled":
            broken.append(f"j{index}: a promised cancel is kept")
        if record.state == "canceled" and record.result_attempt is not None:
            broken.append(f"j{index}: canceled means no picture is served")
        if record.state == "succeeded" and job.files != Files(True, job.files.opened, record.result_attempt or -1):
            broken.append(f"j{index}: a finished picture is never lost: the record names others than are there")
        if record.state == "failed" and job.files.manifest:
            broken.append(f"j{index}: a finished picture is never lost: the job failed with its pictures stored")
        if record.attempt - record.handed_back > MAX_ATTEMPTS:
            broken.append(f"j{index}: at most two attempts")
    return broken


def all_ended(world: World) -> bool:
    """Whether every job that a client was told of, and every other with a record, has ended."""
    return all(job.record is None or job.record.ended for job in world.jobs)


def _unversioned(record: Record | None) -> Record | None:
    """Versions grow without end and decide nothing, so the world does without."""
    return None if record is None else record._replace(version=0)


def _with_job(world: World, index: int, **fields: object) -> World:
    jobs = world.jobs
    return world._replace(jobs=(*jobs[:index], jobs[index]._replace(**fields), *jobs[index + 1 :]))


def _with_record(world: World, index: int, record: Record | None) -> World:
    return _with_job(world, index, record=_unversioned(record))


def _with_worker(world: World, index: int, worker: Worker) -> World:
    workers = world.workers
    return world._replace(workers=(*workers[:index], worker, *workers[index + 1 :]))


def _with_sweeper(world: World, index: int, sweeper: Sweeper) -> World:
    sweepers = world.sweepers
    return world._replace(sweepers=(*sweepers[:index], sweeper, *sweepers[index + 1 :]))


def _idle(world: World, index: int) -> World:
    return _with_worker(world, index, Worker(is_heard=world.workers[index].is_heard))


def _without_worker(world: World, index: int) -> World:
    """The worker is dead, and another of another name in its place."""
    for number, job in enumerate(world.jobs):
        if job.record is not None and job.record.worker == index:
            world = _with_record(world, number, job.record._replace(worker=NOBODY))
    return _with_worker(world, index, Worker())
