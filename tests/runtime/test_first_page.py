"""Deadlines at rare moments: while the first page is read, after a failed read, in the past."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from perdure import (
    DeadlineReached,
    Effects,
    ProcessManager,
    Runtime,
    Settings,
    applies,
    continues,
    errors,
    message,
    on_deadline,
    starts,
)
from perdure.store.protocol import Store
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.support import (
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    rounds,
    state_of,
    until,
    view_of,
)
from tests.sagas import Added, Alarm, Armed, Disarmed, Opened


class SlowFirstPage(FaultyStore):
    """The answer to its first look at deadlines grows old until ``goes_on`` is set."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.is_read = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def deadlines(self, after=(-1, "", ""), limit=1000):
        found = await super().deadlines(after, limit)
        self.is_read.set()
        await self.goes_on.wait()
        return found


def alarms(store, clock, **settings) -> Runtime:
    return Runtime(store, [Alarm], Settings(**settings), clock=clock)


async def heard(runtime, id="x") -> tuple[str, ...]:
    return tuple((await state_of(runtime, runtime.ref(Alarm, id))).heard)


@quickly
async def test_more_than_a_page_is_told_although_one_is_set_before_the_first_page_is_read(
    memory, clock
):
    async with alarms(memory, clock, deadline_page=5) as runtime:
        for n in range(20):
            await runtime.publish(Armed(str(n), "a", 100 + n))
    slow = SlowFirstPage(memory.inner)
    runtime = alarms(slow, clock, deadline_page=5)
    starting = asyncio.create_task(runtime.start())
    await slow.is_read.wait()
    await runtime.publish(Armed("late", "a", 1_000_000))
    slow.goes_on.set()
    await starting
    await clock.advance(timedelta(seconds=500))
    assert [await heard(runtime, str(n)) for n in range(20)] == [("a",)] * 20
    assert await heard(runtime, "late") == ()
    await clock.advance(timedelta(seconds=1_000_000))
    assert await heard(runtime, "late") == ("a",)
    await runtime.stop()


@pytest.mark.parametrize("after_s", [50, 200])
@quickly
async def test_one_replaced_while_the_first_page_is_read_is_told_at_its_new_time(
    memory, clock, after_s
):
    async with alarms(memory, clock) as runtime:
        await runtime.publish(Armed("x", "a", 100))
    slow = SlowFirstPage(memory.inner)
    runtime = alarms(slow, clock)
    starting = asyncio.create_task(runtime.start())
    await slow.is_read.wait()
    await runtime.publish(Armed("x", "a", after_s))
    slow.goes_on.set()
    await starting
    await clock.advance(timedelta(seconds=after_s - 1))
    assert await heard(runtime) == ()
    await clock.advance(timedelta(seconds=1))
    assert await heard(runtime) == ("a",)
    await clock.advance(timedelta(days=500))
    assert await heard(runtime) == ("a",)
    assert await memory.inner.deadlines() == []
    await runtime.stop()


@quickly
async def test_one_cancelled_while_the_first_page_is_read_is_not_told(memory, clock):
    async with alarms(memory, clock) as runtime:
        await runtime.publish(Armed("x", "a", 100))
    slow = SlowFirstPage(memory.inner)
    runtime = alarms(slow, clock)
    starting = asyncio.create_task(runtime.start())
    await slow.is_read.wait()
    await runtime.publish(Disarmed("x", "a"))
    slow.goes_on.set()
    await starting
    await clock.advance(timedelta(days=1))
    assert await heard(runtime) == ()
    await runtime.stop()


@quickly
async def test_one_armed_by_a_turn_of_unknown_outcome_is_told_also_after_a_failed_read(
    store, clock
):
    async with alarms(store, clock) as runtime:
        ref = runtime.ref(Alarm, "x")
        await runtime.send(ref, Opened("x"))
        store.fail_writes(after_commit=True)
        store.fail_loads()
        arming = asyncio.create_task(runtime.send(ref, Armed("x", "a", 100)))
        await until(lambda: store.instances_written["Alarm/x"] == 2)
        await clock.advance(timedelta(seconds=1))
        with pytest.raises(errors.OutcomeUnknown):
            await arming
        await runtime.send(ref, Added("x", 1))
        assert list((await view_of(runtime, ref)).deadlines) == ["a"]
        await clock.advance(timedelta(days=1))
        assert await heard(runtime) == ("1", "a")
        assert not (await view_of(runtime, ref)).deadlines


