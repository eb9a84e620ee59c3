"""The state of an ordered saga, and how the events of its course are folded into it. Pure.

    forward ──all done──────────────────────────────────────────────────────────> completed
       │ a step failed, a cancellation, the timeout (never past the pivot)
       └─> compensating ──the steps done, latest first, are undone──────────────> compensated

Folding looks at no plan: what was decided by one stays so when the next one says otherwise.
Next to read: ``step_events.py``, the events; ``course.py``, which decides what happens next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from perdure.core.step_events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationSkipped,
    CompensationStarted,
    CompensationStepStarted,
    Completed,
    PivotPassed,
    Residue,
    Restarted,
    Resume,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepLeftOut,
    StepStarted,
    StepStatus,
    Stopped,
)
from perdure.messages import AnyMessage, ExternalEvent, message

__all__ = [
    "FOLDED",
    "Mode",
    "OrderedState",
    "fold",
]


class Mode(StrEnum):
    """Which way an ordered saga goes, or how it has ended."""

    FORWARD = "forward"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPLETED = "completed"
    STOPPED = "stopped"
    """A workflow that was cancelled, or timed out: it has ended where it was."""


_STUCK = (StepStatus.UNKNOWN, StepStatus.STUCK)
_STUCK_FORWARD = (*_STUCK, StepStatus.FAILED)


@message(name="perdure.OrderedState")
@dataclass(slots=True)
class OrderedState:
    """The state of one ordered saga or workflow. Treat as immutable.

    ``data`` is the message it began with, with the results of its steps merged in. ``steps`` are
    those that have begun; ``completed`` those that were done, or perhaps were, in the order in
    which they were. ``error`` is what led to the compensation, ``problem`` what went wrong last.
    ``doubted`` are steps of which an attempt was given up that may have had its effect. ``again``
    are those that somebody has restarted after they were done, with the turn that did it.
    """

    data: AnyMessage | None = None
    mode: Mode = Mode.FORWARD
    steps: Mapping[str, StepStatus] = field(default_factory=dict)
    completed: tuple[str, ...] = ()
    failed_step: str = ""
    error: str = ""
    problem: str = ""
    residues: tuple[Residue, ...] = ()
    doubted: tuple[str, ...] = ()
    is_past_pivot: bool = False
    again: Mapping[str, int] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """How it stands in words: "running", "compensated with residue", "stuck", …"""
        if self.mode is Mode.COMPENSATED and self.residues:
            return "compensated with residue"
        if self.mode in (Mode.COMPENSATED, Mode.COMPLETED, Mode.STOPPED):
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


def fold(state: OrderedState, event: Any) -> OrderedState:
    """The state after an event; one that does not concern it changes nothing."""
    folder = _FOLDERS.get(type(event))
    return state if folder is None else folder(state, event)


def _with(state: OrderedState, step: str, status: StepStatus) -> dict[str, StepStatus]:
    return {**state.steps, step: status}


def _without(steps: tuple[str, ...], step: str) -> tuple[str, ...]:
    return tuple(one for one in steps if one != step) if step in steps else steps


_NONE: Any = object()


def _merged(current: Any, before: Any, after: Any) -> Any:
    """The current data with what has changed from ``before`` to ``after``."""
    if after is None:
        return current
    if before is None or not type(current) is type(before) is type(after):
        return after
    if type(after) is ExternalEvent:  # whoever looks without the class of the data
        plain = {k: v for k, v in after.data.items() if before.data.get(k, _NONE) != v}
        return replace(current, data={**current.data, **plain})
    changed = {
        one.name: getattr(after, one.name)
        for one in fields(after)
        if one.init and getattr(after, one.name) != getattr(before, one.name)
    }
    return replace(current, **changed) if changed else current


def _started(state: OrderedState, event: StepStarted) -> OrderedState:
    return OrderedState(  # the two folds of every step: replace() would take three times as long
        state.data,
        state.mode,
        _with(state, event.step, StepStatus.RUNNING),
        state.completed,
        state.failed_step,
        state.error,
        state.problem,
        state.residues,
        state.doubted,
        state.is_past_pivot,
        state.again,
    )


def _completed(state: OrderedState, event: StepCompleted) -> OrderedState:
    return OrderedState(
        _merged(state.data, event.before, event.data),
        state.mode,
        _with(state, event.step, StepStatus.COMPLETED),
        (*_without(state.completed, event.step), event.step),
        state.failed_step,
        state.error,
        state.problem,
        state.residues,
        _without(state.doubted, event.step),
        state.is_past_pivot,
        state.again,
    )


def _failed(state: OrderedState, event: StepFailed) -> OrderedState:
    step, status, completed = event.step, event.status, state.completed
    if status is StepStatus.IN_DOUBT:
        completed = (*_without(completed, step), step)
    doubted = _without(state.doubted, step)
    if status is StepStatus.UNKNOWN:
        doubted = (*doubted, step)
    steps = _with(state, step, status)
    return replace(state, steps=steps, completed=completed, doubted=doubted, problem=event.error)


def _past_pivot(state: OrderedState, event: PivotPassed) -> OrderedState:
    """Also if it was about to turn back: a cancellation, for one, came too late."""
    return replace(state, mode=Mode.FORWARD, failed_step="", error="", is_past_pivot=True)


def _turned_back(state: OrderedState, event: CompensationStarted) -> OrderedState:
    return replace(state, mode=Mode.COMPENSATING, failed_step=event.failed_step, error=event.error)


def _undoing(state: OrderedState, event: CompensationStepStarted) -> OrderedState:
    return replace(state, steps=_with(state, event.step, StepStatus.COMPENSATING))


def _undone(state: OrderedState, event: StepCompensated) -> OrderedState:
    return replace(
        state,
        data=_merged(state.data, event.before, event.data),
        steps=_with(state, event.step, StepStatus.COMPENSATED),
        residues=(*state.residues, *event.residues),
    )


def _skipped(state: OrderedState, event: CompensationSkipped) -> OrderedState:
    steps = _with(state, event.step, StepStatus.SKIPPED)
    return replace(state, steps=steps, residues=(*state.residues, *event.residues))


def _not_undone(state: OrderedState, event: CompensationFailed) -> OrderedState:
    steps = _with(state, event.step, StepStatus.STUCK)
    return replace(state, steps=steps, problem=event.error)


def _seen_to(state: OrderedState, event: Resume) -> OrderedState:
    return replace(
        state, steps={**state.steps, **dict.fromkeys(state.stuck_steps, StepStatus.SEEN_TO)}
    )


def _left_out(state: OrderedState, event: StepLeftOut) -> OrderedState:
    return replace(
        state,
        steps=_with(state, event.step, StepStatus.LEFT_OUT),
        doubted=_without(state.doubted, event.step),
    )


def _restarted(state: OrderedState, event: Restarted) -> OrderedState:
    forgotten = event.steps
    return replace(
        state,
        data=state.data if event.data is None else event.data,
        mode=Mode.FORWARD,
        steps={name: status for name, status in state.steps.items() if name not in forgotten},
        completed=tuple(name for name in state.completed if name not in forgotten),
        failed_step="",
        error="",
        doubted=tuple(name for name in state.doubted if name not in event.again),
        is_past_pivot=event.is_past_pivot,
        again={**state.again, **dict.fromkeys(event.again, event.nr)},
    )


_FOLDERS: dict[type, Callable[[OrderedState, Any], OrderedState]] = {
    StepStarted: _started,
    StepCompleted: _completed,
    StepFailed: _failed,
    PivotPassed: _past_pivot,
    CompensationStarted: _turned_back,
    CompensationStepStarted: _undoing,
    StepCompensated: _undone,
    CompensationSkipped: _skipped,
    CompensationFailed: _not_undone,
    CompensationCompleted: lambda state, _: replace(state, mode=Mode.COMPENSATED),
    Completed: lambda state, _: replace(state, mode=Mode.COMPLETED),
    Stopped: lambda state, event: replace(state, mode=Mode.STOPPED, error=event.error),
    Resume: _seen_to,
    StepLeftOut: _left_out,
    Restarted: _restarted,
}
FOLDED = frozenset(_FOLDERS)
"""The events that change the state."""
