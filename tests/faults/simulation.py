"""The real service but for the model, in one process and in fake time, with faults between any two steps.

Clients hand in jobs through ``app.jobs``; workers take them from RQ's queue with RQ's own code and
run them with ``worker.job_run``; housekeepers look after them; hosts start workers anew. All share a real Redis and real
files. What happens when, and what goes wrong, one seed decides: ``simulate`` runs it, and raises ``Violation`` with the
whole story if what was promised to clients is broken.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import logging
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import StopRequested

from app.config import Settings
from app.jobs.manage import Jobs
from app.jobs.submit import Submissions, SubmitOptions
from app.requests.decoding import PictureLimits
from app.requests.intake import SentRequest, parse_request
from ms_core.errors import DeviceLostError, JobGoneError, JobNotFoundError, MSDiffusionError
from ms_core.spec import GenerationSpec, Subject
from ms_jobs import job_store, lease
from ms_jobs import registry as registry_module
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.job_store import JobStore
from ms_jobs.keys import JobKey
from ms_jobs.outcomes import Requeue
from ms_jobs.queue import JobQueue
from ms_jobs.records import GENERATE_JOB, JobRecord, JobState, WorkerRecord, WorkerState
from ms_jobs.registry import Registry
from ms_jobs.result_files import read_recipe
from tests.faults.baton import Actor, Process, Schedule, current_actor
from tests.faults.seams import CLIENT_RETRIES, ActorsRedis, Network, seams
from worker.config import WorkerSettings
from worker.housekeeper import Housekeeper
from worker.job_run import JobRun, Picture, Report, WorkerContext
from worker.recovery import Recovery
from worker.rq_worker import DeviceWorker, GuardedJob

START = 1_800_000_000.0
MODEL = "flat"
STEPS = 2
LIFETIME_S = 300.0
BEAT_S, BEAT_TTL_S, GRACE_S = 1.0, 3, 2.0
HANG_S = 12.0
FAULTS_END_S = 60.0
PATIENCE_S = 120.0
TICK_S = 2.0
# How often something befalls an actor at a step; heartbeats and housekeepers take many of no great interest.
RARELY = {"heartbeat": 0.05, "housekeeper": 0.2, "supervisor": 0.2, "client": 0.3}

# What a schedule may hold: how often it is tried, and for how many seconds it lasts.
FAULTS: dict[str, int] = {
    "kill": 6,
    "freeze": 5,
    "hang": 2,
    "cut process": 3,
    "cut command": 4,
    "lose answer": 6,
    "cut Redis": 2,
    "forget scripts": 1,
    "drain": 3,
    "lose device": 2,
    "lose entries": 1,
    "jump": 2,
    "long jump": 1,
}
# Some shorter than it takes to be missed, some about as long as until another has begun the job, some longer.
OF_WORKERS = {"kill", "freeze", "hang", "cut process", "drain", "lose device"}
DURATIONS_S = (0.3, 3.0, 6.0, 7.0, 8.0, 10.0, 15.0)
STEP_S = (0.0, 0.0, 0.5, 2.0)


class Violation(AssertionError):
    """Something was broken that was promised; tells how it came to that."""


@cache
def generate_request(seed: int | None, num_images: int) -> SentRequest:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 60, 30)).save(buffer, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    subject = f'{{"phrase": "cat", "image": "{uri}", "box": [0.1, 0.1, 0.6, 0.9]}}'
    body = f'{{"prompt": "a cat", "subjects": [{subject}], "num_images": {num_images}, "seed": {seed}}}'
    return parse_request(body.encode(), PictureLimits())


class FlatRuntime:
    """Makes flat pictures, each of which tells which run of which job it is from."""

    device = "cpu"

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process
        self.lost = False

    def run(self, specs: list[GenerationSpec]) -> Generator[Report | list[Picture]]:
        # Each run on a device has a number of its own.
        self._number = self._world.count_run()
        yield Report("encode")
        for step in range(1, STEPS + 1):
            self._world.schedule.step(("compute", step))
            self._world.schedule.sleep(self._world.random.choice(STEP_S))
            if self.lost:
                raise DeviceLostError("The device is lost.")
            yield Report("denoise", step, STEPS)
        yield [Picture(Image.new("RGB", (4, 4), (spec.seed % 256, 0, 0))) for spec in specs]

    def preview(self, subject: Subject) -> Image.Image:
        raise NotImplementedError("No subject here asks for a cut-out.")

    def recipe(self, spec: GenerationSpec) -> dict[str, Any]:
        return {"run": self._number}


class SteppedHeartbeat:
    """What ``worker.heartbeat`` does, in a thread that takes turns."""

    def __init__(self, world: World, process: Process, registry: Registry) -> None:
        self._world, self._registry = world, registry
        self._record = WorkerRecord(
            name=process.name,
            model=MODEL,
            state=WorkerState.IDLE,
            device="cpu",
            host="h",
            pid=1,
            started_at=world.schedule.now,
        )
        self._since = world.schedule.now
        self.actor: Actor | None = None

    def enter(self, phase: str, state: WorkerState, job_id: str | None = None) -> None:
        changed = state is not self._record.state
        self._record = self._record.model_copy(update={"phase": phase, "state": state, "job_id": job_id})
        self._since = self._world.schedule.now
        if changed and self.actor is not None:
            self._world.schedule.wake(self.actor)

    @property
    def is_busy(self) -> bool:
        return self._record.state is WorkerState.BUSY

    @property
    def is_hung(self) -> bool:
        return self.is_busy and self._record.phase != "record" and self._world.schedule.now - self._since > HANG_S

    def beat(self) -> None:
        while True:
            if not self.is_hung:
                with suppress(RedisError):
                    self._registry.publish_worker(self._record, BEAT_TTL_S)
            self._world.schedule.sleep(BEAT_S)


@dataclass(eq=False)
class SimulatedWorker:
    """A worker process: its main thread and its heartbeat."""

    process: Process
    context: WorkerContext
    runtime: FlatRuntime
    heartbeat: SteppedHeartbeat
    main: Actor | None = None
    has_exited: bool = False


@dataclass
class Promises:
    """What clients were told."""

    accepted: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    succeeded: dict[str, tuple[str, ...]] = field(default_factory=dict)


class World:
    """Everything there is in one schedule."""

    def __init__(self, seed: int, real: Redis, root: Path) -> None:
        self.schedule = Schedule(seed, START)
        self.random = self.schedule.random
        self.real = real
        self._empty_redis()
        self.network = Network(self.schedule, self.real, script_names())
        self.root = root
        self.artifacts = ArtifactStore(root)
        self.worker_settings = WorkerSettings.model_construct(
            **{
                **{name: field.default for name, field in WorkerSettings.model_fields.items()},
                "lifetime_s": LIFETIME_S,
                "heartbeat_ttl_s": BEAT_TTL_S,
                "recovery_grace_s": GRACE_S,
                "min_free_disk_mb": 0,
            }
        )
        self.settings = Settings(model=MODEL, data_dir=root, lifetime_s=LIFETIME_S, min_free_disk_mb=0)
        self.promises = Promises()
        self.workers: list[SimulatedWorker] = []
        self.broken = self.network.broken
        self._numbers = itertools.count(1)
        self._runs = itertools.count(1)
        self._runs_of: dict[str, int] = {}
        self._job_of: dict[str, str] = {}
        self.clients_left = 0
        self.faults_left = self.random.choice((1, 2, 3, 4, 6, 10))
        self._fault_rate = self.random.choice((0.03, 0.06, 0.12))
        self.schedule.on_step = self._maybe_fault
        self._idle: set[Actor] = set()
        self.network.on_push = self._wake_idle_workers

    def _empty_redis(self) -> None:
        """Let it hold nothing but our scripts, as for a service that has run for a while."""
        with self.real.pipeline(transaction=False) as pipeline:
            pipeline.flushdb()
            pipeline.script_flush()
            for text in (*job_store._SCRIPTS.values(), lease._HOLD, lease._RELEASE, registry_module._BEAT):
                pipeline.script_load(text)
            pipeline.execute()

    # What a process of each kind is.

    def client_of(self, process: Process, blocking: bool = False) -> ActorsRedis:
        return ActorsRedis(self.network, process, None if blocking else CLIENT_RETRIES)

    def count_run(self) -> int:
        number = next(self._runs)
        key = current_actor().name.partition(" ")[0]
        job = self._job_of[key]
        self._runs_of[job] = self._runs_of.get(job, 0) + 1
        return number

    def start_worker(self) -> SimulatedWorker:
        process = Process(f"worker-{next(self._numbers)}", "worker")
        client, blocking = self.client_of(process), self.client_of(process, blocking=True)
        runtime = FlatRuntime(self, process)
        heartbeat = SteppedHeartbeat(self, process, Registry(client))
        context = WorkerContext(
            name=process.name,
            job_timeout_s=60.0,
            jobs=JobStore(client, lifetime_s=LIFETIME_S),
            blocking_jobs=JobStore(blocking, lifetime_s=LIFETIME_S),
            queue=JobQueue(blocking, MODEL),
            artifacts=self.artifacts,
            heartbeat=heartbeat,  # type: ignore[arg-type]
            runtime=runtime,
        )
        worker = SimulatedWorker(process, context, runtime, heartbeat)
        self.workers.append(worker)
        worker.main = self.schedule.spawn(f"{process.name} main", process, lambda: self._work(worker, blocking))
        heartbeat.actor = self.schedule.spawn(f"{process.name} heartbeat", process, heartbeat.beat)
        return worker

    def _work(self, worker: SimulatedWorker, blocking: ActorsRedis) -> None:
        """RQ's loop, but for signals, its own registration and waiting in Redis."""
        context = worker.context
        rq_worker = DeviceWorker(context, blocking, MODEL, lambda: None)
        while not context.stopping:
            found = Queue.dequeue_any(rq_worker.queues, None, blocking, job_class=GuardedJob, serializer="json")
            if found is None:
                self._idle.add(current_actor())
                self.schedule.sleep(10.0)
                self._idle.discard(current_actor())
                continue
            try:
                rq_worker.execute_job(*found)
            except StopRequested:
                break
        worker.has_exited = True
        worker.process.is_dead = True

    def _wake_idle_workers(self) -> None:
        for actor in self._idle:
            self.schedule.wake(actor)

    def run_job(self, owner: str, job_id: str) -> None:
        """``worker.jobs.generate`` for many workers in one process."""
        process = current_actor().process
        self._job_of[process.name] = job_id
        worker = next(worker for worker in self.workers if worker.process is process)
        JobRun(worker.context, JobKey(owner, job_id)).run()

    def start_host(self, workers: int) -> None:
        """A supervisor's process: it starts workers anew, and has a housekeeper."""
        process = Process(f"host-{next(self._numbers)}", "host")
        own = [self.start_worker() for _ in range(workers)]
        self.schedule.spawn(f"{process.name} supervisor", process, lambda: self._supervise(process, own))
        self.start_housekeeper(process)

    def start_housekeeper(self, process: Process) -> None:
        housekeeper = Housekeeper(self.client_of(process), self.artifacts, MODEL, self.worker_settings)

        def keep_house() -> None:
            while True:
                housekeeper.tick()
                self.schedule.sleep(TICK_S)

        self.schedule.spawn(f"{process.name} housekeeper", process, keep_house)

    def _supervise(self, process: Process, own: list[SimulatedWorker]) -> None:
        client = self.client_of(process)
        registry = Registry(client)
        jobs, queue = JobStore(client, lifetime_s=LIFETIME_S), JobQueue(client, MODEL)
        recovery = Recovery(jobs, queue, self.artifacts, MODEL, GRACE_S)
        while True:
            for index, worker in enumerate(own):
                now = self.schedule.now
                is_frozen = worker.process.frozen_until > now > worker.process.frozen_since + HANG_S
                if not worker.process.is_dead and (worker.heartbeat.is_hung or is_frozen):
                    self.schedule.note(f"{worker.process.name} is killed by its supervisor")
                    worker.process.is_dead = True
                if worker.process.is_dead:
                    self._bury(worker, registry, recovery)
                    self.schedule.sleep(0.5)
                    own[index] = self.start_worker()
            self.schedule.sleep(0.5)

    def _bury(self, worker: SimulatedWorker, registry: Registry, recovery: Recovery) -> None:
        """As a supervisor does at once, or not at all: then the housekeeper has to find out."""
        if self.random.random() < 0.5:
            return
        reason = Requeue.WORKER_STOPPING if worker.has_exited and worker.context.stopping else Requeue.ABANDONED
        try:
            registry.retire_worker(worker.process.name, MODEL)
            recovery.abandon_jobs_of(worker.process.name, reason)
        except RedisError:
            pass

    # What clients do.

    def start_client(self) -> None:
        self.clients_left += 1
        process = Process(f"api-{next(self._numbers)}", "api")
        self.schedule.spawn(f"{process.name} client", process, lambda: self._be_client(process))

    def _be_client(self, process: Process) -> None:
        client = self.client_of(process)
        jobs = Jobs(client, self.artifacts, self.settings)
        submissions = Submissions(client, self.artifacts, jobs, self.settings)
        self.schedule.sleep(self.random.random() * 3)
        job_id = self._submit(submissions)
        for _ in range(self.random.choice((0, 0, 1, 2, 4))):
            self.schedule.sleep(self.random.choice((0.0, 0.05, 0.5, 3.0)))
            if job_id is not None:
                self._ask(jobs, submissions, job_id)
        self.clients_left -= 1

    def _submit(self, submissions: Submissions) -> str | None:
        shared = self.random.choice((None, None, "key", "id"))
        options = SubmitOptions(
            job_id=f"chosen-by-a-client-{self.random.randint(1, 2)}" if shared == "id" else None,
            idempotency_key="key-of-two" if shared == "key" else None,
            cancel_after_s=self.random.choice((None,) * 8 + (1, 20)),
            start_within_s=self.random.choice((None,) * 8 + (1, 20)),
        )
        request = generate_request(7 if shared else self.random.randint(1, 200), 1 if shared else 2)
        for _ in range(3):
            submitted = self._tell(lambda: submissions.submit(request, options))
            if submitted is not None:
                self.promises.accepted.add(submitted.record.id)
                return submitted.record.id
            self.schedule.sleep(0.5)
        return None

    def _ask(self, jobs: Jobs, submissions: Submissions, job_id: str) -> None:
        deeds: list[Callable[[], None]] = [
            lambda: self._look(jobs, job_id),
            lambda: self._look(jobs, job_id),
            lambda: self._cancel(jobs, job_id),
            lambda: self._delete(jobs, job_id),
            lambda: self._retry(submissions, job_id),
        ]
        self.random.choice(deeds)()

    def _cancel(self, jobs: Jobs, job_id: str) -> None:
        record = self._tell(lambda: jobs.cancel(job_id))
        if record is not None:
            self.promises.canceled.add(job_id)
            if not (record.state is JobState.CANCELED or record.cancel_requested):
                self.broken.append(f"job {job_id}: cancel was answered with {record.state}")

    def _delete(self, jobs: Jobs, job_id: str) -> None:
        if self._tell(lambda: (jobs.delete(job_id), True)) is not None:
            self.promises.deleted.add(job_id)

    def _retry(self, submissions: Submissions, job_id: str) -> None:
        submitted = self._tell(lambda: submissions.retry(job_id, SubmitOptions()))
        if submitted is not None:
            self.promises.accepted.add(submitted.record.id)

    def _look(self, jobs: Jobs, job_id: str) -> None:
        record = self._tell(lambda: jobs.find(job_id))
        if record is not None and record.state is JobState.SUCCEEDED:
            self.promises.succeeded[job_id] = tuple(image.sha256 for image in record.images)
            try:
                check_pictures(jobs, record, self.broken)
            except (JobGoneError, RedisError):
                return

    def _tell(self, ask: Callable[[], Any]) -> Any:
        """The answer; ``None`` if it is a refusal, or 503."""
        try:
            return ask()
        except (RedisError, MSDiffusionError) as error:
            self.schedule.note(f"the client is told: {error!r}")
            return None

    # What goes wrong.

    def _maybe_fault(self, actor: Actor, what: Any) -> None:
        if self.faults_left <= 0 or what[0] == "LMOVE":
            return
        if self.random.random() >= self._fault_rate * RARELY.get(actor.name.partition(" ")[2], 1.0):
            return
        kind = self.random.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
        self.faults_left -= 1
        if kind in OF_WORKERS and self.random.random() < 0.8:
            actor = self._busy_worker() or actor
        self.schedule.note(f"fault: {kind}, {actor.name}")
        self._faults[kind](self, actor, self.schedule.now + self.random.choice(DURATIONS_S))

    def _busy_worker(self) -> Actor | None:
        busy = [worker.main for worker in self.workers if worker.heartbeat.is_busy and not worker.process.is_dead]
        return self.random.choice(busy) if busy else None

    def _kill(self, actor: Actor, until: float) -> None:
        if actor.process.kind == "host":
            # Its workers die with it; another host goes on, or this one is started again.
            actor.process.is_dead = True
            self.start_host(1)
            return
        actor.process.is_dead = True
        if actor.process.kind == "api":
            self.clients_left -= 1

    def _freeze(self, actor: Actor, until: float) -> None:
        actor.process.frozen_since, actor.process.frozen_until = self.schedule.now, until

    def _hang(self, actor: Actor, until: float) -> None:
        actor.frozen_until = until

    def _cut_process(self, actor: Actor, until: float) -> None:
        actor.process.cut_until = until

    def _cut_command(self, actor: Actor, until: float) -> None:
        self.network.next_fault = "cut"

    def _lose_answer(self, actor: Actor, until: float) -> None:
        self.network.next_fault = "answer lost"

    def _cut_redis(self, actor: Actor, until: float) -> None:
        self.network.cut_until = until

    def _forget_scripts(self, actor: Actor, until: float) -> None:
        self.real.script_flush()

    def _drain(self, actor: Actor, until: float) -> None:
        for worker in self.workers:
            if worker.process is actor.process:
                worker.context.stopping = True

    def _lose_device(self, actor: Actor, until: float) -> None:
        for worker in self.workers:
            if worker.process is actor.process:
                worker.runtime.lost = True

    def _lose_entries(self, actor: Actor, until: float) -> None:
        # As of a Redis that was killed before it had written them.
        queue = f"rq:queue:generate-{MODEL}"
        entries = [entry.decode() for entry in self.real.lrange(queue, 0, -1)]
        self.real.delete(queue, *(f"rq:job:{entry}" for entry in entries))

    def _jump(self, actor: Actor, until: float) -> None:
        self.schedule.now = until

    def _jump_far(self, actor: Actor, until: float) -> None:
        self.schedule.now += LIFETIME_S + 1

    _faults: dict[str, Callable[[World, Actor, float], None]] = {
        "kill": _kill,
        "freeze": _freeze,
        "hang": _hang,
        "cut process": _cut_process,
        "cut command": _cut_command,
        "lose answer": _lose_answer,
        "cut Redis": _cut_redis,
        "forget scripts": _forget_scripts,
        "drain": _drain,
        "lose device": _lose_device,
        "lose entries": _lose_entries,
        "jump": _jump,
        "long jump": _jump_far,
    }

    # How it goes on when nothing goes wrong any more.

    def conduct(self) -> None:
        for workers in self.random.choice(((1,), (2,), (2,), (1, 1), (2, 1))):
            self.start_host(workers)
        for _ in range(self.random.choice((1, 2, 3))):
            self.start_client()
        ends_at = self.schedule.now + FAULTS_END_S
        while self.clients_left > 0 and self.schedule.now < ends_at:
            self.schedule.sleep(1.0)
        self.schedule.sleep(self.random.choice((0.0, 5.0, 15.0)))
        self.faults_left = 0
        self.schedule.note("no more faults")
        Inspection(self).inspect()


