"""Threads that take turns: of all actors one runs, and a seeded random number decides who is next, at every single step.

A step is whatever an actor does to the world that others see: a command to Redis, an operation on files, a sleep. What
happens between two steps concerns the actor alone, so an order of steps is all there is to say of a schedule, and the
seed says it again. Time is the schedule's own and passes with the steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

LONGEST_STEP_S = 0.01
GIVE_UP_AFTER_STEPS = 20_000


class Killed(BaseException):
    """Ends the thread of an actor whose process is dead; no ``Exception``, so that nothing takes it for an error."""


@dataclass(eq=False)
class Process:
    """What is killed, frozen and cut off at once: the actors in it share its fate."""

    name: str
    kind: str
    is_dead: bool = False
    frozen_since: float = 0.0
    frozen_until: float = 0.0
    cut_until: float = 0.0


@dataclass(eq=False)
class Actor:
    """One thread of a process."""

    name: str
    process: Process
    wakes_at: float = 0.0
    frozen_until: float = 0.0
    is_done: bool = False
    error: BaseException | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None

    def ready_at(self) -> float:
        """When it can go on; the dead go on at once, to their end."""
        if self.process.is_dead:
            return 0.0
        return max(self.wakes_at, self.frozen_until, self.process.frozen_until)


_here = threading.local()


def current_schedule() -> Schedule | None:
    """The schedule that this thread acts in, if any."""
    return getattr(_here, "schedule", None)


def current_actor() -> Actor:
    """The actor whose thread this is."""
    return _here.actor


class Schedule:
    """One order of steps; the thread that makes it is its first actor, the conductor, which nothing befalls."""

    def __init__(self, seed: int, start: float) -> None:
        """``start`` is the time at its beginning, in Unix seconds."""
        self.random = Random(seed)
        self.now = start
        self.start = start
        self.steps = 0
        self.trace: list[tuple[float, str, Any]] = []
        # Rarely or often, so that both long stretches and close races are tried.
        self._switch = self.random.choice((0.02, 0.1, 0.3, 0.8))
        # Called at each step of an actor that something may befall.
        self.on_step: Callable[[Actor, Any], None] = lambda actor, what: None
        self._is_ending = False
        conductor = Actor("conductor", Process("conductor", "conductor"))
        conductor.turn.acquire()
        self._actors = [conductor]
        _here.schedule, _here.actor = self, conductor

    def spawn(self, name: str, process: Process, target: Callable[[], None]) -> Actor:
        """Add an actor; it begins when its turn comes."""
        actor = Actor(name, process, wakes_at=self.now)
        actor.turn.acquire()
        actor.thread = threading.Thread(target=self._live, args=(actor, target), name=name, daemon=True)
        self._actors.append(actor)
        actor.thread.start()
        return actor

    def step(self, what: Any) -> None:
        """Something is about to be done to the world: now others may come first, or this actor's end."""
        actor = _here.actor
        if actor.process.is_dead:
            raise Killed
        self.trace.append((self.now, actor.name, what))
        self.steps += 1
        if self.steps > GIVE_UP_AFTER_STEPS:
            raise AssertionError("the schedule comes to no end")
        self.now += self.random.random() * LONGEST_STEP_S
        if actor.process.kind != "conductor":
            self.on_step(actor, what)
        if actor.ready_at() > self.now or self.random.random() < self._switch:
            self._pass_on(actor)

    def sleep(self, seconds: float) -> None:
        """Let others go on for so long."""
        actor = _here.actor
        if actor.process.is_dead:
            raise Killed
        actor.wakes_at = self.now + max(seconds, 0.0)
        self._pass_on(actor)

    def wake(self, actor: Actor) -> None:
        """Let an actor sleep no longer."""
        actor.wakes_at = min(actor.wakes_at, self.now)

    def note(self, what: str) -> None:
        """Write something into the trace."""
        self.trace.append((self.now, "***", what))

    def stop_all(self) -> None:
        """From now on only the conductor acts."""
        for actor in self._actors[1:]:
            actor.process.is_dead = True

    def end(self) -> None:
        """End all actors; only the conductor may."""
        self._is_ending = True
        for actor in self._actors[1:]:
            actor.process.is_dead = True
            if not actor.is_done:
                actor.turn.release()
            assert actor.thread is not None
            actor.thread.join()
        del _here.schedule, _here.actor

    def errors(self) -> list[tuple[str, BaseException]]:
        """What actors died of, but for kills."""
        return [(actor.name, actor.error) for actor in self._actors if actor.error is not None]

    def _live(self, actor: Actor, target: Callable[[], None]) -> None:
        _here.schedule, _here.actor = self, actor
        actor.turn.acquire()
        try:
            if not actor.process.is_dead:
                target()
        except Killed:
            pass
        except BaseException as error:
            actor.error = error
        actor.is_done = True
        if not self._is_ending:
            self._choose().turn.release()

    def _pass_on(self, actor: Actor) -> None:
        chosen = self._choose()
        if chosen is not actor:
            chosen.turn.release()
            actor.turn.acquire()
        if actor.process.is_dead:
            raise Killed

    def _choose(self) -> Actor:
        alive = [actor for actor in self._actors if not actor.is_done]
        ready = [actor for actor in alive if actor.ready_at() <= self.now]
        if not ready:
            self.now = min(actor.ready_at() for actor in alive)
            ready = [actor for actor in alive if actor.ready_at() <= self.now]
        return ready[0] if len(ready) == 1 else self.random.choice(ready)


REAL_TIME, REAL_MONOTONIC, REAL_SLEEP = time.time, time.monotonic, time.sleep


def schedule_time() -> float:
    """``time.time`` and ``time.monotonic`` for actors, the real one for all others."""
    schedule = current_schedule()
    return REAL_TIME() if schedule is None else schedule.now


def schedule_monotonic() -> float:
    """As ``schedule_time``."""
    schedule = current_schedule()
    return REAL_MONOTONIC() if schedule is None else schedule.now


def schedule_sleep(seconds: float) -> None:
    """``time.sleep`` for actors, the real one for all others."""
    schedule = current_schedule()
    if schedule is None:
        REAL_SLEEP(seconds)
    else:
        schedule.sleep(seconds)