@quickly
async def test_one_armed_by_a_turn_of_unknown_outcome_is_told_without_further_mail(store, clock):
    async with alarms(store, clock) as runtime:
        ref = runtime.ref(Alarm, "x")
        await runtime.send(ref, Opened("x"))
        store.fail_writes(after_commit=True)
        store.fail_loads()
        arming = asyncio.create_task(runtime.send(ref, Armed("x", "a", 100)))
        await until(lambda: store.instances_written["Alarm/x"] == 2)
        await clock.advance(timedelta(seconds=1))
        with pytest.raises(errors.OutcomeUnknown):
            await arming
        await clock.advance(timedelta(seconds=1))
        # Read back, on its own.
        await until(lambda: parts(runtime).supervisor.committed("Alarm/x") is not None)
        await clock.advance(timedelta(days=1))
        assert await heard(runtime) == ("a",)


@message(name="mistake-test.set")
class Set:
    id: str


@message(name="mistake-test.asked")
class Asked:
    id: str


@dataclass(frozen=True)
class BellState:
    heard: tuple[str, ...] = ()
    status: str = "on"


LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Bell(ProcessManager[BellState]):
    """Two deadlines; the first arms itself anew, in the past."""

    name = "Bell"

    @starts(Set, by="id")
    def set(self, state: BellState, event: Set, do: Effects) -> None:
        do.deadline("first", timedelta(seconds=1))
        do.deadline("second", timedelta(seconds=2))

    @continues(Asked, by="id")
    def asked(self, state: BellState, event: Asked, do: Effects) -> None:
        do.reply(",".join(state.heard))

    @on_deadline("first")
    def first(self, state: BellState, do: Effects) -> None:
        if len(state.heard) < 3:
            do.deadline("first", at=LONG_AGO)

    @on_deadline("second")
    def second(self, state: BellState, do: Effects) -> None: ...

    @applies(DeadlineReached)
    def hear(self, state: BellState, event: DeadlineReached) -> BellState:
        return replace(state, heard=(*state.heard, event.name))

    @applies(Asked)
    def hear_asked(self, state: BellState, event: Asked) -> BellState:
        return replace(state, heard=(*state.heard, "asked"))


class LateClock(SimulatedClock):
    """May be late: time has passed and nobody was woken."""

    def pass_unnoticed(self, by_s: float) -> None:
        self._now_ms += by_s * 1000


@quickly
async def test_all_that_is_due_comes_before_the_message_though_one_arms_itself_in_the_past(memory):
    clock = LateClock()
    async with Runtime(memory, [Bell], clock=clock) as runtime:
        ref = runtime.ref(Bell, "x")
        await runtime.send(ref, Set("x"))
        clock.pass_unnoticed(5)
        receipt = await runtime.send(ref, Asked("x"))
        assert receipt.reply == "first,second,asked"
        await clock.advance(timedelta(seconds=1))
        heard = (await state_of(runtime, ref)).heard
        assert heard == ("first", "second", "asked", "first")


@quickly
async def test_a_parked_message_that_was_taken_leaves_no_wake_up_behind(memory, clock):
    async with ledgers(memory, clock, idle_after_s=1) as runtime:
        for n in range(50):
            await runtime.publish(Added(str(n), 1))
            await open_ledger(runtime, str(n))
        await runtime.settled()
        await clock.advance(timedelta(seconds=30))
        await rounds()
        assert runtime.residents == 0
        queries = memory.queries
        await clock.advance(timedelta(hours=2))
        assert memory.queries == queries
        assert runtime.residents == 0
        assert await items(runtime, runtime.ref("Ledger", "7")) == [1]
