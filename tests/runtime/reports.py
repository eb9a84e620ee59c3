"""A saga that schedules start, and how to look at what they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from perdure import (
    Cron,
    Effects,
    Every,
    ProcessManager,
    Run,
    Runtime,
    Schedule,
    applies,
    message,
    starts,
)
from perdure.runs import ScheduleState

HOURLY = Every(timedelta(hours=1))
NIGHTLY = Cron("30 2 * * *", zone="Europe/Berlin")


@message(name="schedule-test.start-report")
class StartReport:
    id: str
    missed: int = 0


@dataclass(frozen=True)
class ReportState:
    started: int = 0
    missed: int = 0


class Report(ProcessManager[ReportState]):
    """One instance per run; a second start of one would show in its state."""

    @starts(StartReport, by="id")
    def start(self, state: ReportState, event: StartReport, do: Effects) -> None: ...

    @applies(StartReport)
    def started(self, state: ReportState, event: StartReport) -> ReportState:
        return replace(state, started=state.started + 1, missed=event.missed)


def report(run: Run) -> StartReport:
    return StartReport(run.id, run.missed)


def schedule(
    timing: Any = HOURLY,
    name: str = "reports",
    function: Callable[[Run], Any] = report,
    missed: Any = None,
) -> Schedule:
    return Schedule(name, timing, function, missed=missed)


def at(text: str) -> datetime:
    """A moment in UTC: "2026-01-01 12:00"."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def reports(runtime: Runtime, name: str = "reports") -> list[str]:
    """The moments of the runs that have started a report, in their order; each but once."""
    found: list[str] = []
    async for one in runtime.instances(Report):
        assert one.state.started == 1, one
        schedule_name, _, moment = one.correlation_id.partition("@")
        if schedule_name == name:
            found.append(moment[:16].replace("T", " "))
    return found


async def state_of(runtime: Runtime, of: Schedule) -> ScheduleState:
    view = await runtime.state(runtime.ref(of, of.name))
    assert view is not None
    assert isinstance(view.state, ScheduleState)
    return view.state
