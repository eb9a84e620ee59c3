"""What is to be done for a deadline that is to be reached at another moment, or not at all.

As ``measures.py``. Next to read: ``repair.py``.
"""

from __future__ import annotations

from datetime import datetime

from perdure.core.instance import Instance
from perdure.core.intervention import Action
from perdure.core.outcome import TIMEOUT
from perdure.core.saga import Definition
from perdure.errors import DefinitionError, NotRepairable
from perdure.messages import datetime_of
from perdure.runtime.repair.measures import Measure, finished

__all__ = ["cancel_deadline", "set_deadline"]


async def set_deadline(
    definition: Definition, instance: Instance, name: str, at: datetime
) -> Measure:
    """The deadline is reached at another moment."""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise DefinitionError(
            f"deadline {name!r} is set to {at!r}",
            remedy="give an aware datetime, with its time zone",
        )
    if instance.status.is_over:
        raise finished(instance)
    may_be_set = (
        definition.timeout is not None
        if _is_timeout(name)
        else (definition.deadlines is not None and name in definition.deadlines)
    )
    armed = _armed(instance, name)
    if not armed and not may_be_set:
        raise _no_deadline(instance, name)
    before = f", and not {armed}" if armed else ""
    about = TIMEOUT if _is_timeout(name) else name
    text = f"deadline {name!r} is set to {at.isoformat()}{before}"
    return Measure(Action.SET_DEADLINE, text, about, at=at)


async def cancel_deadline(definition: Definition, instance: Instance, name: str) -> Measure:
    """The deadline is not reached any more."""
    armed = _armed(instance, name)
    if not armed:
        raise _no_deadline(instance, name)
    if name.startswith("sleep/"):
        raise NotRepairable(
            f"{name!r} is what the workflow waits for, and it would wait for ever",
            remedy="set it to an earlier moment instead",
        )
    about = TIMEOUT if _is_timeout(name) else name
    text = f"deadline {name!r}, which was set to {armed}, is cancelled"
    return Measure(Action.CANCEL_DEADLINE, text, about)


def _no_deadline(instance: Instance, name: str) -> NotRepairable:
    armed = ", ".join(sorted(instance.deadlines))
    return NotRepairable(
        f"no deadline {name!r} is set",
        remedy=f"there is {armed}" if armed else "none is",
    )


def _is_timeout(name: str) -> bool:
    return name in (TIMEOUT, "timeout") or name.startswith(f"{TIMEOUT}.")


def _armed(instance: Instance, name: str) -> str:
    """When the deadline is due; "" if it is not set."""
    for one, armed in instance.deadlines.items():
        if one == name or (_is_timeout(name) and _is_timeout(one)):
            return datetime_of(armed.due_at_ms).isoformat()
    return ""
