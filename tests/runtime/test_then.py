"""An instance as it was: after a turn, at a moment; of every kind of saga; from damaged rows."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import (
    Approval,
    Approvals,
    AskApproval,
    Cron,
    Decide,
    Fixed,
    InstanceView,
    MemoryStore,
    OrderedSaga,
    Runtime,
    SagaRef,
    Schedule,
    Settings,
    SqlStore,
    Who,
    errors,
    message,
)
from perdure.approvals import submit
from perdure.messages import datetime_of
from perdure.runtime.looking import then
from perdure.runtime.looking.reading import Reader
from perdure.store.protocol import Store
from perdure.testing import FaultyStore, SimulatedClock
from tests.effort import times
from tests.runtime.support import add, ledgers, open_ledger, parts, quickly, reopened, view_of
from tests.runtime.walks import DAY, Met, Trail, runtime_of, set_out, walk
from tests.sagas import Added, Alarm, Armed, Closed, Disarmed, Ledger, Opened

START = datetime(2026, 1, 1, tzinfo=UTC)


class Seen:
    """What was seen of an instance after each of its turns, and when that turn was taken."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.after: dict[int, InstanceView] = {}
        self.at: dict[int, datetime] = {}
        self._clock = clock

    async def look(self, runtime: Runtime, ref: SagaRef) -> None:
        view = await runtime.state(ref)
        if view is not None:
            assert self.after.setdefault(view.sequence_nr, view) == view
            self.at.setdefault(view.sequence_nr, self._clock.now)

    async def agrees(self, runtime: Runtime, ref: SagaRef) -> None:
        """Every turn that was seen is shown as it was; and every moment between."""
        for number, view in self.after.items():
            assert await runtime.state(ref, at=number) == view
        last = max(self.after, default=0)
        with pytest.raises(errors.DefinitionError, match=f"stands at turn {last}"):
            await runtime.state(ref, at=last + 1)

    async def agrees_in_time(self, runtime: Runtime, ref: SagaRef, now: datetime) -> None:
        moments = set(self.at.values())
        for moment in {*moments, *(one - timedelta(milliseconds=1) for one in moments), now}:
            until = [view for number, view in self.after.items() if self.at[number] <= moment]
            assert await runtime.state(ref, at=moment) == (until[-1] if until else None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.just("disarm"), st.sampled_from("ab"), st.just(0)),
        st.tuples(st.just("add"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 9)),
        st.tuples(st.just("restart"), st.just(""), st.just(0)),
        st.tuples(st.just("close"), st.just(""), st.just(0)),
    ),
    max_size=25,
)


def message_of(kind: str, name: str, n: int) -> Any:
    match kind:
        case "arm":
            return Armed("x", name, n)
        case "disarm":
            return Disarmed("x", name)
        case "add":
            return Added("x", n)
        case _:
            return Closed("x")


async def live(store: Store, clock: SimulatedClock, steps: Any, every: int) -> None:
    """One second and one step after the other, with a look after each."""
    seen, left = Seen(clock), list(steps)
    while True:
        limits = Settings(snapshot_every=every, residents_max=1)
        async with Runtime(store, [Alarm], limits, clock=clock) as runtime:
            ref = runtime.ref(Alarm, "x")
            if not seen.after:
                await runtime.send(ref, Opened("x"))
            await seen.look(runtime, ref)
            while left:
                kind, name, n = left.pop(0)
                if kind == "restart":
                    break
                seconds = n if kind == "wait" else 1
                for _ in range(seconds):
                    await clock.advance(timedelta(seconds=1))
                    await seen.look(runtime, ref)
                if kind != "wait":
                    await runtime.send(ref, message_of(kind, name, n))
                    await seen.look(runtime, ref)
                    await clock.settle()  # a deadline that was due at once
                    await seen.look(runtime, ref)
            else:
                await seen.agrees(runtime, ref)
                await seen.agrees_in_time(runtime, ref, clock.now)
                return
        store = reopened(store) if isinstance(store, FaultyStore) else store


