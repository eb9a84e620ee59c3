"""The plan of an ordered saga: its steps, which follow which, and what may be undone. Pure.

Checked when it is made, so that no instance ever meets a plan that cannot work. Next to read:
``ordered.py``, which says what an instance does next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations

from perdure.core.step_events import StepAdvanced, StepStarted
from perdure.effects import Record
from perdure.errors import DefinitionError

__all__ = ["Plan", "PlannedStep"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step: where it comes, and what is declared of it.

    ``after`` are the steps that must be completed before it. ``undo_queue`` is "" if there is
    nothing to undo. ``undoes_unknown``: if nobody knows whether it had its effect, it is undone
    like one that had; otherwise it is tried again under the same key, by hand in the end.
    """

    name: str
    index: int
    queue: str
    after: tuple[str, ...] = ()
    undo_queue: str = ""
    undoes_unknown: bool = False
    is_pivot: bool = False
    deadline: timedelta | None = None


FITTING_MAX = 1_000
"""So many answers are remembered: a turn asks nearly always what another has asked before."""


class Plan:
    """The steps of one saga, by name and in the order of their declaration.

    Raises ``DefinitionError`` if there are none, if names are used twice or unknown, if steps wait
    for each other in a circle, or if a pivot has others beside it.
    """

    def __init__(self, saga: str, steps: Sequence[PlannedStep], forward_only: bool = False) -> None:
        self.saga = saga
        self.steps = tuple(steps)
        self.forward_only = forward_only
        """Nothing is ever undone: what fails waits for somebody to see to it."""
        self.by_name = {step.name: step for step in steps}
        if not steps:
            raise self._refuse("it has no steps", "declare at least one")
        if len(self.by_name) < len(steps):
            names = [step.name for step in steps]
            twice = next(name for name in names if names.count(name) > 1)
            raise self._refuse(f"two steps are named {twice!r}", "give one another name")
        for step in steps:
            self._check_known(step)
        self._before = {step.name: self._ancestors(step) for step in steps}
        # Returned by turn after turn: encoded once.
        self.started = {one.name: Record(StepStarted(one.index, one.name)) for one in steps}
        self.advanced = {one.name: Record(StepAdvanced(one.index)) for one in steps}
        self._successors = {
            name: frozenset(other for other, before in self._before.items() if name in before)
            for name in self._before
        }
        self._fitting: dict[frozenset[str], bool] = {}
        self._check_pivot()
        self.is_sequential = not any(self._is_beside(*two) for two in combinations(steps, 2))
        """No two steps run beside each other."""

    def fits(self, begun: frozenset[str]) -> bool:
        """These steps, and no others, may have begun under this plan."""
        found = self._fitting.get(begun)
        if found is None:
            if len(self._fitting) >= FITTING_MAX:
                self._fitting.clear()
            found = self._fitting[begun] = all(
                name in self.by_name and self._before[name] <= begun for name in begun
            )
        return found

    def successors(self, name: str) -> frozenset[str]:
        """All steps that come after this one."""
        return self._successors[name]

    def _check_known(self, step: PlannedStep) -> None:
        for name in step.after:
            if name not in self.by_name:
                raise self._refuse(
                    f"step {step.name!r} comes after {name!r}, which is no step",
                    f"it has {', '.join(self.by_name)}",
                )

    def _ancestors(self, step: PlannedStep) -> frozenset[str]:
        found: dict[str, None] = {}
        open_ = list(step.after)
        while open_:
            name = open_.pop()
            if name == step.name:
                raise self._refuse(
                    f"step {step.name!r} waits for itself, by way of {', '.join(found) or name}",
                    "mend after=",
                )
            if name not in found:
                found[name] = None
                open_ += self.by_name[name].after
        return frozenset(found)

    def _check_pivot(self) -> None:
        pivots = [step for step in self.steps if step.is_pivot]
        if len(pivots) > 1:
            names = ", ".join(step.name for step in pivots)
            raise self._refuse(f"it has the pivots {names}", "keep the first: all after is forward")
        for pivot in pivots:
            for other in self.steps:
                if other is not pivot and self._is_beside(pivot, other):
                    raise self._refuse(
                        f"the pivot {pivot.name!r} may run beside {other.name!r}",
                        "let every other step come before it or after it",
                    )

    def _is_beside(self, one: PlannedStep, other: PlannedStep) -> bool:
        return one.name not in self._before[other.name] and other.name not in self._before[one.name]

    def _refuse(self, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(problem, saga=self.saga, remedy=remedy)

    def is_forward_only(self, completed: Iterable[str]) -> bool:
        """The pivot is passed: what is done is not undone any more."""
        return self.forward_only or any(
            step.is_pivot for name in completed if (step := self.by_name.get(name)) is not None
        )

    def may_be_undone(self, step: PlannedStep) -> bool:
        """It is not the pivot, nor after it."""
        if self.forward_only or step.is_pivot:
            return False
        return not any(self.by_name[name].is_pivot for name in self._before[step.name])
