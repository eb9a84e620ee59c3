"""The state of an ordered saga, and how the events of its course are folded into it. Pure.

    forward ──all done──────────────────────────────────────────────────────────> completed
       │ a step failed, a cancellation, the timeout (never past the pivot)
       └─> compensating ──the steps done, latest first, are undone──────────────> compensated

Next to read: ``step_events.py``, the events; ``course.py``, which decides what happens next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from perdure.core.plan import Plan
from perdure.core.step_events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationSkipped,
    CompensationStarted,
    CompensationStepStarted,
    Completed,
    Residue,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from perdure.messages import AnyMessage, message

__all__ = [
    "FOLDED",
    "Mode",
    "OrderedState",
    "StepStatus",
    "fold",
]


class Mode(StrEnum):
    """Which way an ordered saga goes, or how it has ended."""

    FORWARD = "forward"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPLETED = "completed"


class StepStatus(StrEnum):
    """Where a step stands. One that is not in the state is pending."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It has failed, and may have had its effect."""
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    SKIPPED = "skipped"
    """It was done, and has nothing to undo."""
    STUCK = "stuck"
    """It could not be undone."""


_STUCK = (StepStatus.UNKNOWN, StepStatus.STUCK)
_STUCK_FORWARD = (*_STUCK, StepStatus.FAILED)


@message(name="perdure.OrderedState")
@dataclass(slots=True)
class OrderedState:
    """The state of one ordered saga or workflow. Treat as immutable.

    ``data`` is the message it began with, with the results of its steps merged in. ``steps`` are
    those that have begun; ``completed`` those that were done, in the order in which they were.
    ``error`` is what led to the compensation, ``problem`` what went wrong last.
    """

    data: AnyMessage | None = None
    mode: Mode = Mode.FORWARD
    steps: Mapping[str, StepStatus] = field(default_factory=dict)
    completed: tuple[str, ...] = ()
    failed_step: str = ""
    error: str = ""
    problem: str = ""
    residues: tuple[Residue, ...] = ()

    @property
    def outcome(self) -> str:
        """How it stands in words: "running", "compensated with residue", "stuck", …"""
        if self.mode is Mode.COMPENSATED and self.residues:
            return "compensated with residue"
        if self.mode in (Mode.COMPENSATED, Mode.COMPLETED):
            return self.mode.value
        if self.stuck_steps:
            return "stuck"
        return "running" if self.mode is Mode.FORWARD else self.mode.value

    @property
    def stuck_steps(self) -> tuple[str, ...]:
        """The steps that somebody has to see to."""
        waiting = _STUCK_FORWARD if self.mode is Mode.FORWARD else _STUCK
        return tuple(name for name, status in self.steps.items() if status in waiting)

    def is_any(self, *statuses: StepStatus) -> bool:
        """Some step stands so."""
        return any(status in statuses for status in self.steps.values())


def fold(plan: Plan, state: OrderedState, event: Any) -> OrderedState:
    """The state after an event; one that does not concern it changes nothing."""
    folder = _FOLDERS.get(type(event))
    return state if folder is None else folder(plan, state, event)


def _with(state: OrderedState, step: str, status: StepStatus) -> dict[str, StepStatus]:
    return {**state.steps, step: status}


def _started(plan: Plan, state: OrderedState, event: StepStarted) -> OrderedState:
    return OrderedState(
        state.data,
        state.mode,
        _with(state, event.step, StepStatus.RUNNING),
        state.completed,
        state.failed_step,
        state.error,
        state.problem,
        state.residues,
    )


def _completed(plan: Plan, state: OrderedState, event: StepCompleted) -> OrderedState:
    data: Any = state.data
    step = plan.by_name.get(event.step)
    if event.fields is None:
        data = event.data
    elif event.fields:
        data = replace(data, **{name: getattr(event.data, name) for name in event.fields})
    is_passed = step is not None and step.is_pivot
    before = state.completed
    if event.step in before:
        before = tuple(one for one in before if one != event.step)
    return OrderedState(  # the two folds of every step: replace() would take three times as long
        data,
        Mode.FORWARD if is_passed else state.mode,
        _with(state, event.step, StepStatus.COMPLETED),
        (*before, event.step),
        state.failed_step,
        "" if is_passed else state.error,
        state.problem,
        state.residues,
    )


def _failed(plan: Plan, state: OrderedState, event: StepFailed) -> OrderedState:
    step, is_unknown = plan.by_name.get(event.step), event.is_unknown
    if step is not None and plan.may_be_undone(step) and is_unknown:
        if step.undoes_unknown:  # it may have been done: it is undone like one that was
            return replace(
                state,
                steps=_with(state, event.step, StepStatus.COMPLETED),
                completed=(*state.completed, event.step),
                problem=event.error,
            )
        is_unknown = bool(step.undo_queue)  # with nothing to undo it does not matter
    status = StepStatus.UNKNOWN if is_unknown else StepStatus.FAILED
    return replace(state, steps=_with(state, event.step, status), problem=event.error)


def _turned_back(plan: Plan, state: OrderedState, event: CompensationStarted) -> OrderedState:
    return replace(state, mode=Mode.COMPENSATING, failed_step=event.failed_step, error=event.error)


def _undoing(plan: Plan, state: OrderedState, event: CompensationStepStarted) -> OrderedState:
    return replace(state, steps=_with(state, event.step, StepStatus.COMPENSATING))


def _undone(plan: Plan, state: OrderedState, event: StepCompensated) -> OrderedState:
    return replace(
        state,
        data=state.data if event.data is None else event.data,
        steps=_with(state, event.step, StepStatus.COMPENSATED),
        residues=(*state.residues, *event.residues),
    )


def _skipped(plan: Plan, state: OrderedState, event: CompensationSkipped) -> OrderedState:
    return replace(state, steps=_with(state, event.step, StepStatus.SKIPPED))


def _not_undone(plan: Plan, state: OrderedState, event: CompensationFailed) -> OrderedState:
    steps = _with(state, event.step, StepStatus.STUCK)
    return replace(state, steps=steps, problem=event.error)


_FOLDERS: dict[type, Callable[[Plan, OrderedState, Any], OrderedState]] = {
    StepStarted: _started,
    StepCompleted: _completed,
    StepFailed: _failed,
    CompensationStarted: _turned_back,
    CompensationStepStarted: _undoing,
    StepCompensated: _undone,
    CompensationSkipped: _skipped,
    CompensationFailed: _not_undone,
    CompensationCompleted: lambda _, state, __: replace(state, mode=Mode.COMPENSATED),
    Completed: lambda _, state, __: replace(state, mode=Mode.COMPLETED),
}
FOLDED = frozenset(_FOLDERS)
"""The events that change the state."""
