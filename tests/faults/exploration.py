"""Walks through every state that a machine can reach."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.job_machine import SURE, JobMachine, World, all_ended, broken_invariants


@dataclass(frozen=True)
class Exploration:
    """What was found. ``violation`` names a broken invariant, and ``trace`` the steps that lead there."""

    states: int
    transitions: int
    violation: str | None = None
    trace: tuple[str, ...] = ()


class Explorer:
    """All states of a machine, each once, with the step that first led to it."""

    def __init__(self, machine: JobMachine) -> None:
        self._machine = machine
        self._cause: dict[World, tuple[World, str] | None] = {machine.start: None}
        self._sure: dict[World, list[World]] = {}
        self._transitions = 0

    def explore(self) -> Exploration:
        """Look at every state; stop at the first that breaks an invariant."""
        todo = [self._machine.start]
        for world in todo:
            broken = broken_invariants(world)
            if broken:
                return self._found(broken[0], world)
            todo += self._expand(world)
        return self._check_that_jobs_end()

    def _expand(self, world: World) -> list[World]:
        new = []
        sure = self._sure[world] = []
        for step in self._machine.steps(world):
            self._transitions += 1
            if step.kind is SURE and step.world != world:
                sure.append(step.world)
            if step.world not in self._cause:
                self._cause[step.world] = (world, step.name)
                new.append(step.world)
        return new

    def _check_that_jobs_end(self) -> Exploration:
        """Once nothing happens but what is sure to happen, every job ends, whatever the order.

        These steps lead in no circle, so every path of them comes to its end; and where no such step is left, all have
        ended. As this holds from every state, an end is also in reach of every state.
        """
        in_circle = self._find_circle()
        if in_circle is not None:
            return self._found("a job always ends: steps lead in a circle", in_circle)
        for world, following in self._sure.items():
            if not following and not all_ended(world):
                return self._found("a job always ends: nothing happens to it any more", world)
        return Exploration(len(self._cause), self._transitions)

    def _find_circle(self) -> World | None:
        is_left: dict[World, bool] = {}
        for root in self._sure:
            if root in is_left:
                continue
            is_left[root] = False
            path = [(root, iter(self._sure[root]))]
            while path:
                world, following = path[-1]
                for next_world in following:
                    if next_world not in is_left:
                        is_left[next_world] = False
                        path.append((next_world, iter(self._sure[next_world])))
                        break
                    if not is_left[next_world]:
                        return next_world
                else:
                    is_left[world] = True
                    path.pop()
        return None

    def _found(self, violation: str, world: World) -> Exploration:
        names = []
        while (cause := self._cause[world]) is not None:
            world, name = cause
            names.append(name)
        return Exploration(len(self._cause), self._transitions, violation, tuple(reversed(names)))