@settings(max_examples=times(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(1, 5))
def test_after_each_turn_it_was_as_it_was_seen(steps, every):
    asyncio.run(live(FaultyStore(MemoryStore()), SimulatedClock(), steps, every))


def test_it_is_so_in_a_file_too(tmp_path):
    steps = [("arm", "a", 3), ("add", "", 1), ("restart", "", 0), ("wait", "", 5)]
    steps += [("arm", "b", 2), ("disarm", "b", 0), ("restart", "", 0), ("add", "", 4)]
    steps += [("close", "", 0), ("add", "", 5)]
    store = SqlStore(f"sqlite+aiosqlite:///{tmp_path}/then.db", synchronous="NORMAL")
    asyncio.run(live(FaultyStore(store), SimulatedClock(), steps, 2))


# Every kind of saga


@message(name="then-test.Trip")
class Trip:
    id: str


def trip_of(fails: bool) -> OrderedSaga:
    trip = OrderedSaga("trip", Trip, by="id")

    @trip.step(name="flight")
    def flight(data: Trip) -> None: ...

    @trip.compensates(flight)
    def no_flight(data: Trip) -> None: ...

    @trip.step(name="hotel", nothing_to_undo=True, retry=Fixed(0, max_attempts=1))
    def hotel(data: Trip) -> None:
        if fails:
            raise ValueError("full")

    return trip


async def told_of(store: MemoryStore, key: str, count: int) -> MemoryStore:
    """A store that has only so many turns of the instance, and no snapshot of it."""
    known = MemoryStore()
    known._journal = {key: store._journal[key][:count]}
    return known


async def agrees_with_the_journal(runtime: Runtime, store: MemoryStore, ref: SagaRef) -> None:
    """After each turn it was what its journal up to there folds to, without any snapshot."""
    services, now = parts(runtime).services, await view_of(runtime, ref)
    definition = runtime._blueprint.routing.definition(ref.saga)
    assert await runtime.state(ref, at=now.sequence_nr) == now
    for number in range(1, now.sequence_nr + 1):
        part = await told_of(store, ref.key, number)
        await part.open()
        reader = Reader(part, Settings(), services.codec, services.journal)
        (loaded,) = await part.load([ref.key])
        folded = await then.instance_at(reader, definition, ref.key, number)
        assert loaded.snapshot is None
        assert folded is not None
        shown = await runtime.state(ref, at=number)
        assert shown is not None
        assert (shown.state, shown.status, shown.sequence_nr) == (
            folded.state,
            folded.status,
            number,
        )
        assert set(shown.deadlines) == set(folded.deadlines)


@pytest.mark.parametrize("fails", [False, True])
@quickly
async def test_an_ordered_saga_as_it_was(fails):
    store, trip = MemoryStore(), trip_of(fails)
    async with Runtime(store, [trip], Settings(snapshot_every=2)) as runtime:
        ref = runtime.ref(trip, "t")
        await runtime.send(ref, Trip("t"))
        await runtime.settled()
        await agrees_with_the_journal(runtime, store, ref)
        first, last = await runtime.state(ref, at=1), await view_of(runtime, ref)
        assert first is not None
        assert first.state.steps == {"flight": "running"}
        assert (first.status, first.failure) == ("running", None)
        assert last.status == ("failed" if fails else "completed")
        assert bool(last.failure) is fails


@quickly
async def test_a_workflow_as_it_was():
    async def body(ctx, begun):
        await ctx.step("a", begun.id)
        await ctx.sleep("nap", days=2)
        return await ctx.wait_event(Met, timeout=3 * DAY)

    store, clock, saga = MemoryStore(), SimulatedClock(), walk(body)
    async with runtime_of(
        store, saga, clock=clock, settings=Settings(snapshot_every=2), trail=Trail()
    ) as runtime:
        ref = await set_out(runtime)
        asleep = await view_of(runtime, ref)
        await clock.advance(2 * DAY)
        waits = await view_of(runtime, ref)
        await clock.advance(DAY)
        await runtime.send(ref, Met("w", "Ann"))
        await agrees_with_the_journal(runtime, store, ref)
        assert await runtime.state(ref, at=asleep.sequence_nr) == asleep
        assert asleep.deadlines == {"sleep/nap": START + 2 * DAY}
        assert await runtime.state(ref, at=START + DAY) == asleep
        assert await runtime.state(ref, at=waits.updated_at) == waits
        assert list(waits.deadlines) == ["event/walk-test.Met"]
        assert await runtime.state(ref, at=START - DAY) is None


@quickly
async def test_a_schedule_and_an_approval_as_they_were():
    store, clock = MemoryStore(), SimulatedClock()
    nightly = Schedule("nightly", Cron("0 3 * * *"), lambda run: None)
    async with Runtime(
        store, [nightly, Approvals], Settings(snapshot_every=2), clock=clock
    ) as runtime:
        policy = Approval(Who(people=("ann", "bob")), quorum=2, expires=timedelta(days=9))
        await submit(runtime, AskApproval("a", Trip("t"), policy, "eve"))
        await clock.advance(3 * DAY)
        ref, schedule = runtime.ref(Approvals, "a"), runtime.ref(nightly, "nightly")
        asked = await view_of(runtime, ref)
        for who in ("ann", "bob"):
            await submit(runtime, Decide("a", who, "approve", asked.state.digest))
        await agrees_with_the_journal(runtime, store, ref)
        await agrees_with_the_journal(runtime, store, schedule)
        before = await runtime.state(ref, at=START + DAY)
        assert before is not None
        assert (before.state.missing, before.status) == (2, "running")
        early = await runtime.state(schedule, at=START + DAY)
        assert early is not None
        assert early.state.made == 1
        assert early.deadlines == {"next": START + DAY + timedelta(hours=3)}


# What cannot be shown


@pytest.mark.parametrize("at", [0, -1, True, "3", 1.5, datetime(2026, 1, 1), None.__class__])
@quickly
async def test_what_is_no_moment_is_refused(at):
    async with ledgers(MemoryStore()) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(errors.DefinitionError, match="at=") as caught:
            await runtime.state(ref, at=at)
        assert caught.value.remedy


@quickly
async def test_what_is_yet_to_come_is_refused():
    clock = SimulatedClock()
    async with ledgers(MemoryStore(), clock) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(errors.DefinitionError, match="stands at turn 1"):
            await runtime.state(ref, at=2)
        with pytest.raises(errors.DefinitionError, match="yet to come"):
            await runtime.state(ref, at=clock.now + timedelta(seconds=1))
        assert await runtime.state(ref, at=clock.now) is not None


@quickly
async def test_what_was_never_there_is_none():
    async with ledgers(MemoryStore()) as runtime:
        ref = runtime.ref(Ledger, "nobody")
        assert await runtime.state(ref, at=1) is None
        assert await runtime.state(ref, at=datetime.now(UTC)) is None


async def filled(tmp_path, turns: int = 9) -> str:
    """A file with a ledger of so many turns, with snapshots at 4 and 8; its path."""
    path = f"{tmp_path}/then.db"
    clock = SimulatedClock()
    store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
    async with ledgers(store, clock, snapshot_every=4) as runtime:
        ref = await open_ledger(runtime)
        for number in range(2, turns + 1):
            await clock.advance(timedelta(minutes=1))
            await add(runtime, ref, number)
    return path


def change(path: str, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(sql).rowcount
    connection.close()


@quickly
async def test_before_a_damaged_turn_it_is_shown_and_beyond_it_is_refused(tmp_path):
    path = await filled(tmp_path)
    change(path, "UPDATE journal SET body = x'00' WHERE sequence_nr = 6")
    change(path, "DELETE FROM snapshots WHERE sequence_nr = 8")
    clock = SimulatedClock(START + timedelta(hours=1))
    async with ledgers(SqlStore(f"sqlite:///{path}"), clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        for number in range(1, 6):
            view = await runtime.state(ref, at=number)
            assert view is not None
            assert view.state.items == tuple(range(2, number + 1))
            if number < 5:  # what came between turn 5 and turn 7, nobody knows
                assert await runtime.state(ref, at=view.updated_at) == view
        for at in (6, 9):
            with pytest.raises(errors.InstanceQuarantined, match="journal row"):
                await runtime.state(ref, at=at)
        with pytest.raises(errors.InstanceQuarantined):
            await runtime.state(ref, at=clock.now)


@quickly
async def test_a_damaged_turn_behind_a_snapshot_does_no_harm_beyond_it(tmp_path):
    path = await filled(tmp_path)
    change(path, "UPDATE journal SET body = x'00' WHERE sequence_nr = 3")
    async with ledgers(SqlStore(f"sqlite:///{path}")) as runtime:
        ref = runtime.ref(Ledger, "x")
        view = await runtime.state(ref, at=5)
        assert view is not None
        assert view.state.items == (2, 3, 4, 5)
        with pytest.raises(errors.InstanceQuarantined):
            await runtime.state(ref, at=3)
        assert (await runtime.state(ref, at=2)) is not None


@quickly
async def test_a_beginning_that_is_gone_is_said_to_be(tmp_path):
    path = await filled(tmp_path)
    change(path, "DELETE FROM journal WHERE sequence_nr <= 6")
    async with ledgers(SqlStore(f"sqlite:///{path}"), SimulatedClock(START + DAY)) as runtime:
        ref = runtime.ref(Ledger, "x")
        for at in (1, 3, START + timedelta(minutes=1)):
            with pytest.raises(errors.Gone, match="before 7 are not kept") as caught:
                await runtime.state(ref, at=at)
            assert caught.value.remedy
        for at in (8, 9):
            view = await runtime.state(ref, at=at)
            assert view is not None
            assert view.state.items == tuple(range(2, at + 1))


@quickly
async def test_turns_that_are_gone_behind_a_snapshot_were_taken_all_the_same(tmp_path):
    path = await filled(tmp_path)
    with closing(sqlite3.connect(path)) as file:
        numbers = sorted(number for (number,) in file.execute("SELECT sequence_nr FROM snapshots"))
    change(path, f"DELETE FROM journal WHERE sequence_nr <= {numbers[-1]}")
    async with ledgers(SqlStore(f"sqlite:///{path}"), SimulatedClock(START + DAY)) as runtime:
        ref = runtime.ref(Ledger, "x")
        for at in range(1, numbers[-1] + 1):
            if at in numbers:
                view = await runtime.state(ref, at=at)
                assert view is not None
                assert view.sequence_nr == at
                continue
            with pytest.raises(errors.Gone, match="not kept"):
                await runtime.state(ref, at=at)
        change(path, "DELETE FROM journal")
        moments: list[then.At] = [1, numbers[-1] - 1, START + timedelta(minutes=1)]
        for moment in moments:
            with pytest.raises(errors.Gone, match="not kept"):
                await runtime.state(ref, at=moment)
        assert await runtime.state(ref, at=START - DAY) is None


@quickly
async def test_a_long_journal_leaves_the_loop_free_and_no_handler_runs(monkeypatch):
    monkeypatch.setattr(then, "PAGE", 10)
    async with ledgers(MemoryStore(), snapshot_every=10_000) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, *range(95))
        rounds, done = 0, asyncio.Event()

        async def turning() -> None:
            nonlocal rounds
            while not done.is_set():
                rounds += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(turning())
        monkeypatch.setattr(Ledger, "added", lambda *_: pytest.fail("a handler ran"))
        view = await runtime.state(ref, at=91)
        done.set()
        await beside
        assert view is not None
        assert len(view.state.items) == 90
        assert rounds > 8


@quickly
async def test_at_a_moment_counts_the_last_turn_also_if_the_clock_went_back():
    clock = SimulatedClock()
    async with ledgers(MemoryStore(), clock) as runtime:
        ref = await open_ledger(runtime)
        await clock.advance(timedelta(seconds=10))
        await add(runtime, ref, 2)
        clock._now_ms -= 5_000
        await add(runtime, ref, 4)
        at = await runtime.state(ref, at=datetime_of(clock.now_ms()))
        assert at is not None
        assert at.sequence_nr == 3


@quickly
async def test_a_snapshot_that_cannot_be_decoded_is_passed_over(tmp_path):
    path = await filled(tmp_path)
    change(path, "UPDATE snapshots SET body = x'00', checksum = 1 WHERE sequence_nr = 4")
    async with ledgers(SqlStore(f"sqlite:///{path}")) as runtime:
        view = await runtime.state(runtime.ref(Ledger, "x"), at=5)
        assert view is not None
        assert view.state.items == (2, 3, 4, 5)


def test_the_view_of_then_is_the_looker_s_own():
    """What it is given may be changed, and changes nothing."""
    from tests.sagas import Basket, Filled

    async def scenario() -> None:
        async with Runtime(MemoryStore(), [Basket]) as runtime:
            ref = runtime.ref(Basket, "b")
            await runtime.send(ref, Filled("b", [1]))
            for _ in range(2):
                view = await runtime.state(ref, at=1)
                assert view is not None
                assert view.state.items == [1]
                view.state.items.append(7)

    asyncio.run(scenario())
