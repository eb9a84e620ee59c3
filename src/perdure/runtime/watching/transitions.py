"""State transitions, logged by themselves after the commit: logger ``perdure.transitions``, INFO.

    Order o-1: awaiting_payment -> paid on PaymentReceived
    Trip t-1: step flight is done on perdure.StepCompleted

What is shown of an instance is the field ``status`` of its state, if it has one (a text or an
enum), and how it stands, where it does not simply run. Of ordered saga and workflows also each
step. Next to read: ``announcing.py``, which calls this; ``logs.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from perdure.core.commit import Status
from perdure.core.instance import Instance
from perdure.core.ordered import OrderedState
from perdure.core.outcome import Turn
from perdure.core.progress import Progress
from perdure.core.saga import Definition
from perdure.core.step_events import StepStatus
from perdure.runtime.watching.logs import about

__all__ = ["is_logged", "log_standing", "log_transition"]

logger = logging.getLogger("perdure.transitions")
saga_logger = logging.getLogger("perdure.saga")

is_logged: Callable[[int], bool] = logger.isEnabledFor

_STEPS = {
    StepStatus.RUNNING: "has begun",
    StepStatus.COMPLETED: "is done",
    StepStatus.FAILED: "has failed",
    StepStatus.UNKNOWN: "has failed, and may have had its effect",
    StepStatus.IN_DOUBT: "has failed, and may have had its effect",
    StepStatus.COMPENSATING: "is being undone",
    StepStatus.COMPENSATED: "is undone",
    StepStatus.SKIPPED: "has nothing to undo",
    StepStatus.STUCK: "could not be undone",
    StepStatus.SEEN_TO: "was seen to",
}

_BEGINNINGS = (StepStatus.RUNNING, StepStatus.COMPENSATING)
"""Told last: they follow from what has ended."""


def log_standing(after: Instance) -> None:
    """Log that an instance is stuck, or has failed, and why."""
    if after.status is Status.STUCK:
        saga_logger.warning("%s is stuck: %s", after.key, after.detail, extra=about(after.key))
    elif after.status is Status.FAILED:
        saga_logger.info("%s has failed: %s", after.key, after.detail, extra=about(after.key))


def log_transition(definition: Definition, before: Instance, turn: Turn) -> None:
    """Log what the turn has changed of how its instance stands."""
    after, message = turn.after, turn.message
    if before.state is after.state and not turn.status_changed:
        return
    changes = [f"step {step} {how}" for step, how in _steps_changed(before.state, after.state)]
    old = _standing(before) if before.exists else "none"
    new = _standing(after)
    if old != new:
        changes.append(f"{old} -> {new}")
    if changes:
        extra = about(after.key, message.message_id)
        for change in changes:
            logger.info(
                "%s %s: %s on %s",
                definition.name,
                after.correlation_id,
                change,
                message.type,
                extra=extra,
            )


def _standing(instance: Instance) -> str:
    status = getattr(instance.state, "status", None)
    if isinstance(status, Enum):
        status = status.value if isinstance(status.value, str) else status.name
    lifecycle = instance.status.value
    if not isinstance(status, str) or status == lifecycle:
        return lifecycle
    return status if instance.status is Status.RUNNING else f"{status} ({lifecycle})"


def _steps_changed(before: Any, after: Any) -> Iterator[tuple[str, str]]:
    """The steps that stand otherwise now, and how."""
    if isinstance(after, OrderedState):
        steps: Mapping[str, StepStatus] = after.steps
        known = before.steps if isinstance(before, OrderedState) else {}
        changed = [item for item in steps.items() if known.get(item[0]) is not item[1]]
        for step, status in sorted(changed, key=lambda item: item[1] in _BEGINNINGS):
            yield step, _STEPS[status]
    elif isinstance(after, Progress):
        operations = before.operations if isinstance(before, Progress) else {}
        for name, operation in after.operations.items():
            was = operations.get(name)
            if was is None:
                yield name, "has begun"
            if operation.ended_nr and (was is None or not was.ended_nr):
                yield name, f"is {operation.status.value}"
