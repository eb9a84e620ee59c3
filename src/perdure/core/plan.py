"""The plan of an ordered saga: its steps, which follow which, and what may be undone. Pure.

Checked when it is made, so that no instance ever meets a plan that cannot work. Next to read:
``ordered.py``, which says what an instance does next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from perdure.core.step_events import StepAdvanced, StepStarted
from perdure.effects import Record
from perdure.errors import DefinitionError

__all__ = ["Plan", "PlannedStep"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step: where it comes, and what is declared of it.

    ``after`` are the steps that must be completed before it, and whatever these come after.
    ``undo_queue`` is "" if there is nothing to undo. ``undoes_unknown``: if nobody knows whether it
    had its effect, it is undone like one that had; otherwise it is tried again under the same key,
    by hand in the end.
    """

    name: str
    index: int
    queue: str
    after: tuple[str, ...] = ()
    undo_queue: str = ""
    undoes_unknown: bool = False
    is_pivot: bool = False
    deadline: timedelta | None = None


class Plan:
    """The steps of one saga, by name and in the order of their declaration.

    ``data`` is the class its instances begin with. ``forward_only``: nothing is ever undone, what
    fails waits for somebody to see to it.

    Raises ``DefinitionError`` if there are none, if names are used twice or unknown, if steps wait
    for each other in a circle, or if a pivot has others beside it.
    """

    def __init__(
        self, saga: str, data: type, steps: Sequence[PlannedStep], forward_only: bool = False
    ) -> None:
        self.saga = saga
        self.data = data
        self.steps = tuple(steps)
        self.forward_only = forward_only
        self.by_name = {step.name: step for step in steps}
        if not steps:
            raise self._refuse("it has no steps", "declare at least one")
        if len(self.by_name) < len(steps):
            names = [step.name for step in steps]
            twice = next(name for name in names if names.count(name) > 1)
            raise self._refuse(f"two steps are named {twice!r}", "give one another name")
        for step in steps:
            self._check_known(step)
        order = self._in_order()
        self.pivot = self._only_pivot()
        """Its name, "" if there is none."""
        self._no_way_back = self._behind_pivot(order)
        self.is_sequential = all(one.name in other.after for one, other in pairwise(order))
        """No two steps run beside each other."""
        # Returned by turn after turn: encoded once.
        self.started = {one.name: Record(StepStarted(one.index, one.name)) for one in steps}
        self.advanced = {one.name: Record(StepAdvanced(one.index)) for one in steps}
        self._by_queue = {one.queue: (one.name, False) for one in steps}
        self._by_queue |= {one.undo_queue: (one.name, True) for one in steps if one.undo_queue}

    def performed_by(self, queue: str) -> tuple[str, bool] | None:
        """The step that a queue performs, and whether it undoes it; None for a queue of others."""
        return self._by_queue.get(queue)

    def may_be_undone(self, step: PlannedStep) -> bool:
        """It is not the pivot, nor after it."""
        return not self.forward_only and step.name not in self._no_way_back

    def _check_known(self, step: PlannedStep) -> None:
        for name in step.after:
            if name not in self.by_name:
                raise self._refuse(
                    f"step {step.name!r} comes after {name!r}, which is no step",
                    f"it has {', '.join(self.by_name)}",
                )

    def _in_order(self) -> list[PlannedStep]:
        """The steps, each behind all that it comes after; in the declared order otherwise."""
        order: dict[str, PlannedStep] = {}
        left: Sequence[PlannedStep] = self.steps
        while left:
            waiting = []
            for step in left:
                if all(name in order for name in step.after):
                    order[step.name] = step
                else:
                    waiting.append(step)
            if len(waiting) == len(left):
                raise self._refuse(self._circle(order, left[0]), "mend after=")
            left = waiting
        return list(order.values())

    def _circle(self, order: Mapping[str, PlannedStep], step: PlannedStep) -> str:
        """Steps that wait for each other; ``step`` does, or waits for some that do."""
        way = [step.name]
        while True:
            name = next(one for one in self.by_name[way[-1]].after if one not in order)
            if name == step.name and len(way) == 1:
                return f"step {name!r} waits for itself"
            if name in way:
                circle = ", ".join(map(repr, way[way.index(name) :]))
                return f"the steps {circle} wait for each other"
            way.append(name)

    def _only_pivot(self) -> str:
        pivots = [step.name for step in self.steps if step.is_pivot]
        if len(pivots) > 1:
            raise self._refuse(
                f"it has the pivots {', '.join(pivots)}", "keep the first: all after is forward"
            )
        return pivots[0] if pivots else ""

    def _behind_pivot(self, order: Sequence[PlannedStep]) -> Collection[str]:
        """The pivot and what comes after it. Raises if something may run beside it."""
        if not self.pivot:
            return frozenset()
        behind, before = {self.pivot}, {self.pivot}
        for step in order:
            if not behind.isdisjoint(step.after):
                behind.add(step.name)
        for step in reversed(order):
            if step.name in before:
                before.update(step.after)
        beside = [step.name for step in self.steps if step.name not in behind | before]
        if beside:
            raise self._refuse(
                f"the pivot {self.pivot!r} may run beside {beside[0]!r}",
                "let every other step come before it or after it",
            )
        return frozenset(behind)

    def _refuse(self, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(problem, saga=self.saga, remedy=remedy)
