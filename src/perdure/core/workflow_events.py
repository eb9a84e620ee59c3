"""The messages and events of coroutine workflows, and the command that each step is.

An operation is whatever a coroutine awaits: a step, a sleep, an event, a child, a publication. Its
name is "kind/name" or "kind/name:key", the same at every re-entry (``operation_name``). Plain data.
Next to read: ``progress.py``, which folds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure.messages import AnyMessage, message

__all__ = ["EventTaken", "OperationStarted", "PerformStep", "Published", "Restarted", "StepDone"]


@message(name="perdure.workflow.PerformStep")
@dataclass(frozen=True, slots=True)
class PerformStep:
    """The command of a step: what its function is called with, and its idempotency key."""

    operation: str
    step: str
    key: str
    message: AnyMessage | None = None
    value: Any = None


@message(name="perdure.workflow.StepDone")
@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is done; the function returned this message, or this plain value."""

    operation: str
    message: AnyMessage | None = None
    value: Any = None


@message(name="perdure.workflow.OperationStarted")
@dataclass(frozen=True, slots=True)
class OperationStarted:
    """Recorded when the coroutine has asked for it; a wait ``awaits`` events of that type name."""

    operation: str
    awaits: str = ""


@message(name="perdure.workflow.EventTaken")
@dataclass(frozen=True, slots=True)
class EventTaken:
    """Recorded when the coroutine is given an event: the one that came with turn ``came_with``."""

    operation: str
    came_with: int


@message(name="perdure.workflow.Published")
@dataclass(frozen=True, slots=True)
class Published:
    """Recorded in the turn that publishes an event."""

    operation: str


@message(name="perdure.workflow.Restarted")
@dataclass(frozen=True, slots=True)
class Restarted:
    """Recorded when somebody has these operations forgotten: the coroutine asks for them anew.

    Those of ``again`` had been done, and are performed under new keys. ``goes_on``: it is not
    cancelled any more, if it was.
    """

    operations: tuple[str, ...]
    again: tuple[str, ...] = ()
    goes_on: bool = True
