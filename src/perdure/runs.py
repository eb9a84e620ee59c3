"""What a schedule exchanges and remembers: a run, the messages it takes, its state.

Values only. Next to read: ``schedule.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from perdure.messages import DeadlineReached, Metadata, datetime_of, message, milliseconds_of

__all__ = [
    "NEXT",
    "OpenSchedule",
    "PauseSchedule",
    "ResumeSchedule",
    "Run",
    "RunsPlanned",
    "ScheduleState",
    "TriggerSchedule",
    "fold",
    "text_of",
]

NEXT = "next"
"""The name of the deadline of the run to come; every other deadline of a schedule is a run's."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a schedule.

    ``scheduled_at`` is its moment, in the schedule's zone, however late it is. ``missed``: so many
    runs since the one before have not been made and will not be (100 stands for more, too).
    ``previous_at`` is the moment of the latest run that was made, None for the first.
    """

    schedule: str
    scheduled_at: datetime
    missed: int = 0
    previous_at: datetime | None = None

    @property
    def id(self) -> str:
        """From the schedule and the moment alone: "nightly-report@2026-03-29T01:00:00Z".

        The same whenever this run is made. Name with it whatever it starts, so that nothing is
        started twice.
        """
        return f"{self.schedule}@{text_of(self.scheduled_at)}"


@message(name="perdure.OpenSchedule")
@dataclass(frozen=True, slots=True)
class OpenSchedule:
    """The runtime has started: arm what the definition says, if it is not armed."""


@message(name="perdure.PauseSchedule")
@dataclass(frozen=True, slots=True)
class PauseSchedule:
    """Make no runs until ``ResumeSchedule``; those in between are not missed, they do not exist.

    await runtime.send(runtime.ref(nightly, nightly.name), PauseSchedule())
    """


@message(name="perdure.ResumeSchedule")
@dataclass(frozen=True, slots=True)
class ResumeSchedule:
    """Make runs again, from now on."""


@message(name="perdure.TriggerSchedule")
@dataclass(frozen=True, slots=True)
class TriggerSchedule:
    """Make a run ``at`` a moment of one's own, now if None; also while the schedule is paused.

    With the moment of a run that has failed: make it again, under its own id.
    """

    at: datetime | None = None


@message(name="perdure.RunsPlanned")
@dataclass(frozen=True, slots=True)
class RunsPlanned:
    """Recorded: all runs up to ``decided_until`` are decided, the next one is at ``next_at``.

    ``timing`` is the definition this was made by, in words; ``missed`` runs are not made.
    """

    timing: str
    decided_until: datetime
    next_at: datetime | None
    missed: int = 0


@message(name="perdure.ScheduleState")
@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What is known of a schedule; ``(await runtime.state(ref)).state`` shows it.

    ``next_at``: the run to come, None if there is none, or while it is paused. ``made`` and
    ``missed`` count runs; ``missed_since`` those missed since the latest that was made, whose
    moment is ``previous_at``.
    """

    timing: str = ""
    decided_until: datetime | None = None
    next_at: datetime | None = None
    is_paused: bool = False
    previous_at: datetime | None = None
    made: int = 0
    missed: int = 0
    missed_since: int = 0


def fold(state: ScheduleState, event: Any, metadata: Metadata) -> ScheduleState:
    """The state after an event; what is not folded leaves it as it is."""
    match event:
        case RunsPlanned():
            return replace(
                state,
                timing=event.timing,
                decided_until=event.decided_until,
                next_at=event.next_at,
                missed=state.missed + event.missed,
                missed_since=state.missed_since + event.missed,
            )
        case DeadlineReached(name=name, due_at=at) if name != NEXT:
            latest = at if state.previous_at is None else max(at, state.previous_at)
            return replace(state, made=state.made + 1, missed_since=0, previous_at=latest)
        case PauseSchedule():
            return replace(state, is_paused=True, next_at=None)
        case ResumeSchedule():
            return replace(state, is_paused=False)
        case _:
            return state


def text_of(at: datetime) -> str:
    """The moment in UTC, to the millisecond that rows have.

    >>> text_of(datetime_of(0))
    '1970-01-01T00:00:00Z'
    """
    return datetime_of(milliseconds_of(at)).isoformat().replace("+00:00", "Z")
