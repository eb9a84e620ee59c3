"""The state of a coroutine workflow: what it has asked for, and what came of that. Pure.

    asked ─> OPEN ─┬─> DONE          the step is done, the time is up, the event is there, …
                   ├─> FAILED        for good
                   ├─> TIMED_OUT     an event or a child was not waited for any longer
                   └─> CANCELLED     the instance shall not go on

Every message folds into one value; no user code runs here, so replaying a journal repeats nothing.
What has ended never changes again: it is what the coroutine is told at every re-entry. Next to
read: ``reentry.py``, where it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from perdure.core.family import Cancel, ChildEnded
from perdure.core.step_events import Resume
from perdure.core.workflow_events import (
    EventTaken,
    OperationStarted,
    PerformStep,
    Published,
    Restarted,
    StepDone,
)
from perdure.messages import (
    AnyMessage,
    CommandFailed,
    DeadlineReached,
    ExternalEvent,
    Metadata,
    TimeoutReached,
    message,
    type_info_of,
)

__all__ = ["CHILD", "EVENT", "Heard", "Operation", "Progress", "Standing", "fold", "is_ours"]

EVENT, CHILD = "event/", "child/"
"""How the names of waits and children begin."""


class Standing(StrEnum):
    """Where an operation stands."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the coroutine has asked for.

    ``ended_nr`` is the turn that ended it, 0 while it is open. ``message`` or ``value`` is what
    came of it. ``reason``, ``error`` and ``is_unknown`` are those of a step's ``CommandFailed``, or
    of a child that failed. ``started_nr`` is the turn that began it, 0 if an older version did.
    """

    started_at: datetime
    status: Standing = Standing.OPEN
    ended_nr: int = 0
    ended_at: datetime | None = None
    message: AnyMessage | None = None
    value: Any = None
    reason: str = ""
    error: str = ""
    is_unknown: bool = False
    awaits: str = ""
    started_nr: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """An event that came with this turn and that the coroutine has not taken yet."""

    nr: int
    event: AnyMessage


@message(name="perdure.workflow.Progress")
@dataclass(frozen=True, slots=True)
class Progress:
    """The state of one instance.

    ``cancelled`` is why it shall not go on, "" if it may; ``cancelled_nr`` the turn that said so.
    ``again`` are operations that were done and restarted, with the turn in which somebody did that.
    """

    input: AnyMessage | None = None
    operations: Mapping[str, Operation] = field(default_factory=dict)
    events: tuple[Heard, ...] = ()
    cancelled: str = ""
    cancelled_nr: int = 0
    begun_at: datetime | None = None
    again: Mapping[str, int] = field(default_factory=dict)

    @property
    def open(self) -> tuple[str, ...]:
        """The names of the operations that have not ended."""
        return tuple(name for name, one in self.operations.items() if one.status is Standing.OPEN)


def is_ours(event: Any) -> bool:
    """Whether it is no event that the coroutine could wait for."""
    return type(event) in _FOLDERS


def fold(progress: Progress, event: Any, metadata: Metadata) -> Progress:
    """The progress after a message or a recorded event."""
    folder = _FOLDERS.get(type(event))
    if folder is not None:
        return folder(progress, event, metadata)
    if metadata.sequence_nr == 1:
        return replace(progress, input=event, begun_at=metadata.occurred_at)
    return replace(progress, events=(*progress.events, Heard(metadata.sequence_nr, event)))


def _ended(
    progress: Progress, name: str, metadata: Metadata, status: Standing, **more: Any
) -> Progress:
    """With the end of an operation; what ends later, or twice, changes nothing."""
    operation = progress.operations.get(name)
    if operation is None or operation.status is not Standing.OPEN:
        return progress
    nr, at = metadata.sequence_nr, metadata.occurred_at
    after = replace(operation, status=status, ended_nr=nr, ended_at=at, **more)
    return replace(progress, operations={**progress.operations, name: after})


def _started(progress: Progress, event: OperationStarted, metadata: Metadata) -> Progress:
    operation = Operation(
        metadata.occurred_at, awaits=event.awaits, started_nr=metadata.sequence_nr
    )
    return replace(progress, operations={**progress.operations, event.operation: operation})


def _done(progress: Progress, event: StepDone, metadata: Metadata) -> Progress:
    return _ended(
        progress,
        event.operation,
        metadata,
        Standing.DONE,
        message=event.message,
        value=event.value,
    )


def _failed(progress: Progress, event: CommandFailed, metadata: Metadata) -> Progress:
    command: Any = event.command
    if type(command) is PerformStep:
        name = command.operation
    elif type(command) is ExternalEvent:  # nobody could decode it
        name = str(command.data.get("operation"))
    else:
        return progress
    return _ended(
        progress,
        name,
        metadata,
        Standing.FAILED,
        reason=event.reason,
        error=event.error,
        is_unknown=event.is_unknown,
    )


def _reached(progress: Progress, event: DeadlineReached, metadata: Metadata) -> Progress:
    if _came_in_time(progress, event.name):
        return progress  # the coroutine could not take it when it came: it was stuck
    is_limit = event.name.startswith((EVENT, CHILD))
    status = Standing.TIMED_OUT if is_limit else Standing.DONE
    return _ended(progress, event.name, metadata, status)


def _came_in_time(progress: Progress, name: str) -> bool:
    """An event is there for this wait: the first one of its type that is open."""
    operation = progress.operations.get(name)
    if operation is None or not operation.awaits:
        return False
    open_ = (one for one in progress.open if progress.operations[one].awaits == operation.awaits)
    return next(open_, "") == name and any(
        type_name_of(one.event) == operation.awaits for one in progress.events
    )


def type_name_of(event: Any) -> str:
    """The type name of an event, by which a wait knows it."""
    if type(event) is ExternalEvent:
        return event.type
    info = type_info_of(type(event))
    return "" if info is None else info.name


def _child_ended(progress: Progress, event: ChildEnded, metadata: Metadata) -> Progress:
    return _ended(
        progress,
        f"{CHILD}{event.name}",
        metadata,
        Standing.DONE if event.is_completed else Standing.FAILED,
        message=event.result,
        value=event.value,
        reason=event.status,
        error=event.error,
    )


def _taken(progress: Progress, event: EventTaken, metadata: Metadata) -> Progress:
    heard = {one.nr: one.event for one in progress.events}
    left = tuple(one for one in progress.events if one.nr != event.came_with)
    after = _ended(
        _asked(progress, event.operation, metadata),
        event.operation,
        metadata,
        Standing.DONE,
        message=heard.get(event.came_with),
    )
    return replace(after, events=left)


def _published(progress: Progress, event: Published, metadata: Metadata) -> Progress:
    asked = _asked(progress, event.operation, metadata)
    return _ended(asked, event.operation, metadata, Standing.DONE)


def _asked(progress: Progress, name: str, metadata: Metadata) -> Progress:
    if name in progress.operations:
        return progress
    return _started(progress, OperationStarted(name), metadata)


def _cancel(progress: Progress, event: Cancel, metadata: Metadata) -> Progress:
    why = f"cancelled: {event.reason}" if event.reason else "cancelled"
    return _stopped(progress, why, metadata)


def _timed_out(progress: Progress, event: TimeoutReached, metadata: Metadata) -> Progress:
    return _stopped(progress, "timed out", metadata)


def _stopped(progress: Progress, why: str, metadata: Metadata) -> Progress:
    """What is open is cancelled. Once: what the coroutine does about it then is left in peace."""
    if progress.cancelled:
        return progress
    for name in progress.open:
        progress = _ended(progress, name, metadata, Standing.CANCELLED)
    return replace(progress, cancelled=why, cancelled_nr=metadata.sequence_nr)


def _restarted(progress: Progress, event: Restarted, metadata: Metadata) -> Progress:
    left = {n: one for n, one in progress.operations.items() if n not in event.operations}
    again = {**progress.again, **dict.fromkeys(event.again, metadata.sequence_nr)}
    after = replace(progress, operations=left, again=again)
    return replace(after, cancelled="", cancelled_nr=0) if event.goes_on else after


_FOLDERS: dict[type, Callable[[Progress, Any, Metadata], Progress]] = {
    OperationStarted: _started,
    StepDone: _done,
    CommandFailed: _failed,
    DeadlineReached: _reached,
    ChildEnded: _child_ended,
    EventTaken: _taken,
    Published: _published,
    Cancel: _cancel,
    TimeoutReached: _timed_out,
    Resume: lambda progress, _, __: progress,
    Restarted: _restarted,
}
