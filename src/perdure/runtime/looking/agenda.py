"""What is to come: armed deadlines in the order in which they are due, and schedules.

Next to read: ``instances/wakeups.py``, which fires them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from perdure.core.correlation import split_key
from perdure.core.instance import Instance
from perdure.errors import DefinitionError
from perdure.messages import datetime_of, milliseconds_of
from perdure.runs import ScheduleState
from perdure.store.protocol import Store

__all__ = ["ArmedDeadline", "ScheduleView", "armed_deadlines", "checked_before", "schedule_view"]

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ArmedDeadline:
    """A deadline that is armed, by turn ``sequence_nr`` of its instance.

    That of a whole process is called "perdure.timeout".
    """

    saga: str
    correlation_id: str
    name: str
    due_at: datetime
    sequence_nr: int


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule: the run to come, the latest that was made, and how many there were.

    ``next_at`` is None while it is paused, and if there is no further run. ``missed`` runs were not
    made, ``missed_since`` of them after the latest that was. ``timing`` is its definition in words.
    """

    name: str
    timing: str
    next_at: datetime | None
    previous_at: datetime | None
    made: int
    missed: int
    missed_since: int
    is_paused: bool


def checked_before(before: datetime | None) -> int | None:
    """The moment in milliseconds. Raises ``DefinitionError`` for one without a time zone."""
    if before is None:
        return None
    if not isinstance(before, datetime) or before.tzinfo is None:
        raise DefinitionError(f"before={before!r} is no moment", remedy="give an aware datetime")
    return milliseconds_of(before)


async def armed_deadlines(
    store: Store, saga: str | None, before_ms: int | None
) -> AsyncIterator[ArmedDeadline]:
    """The armed deadlines, the next one first, read page by page."""
    after = (-1, "", "")
    while True:
        rows = await store.deadlines(after, PAGE)
        for row in rows:
            if before_ms is not None and row.due_at_ms >= before_ms:
                return
            of, correlation_id = split_key(row.instance)
            if saga in (None, of):
                due_at = datetime_of(row.due_at_ms)
                yield ArmedDeadline(of, correlation_id, row.name, due_at, row.sequence_nr)
        if len(rows) < PAGE:
            return
        after = (rows[-1].due_at_ms, rows[-1].instance, rows[-1].name)


def schedule_view(instance: Instance) -> ScheduleView | None:
    """The schedule that an instance is; None if it is none, or is not there."""
    state = instance.state
    if not instance.exists or not isinstance(state, ScheduleState):
        return None
    return ScheduleView(
        instance.correlation_id,
        state.timing,
        state.next_at,
        state.previous_at,
        state.made,
        state.missed,
        state.missed_since,
        state.is_paused,
    )