class Inspection:
    """What must be true in the end, in the words of the five invariants."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._schedule = world.schedule
        self._store = JobStore(world.real, lifetime_s=LIFETIME_S, clock=lambda: world.schedule.now)
        self._jobs = Jobs(
            ActorsRedis(world.network, Process("inspector", "conductor"), 0), world.artifacts, world.settings
        )
        self._broken = world.broken

    def inspect(self) -> None:
        self._wait_for_the_end_of_all()
        self._schedule.sleep(self._schedule.random.choice((0.0, 0.0, 4.0)))
        self._schedule.stop_all()
        for record in self._records():
            self._check_job(record)
        self._check_promises()
        self._check_that_nothing_stays()
        errors = self._schedule.errors()
        self._broken += [f"{name} stumbled: {error!r}" for name, error in errors]

    def _records(self) -> list[JobRecord]:
        found = (self._store.get(job_id) for job_id, _ in self._store.ids(limit=1000))
        return [record for record in found if record is not None]

    def _wait_for_the_end_of_all(self) -> None:
        ends_at = self._schedule.now + PATIENCE_S
        while self._world.clients_left > 0 or not all(record.state.ended for record in self._records()):
            if self._schedule.now > ends_at:
                open_jobs = [f"{record.id} is {record.state}" for record in self._records() if not record.state.ended]
                self._broken.append(f"a job known to a client always ends: {', '.join(open_jobs)}")
                return
            self._schedule.sleep(1.0)

    def _check_job(self, record: JobRecord) -> None:
        name = f"job {record.id}"
        events = self._world.real.xrange(f"msd:events:local:{record.id}")
        states = [fields[b"state"].decode() for _, fields in events]
        attempts = [int(fields[b"attempt"]) for _, fields in events]
        ends = [state for state in states if JobState(state).ended]
        if record.state.ended and ends != [record.state.value]:
            self._broken.append(f"{name}: it ends once, but its log says {states}")
        if not states or states[-1] != record.state.value:
            self._broken.append(f"{name}: it is {record.state}, but its log says {states}")
        if attempts != sorted(attempts):
            self._broken.append(f"{name}: an older attempt wrote after a newer one: {attempts}")
        if record.attempt - record.handed_back > 2:
            self._broken.append(f"{name}: {record.attempt} attempts, {record.handed_back} handed back")
        if self._world._runs_of.get(record.id, 0) > record.attempt:
            self._broken.append(f"{name}: more runs on a device than attempts")
        if record.cancel_requested and record.state.ended and record.state is not JobState.CANCELED:
            self._broken.append(f"{name}: its cancel was promised, and it is {record.state}")
        if record.state is JobState.SUCCEEDED:
            # Its lifetime may be over at this very moment.
            with suppress(JobGoneError):
                check_pictures(self._jobs, record, self._broken)
        elif record.state is JobState.CANCELED:
            self._check_that_nothing_is_served(record)
        elif record.state is JobState.FAILED and self._world.artifacts.has_result(record.folder):
            self._broken.append(f"{name}: it failed with its pictures finished: {record.error}")

    def _check_that_nothing_is_served(self, record: JobRecord) -> None:
        for index in range(record.num_images):
            try:
                self._jobs.image(record.id, index)
            except MSDiffusionError:
                continue
            self._broken.append(f"job {record.id}: it is canceled, and serves a picture")

    def _check_promises(self) -> None:
        promises = self._world.promises
        for job_id in promises.accepted:
            record, gone = self._store.get(job_id), self._store.gone(job_id)
            if record is None and gone is None:
                self._broken.append(f"job {job_id}: it was accepted, and there is no trace of it")
            if record is not None and job_id in promises.deleted:
                self._broken.append(f"job {job_id}: it was deleted, and is there")
            if record is not None and job_id in promises.canceled and record.state is not JobState.CANCELED:
                self._broken.append(f"job {job_id}: its cancel was promised, and it is {record.state}")
            if record is not None and job_id in promises.succeeded:
                shown = tuple(image.sha256 for image in record.images)
                if record.state is not JobState.SUCCEEDED or shown != promises.succeeded[job_id]:
                    self._broken.append(f"job {job_id}: it had succeeded, and is {record.state} with other pictures")

    def _check_that_nothing_stays(self) -> None:
        """First of what never belonged to a job, then, when all are over their lifetime, of the jobs themselves."""
        process = Process("inspector", "conductor")
        client = ActorsRedis(self._world.network, process, 0)
        housekeeper = Housekeeper(client, self._world.artifacts, MODEL, self._world.worker_settings)
        for _ in range(2):
            housekeeper.clear_leftovers(age_s=0)
        folders = {path.name for path in (self._world.root / "local" / "jobs").glob("*")}
        kept = {record.folder for record in self._records()}
        if folders != kept:
            self._broken.append(f"folders of no job: {sorted(folders - kept)}, missing: {sorted(kept - folders)}")
        of_the_running = ("msd:progress:", "msd:preview:", "msd:active:", "msd:running:")
        self._check_keys("rq:queue:", "rq:job:", "rq:executions:", "rq:wip:", *of_the_running)
        # Long enough too for the lease of the housekeepers that are no more.
        self._schedule.now += LIFETIME_S + 1
        housekeeper.tick()
        housekeeper.clear_leftovers(age_s=0)
        self._check_keys("msd:job:", "msd:jobs:", "msd:events:", "msd:key:", "msd:due:", "msd:active:")
        files = [path for path in self._world.root.rglob("*") if path.is_file()]
        if files:
            self._broken.append(f"files that belong to no job: {[path.name for path in files]}")

    def _check_keys(self, *beginnings: str) -> None:
        found = [
            key for key in self._world.real.keys("*") if key.startswith(tuple(name.encode() for name in beginnings))
        ]
        keys = sorted(key.decode() for key in found if self._world.real.ttl(key) == -1)
        if keys:
            self._broken.append(f"keys that are there for ever: {keys}")


def check_pictures(jobs: Jobs, record: JobRecord, broken: list[str]) -> None:
    """Every picture that the record names is whole, and of the attempt that it names."""
    runs = set()
    for image in record.images:
        try:
            _, png = jobs.image(record.id, image.index)
        except JobNotFoundError as error:
            if isinstance(error, JobGoneError):
                raise
            broken.append(f"job {record.id}: image {image.index} of a job that succeeded cannot be had: {error!r}")
            continue
        except MSDiffusionError as error:
            broken.append(f"job {record.id}: image {image.index} of a job that succeeded cannot be had: {error!r}")
            continue
        if hashlib.sha256(png).hexdigest() != image.sha256:
            broken.append(f"job {record.id}: image {image.index} is another than its record says")
            continue
        recipe = read_recipe(png)
        runs.add(None if recipe is None else recipe["run"])
        if recipe is None or recipe["seed"] != image.seed:
            broken.append(f"job {record.id}: image {image.index} is of another job")
    if len(record.images) != record.num_images or len(runs) > 1:
        broken.append(f"job {record.id}: its pictures are not all of one attempt")


@cache
def _real_client(redis_url: str) -> Redis:
    # A database of its own, for it is emptied again and again.
    client = Redis.from_url(redis_url, db=6)
    client.ping()
    return client


def simulate(seed: int, redis_url: str) -> int:
    """Run the schedule of a seed in a database that is emptied for it; returns how many steps it had.

    Raises:
        Violation: something that was promised is broken.
    """
    folder = Path(tempfile.mkdtemp(prefix="msd-faults-", dir=_memory_folder()))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # Opened before, for a client draws random numbers too.
    real = _real_client(redis_url)
    try:
        with seams(folder):
            world = World(seed, real, folder)
            try:
                with patch.dict("worker.rq_worker.ALLOWED", {GENERATE_JOB: world.run_job}):
                    world.conduct()
            except AssertionError as error:
                world.broken.append(str(error))
            finally:
                world.schedule.end()
    finally:
        logging.disable(level)
        shutil.rmtree(folder, ignore_errors=True)
    if world.broken:
        raise Violation(_story(seed, world))
    return world.schedule.steps


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _story(seed: int, world: World) -> str:
    lines = [f"{at - START:8.3f}  {who:22} {told(what, world.root)}" for at, who, what in world.schedule.trace]
    return "\n".join([f"seed {seed}", *lines, f"again: python -m tests.faults.replay {seed}", *world.broken])


def told(what: Any, root: Path) -> str:
    if isinstance(what, tuple):
        return " ".join(_shortened(part, root) for part in what)
    return str(what)


def _shortened(part: Any, root: Path) -> str:
    text = part.decode(errors="replace") if isinstance(part, bytes) else str(part)
    text = script_names().get(text, text.replace(f"{root}/", ""))
    return text if len(text) <= 80 else f"{text[:77]}..."


def script_names() -> dict[str, str]:
    """The scripts of ``ms_jobs.job_store`` by the SHA-1 under which Redis knows them."""
    return {hashlib.sha1(text.encode()).hexdigest(): name for name, text in job_store._SCRIPTS.items()}
