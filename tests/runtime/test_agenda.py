"""What is to come, listed: armed deadlines in order, and schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perdure import (
    Coalesce,
    Cron,
    Every,
    MemoryStore,
    Runtime,
    Schedule,
    ScheduleView,
    errors,
)
from perdure.runtime.looking import agenda
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly
from tests.sagas import Alarm, Armed, Ledger, Limited, Opened

START = datetime(2026, 1, 1, tzinfo=UTC)


@quickly
async def test_deadlines_in_the_order_in_which_they_are_due(monkeypatch):
    monkeypatch.setattr(agenda, "PAGE", 2)
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [Alarm, Limited, Ledger], clock=clock) as runtime:
        for saga, id, name, after_s in (
            (Alarm, "x", "b", 50),
            (Alarm, "y", "a", 20),
            (Limited, "z", "a", 30),
            (Alarm, "x", "a", 7_200),
        ):
            await runtime.send(runtime.ref(saga, id), Armed(id, name, after_s))
        found = [(one.correlation_id, one.name) async for one in runtime.deadlines()]
        assert found == [("y", "a"), ("z", "a"), ("x", "b"), ("z", "perdure.timeout"), ("x", "a")]
        alarms = [one async for one in runtime.deadlines(Alarm)]
        assert [one.due_at for one in alarms] == [
            START + timedelta(seconds=seconds) for seconds in (20, 50, 7_200)
        ]
        assert alarms[1].saga == "Alarm"
        assert alarms[1].sequence_nr == 1
        soon = [one.name async for one in runtime.deadlines(before=START + timedelta(seconds=50))]
        assert soon == ["a", "a"]
        assert [one async for one in runtime.deadlines("Ledger")] == []


@quickly
async def test_what_cannot_be_asked_for_is_refused():
    async with Runtime(MemoryStore(), [Alarm]) as runtime:
        with pytest.raises(errors.UnknownSaga):
            runtime.deadlines("Nobody")
        with pytest.raises(errors.DefinitionError, match="aware"):
            runtime.deadlines(before=datetime(2026, 1, 1))


@quickly
async def test_schedules_with_the_next_run_and_the_latest_and_those_missed():
    store, clock = MemoryStore(), SimulatedClock()
    hourly = Schedule("hourly", Every(timedelta(hours=1)), lambda run: None, missed=Coalesce())
    nightly = Schedule("nightly", Cron("0 3 * * *"), lambda run: None)
    async with Runtime(store, [nightly, hourly, Alarm], clock=clock) as runtime:
        await clock.advance(timedelta(hours=2))
        await runtime.send(runtime.ref(Alarm, "x"), Opened("x"))
    await clock.advance(timedelta(hours=3, minutes=30))
    async with Runtime(store, [nightly, hourly], clock=clock) as runtime:
        await clock.settle()
        assert await runtime.schedules() == [
            ScheduleView(
                "hourly",
                "every 1:00:00 from 0:00:00",
                START + timedelta(hours=6),
                START + timedelta(hours=5),
                3,
                2,
                0,
                False,
            ),
            ScheduleView(
                "nightly",
                "cron 0 3 * * * in UTC",
                START + timedelta(hours=27),
                START + timedelta(hours=3),
                1,
                0,
                0,
                False,
            ),
        ]
