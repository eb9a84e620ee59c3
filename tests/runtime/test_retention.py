"""Instances that have ended are purged when their time has come, and known until later."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from perdure import (
    Complete,
    Fixed,
    MemoryStore,
    Outcome,
    ProcessManager,
    Retention,
    Runtime,
    Settings,
    SqlStore,
    StartMissing,
    Status,
    Supervision,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
    stops,
)
from perdure.errors import (
    HandlerFailed,
    InstanceFinished,
    InstancePurged,
    InstanceQuarantined,
    NonRetryable,
)
from perdure.testing import FaultyStore, SimulatedClock
from perdure.testing.invariants import violations
from tests.runtime.support import FreeClock, parts, quickly, reopened, rounds

WEEK, MONTH = timedelta(days=7), timedelta(days=30)


@message(name="kept.opened")
class Opened:
    id: str


@message(name="kept.added")
class Added:
    id: str
    n: int


@message(name="kept.closed")
class Closed:
    id: str


@message(name="kept.work")
class Work:
    id: str


@dataclass(frozen=True)
class Sum:
    total: int = 0


class Kept(ProcessManager[Sum]):
    name = "Kept"
    retention = Retention.keep_for(MONTH, failed=2 * MONTH, tombstone=WEEK)
    on_missing = StartMissing()

    @starts(Opened, by="id")
    def opened(self, state, event, do): ...

    @continues(Added, by="id")
    def added(self, state, event, do):
        if event.n == 13:
            raise NonRetryable("poison")
        if event.n < 0:
            do.fail("below zero")
        if event.n == 100:
            do.send(Work(event.id))
            return [Complete("worked")]
        do.reply(state.total)
        return None

    @stops(Closed, by="id")
    def closed(self, state, event, do):
        do.reply("bye")

    @applies(Added)
    def add(self, state, event):
        return replace(state, total=state.total + event.n)


class Deleted(Kept):
    name = "Deleted"
    retention = Retention.delete(tombstone=timedelta(hours=1))


class ForEver(Kept):
    name = "ForEver"
    retention = Retention.keep()


class Aside(Kept):
    name = "Aside"
    supervision = Supervision.quarantine()


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    return FaultyStore(SqlStore(f"sqlite+aiosqlite:///{tmp_path}/kept.db", synchronous="NORMAL"))


def sound(store):
    if isinstance(store.inner, SqlStore):
        with closing(sqlite3.connect(store.inner.path)) as connection:
            assert violations(connection) == []


async def live(runtime, saga=Kept, id="a", count=3):
    """An instance that has completed; each of its messages has an id."""
    ref = runtime.ref(saga, id)
    await runtime.send(ref, Opened(id), message_id="open")
    for n in range(count):
        await runtime.send(ref, Added(id, 1), message_id=f"add-{n}")
    await runtime.send(ref, Closed(id), message_id="close")
    return ref


async def purged(runtime, ref):
    view = await runtime.state(ref)
    return None if view is None else view.purged


def runtime_over(store, clock, *members, **settings):
    return Runtime(store, members or [Kept], Settings(**settings), clock=clock)


def test_who_has_ended_is_purged_in_its_time_and_forgotten_later(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock) as runtime:
            ref = await live(runtime)
            failed = runtime.ref(Kept, "failed")
            await runtime.send(failed, Added("failed", -1))
            running = runtime.ref(Kept, "running")
            await runtime.send(running, Opened("running"))
            await clock.advance(MONTH - timedelta(minutes=1))
            assert (await runtime.state(ref)).state == Sum(3)
            await clock.advance(timedelta(minutes=2))
            view = await runtime.state(ref)
            assert (view.purged, view.state, view.status) == (True, None, Status.COMPLETED)
            assert [one.correlation_id async for one in runtime.instances(Kept)] == [
                "failed", "running",
            ]  # fmt: skip
            await clock.advance(WEEK)
            assert await runtime.state(ref) is None
            assert await purged(runtime, failed) is False
            await clock.advance(MONTH)
            assert await purged(runtime, failed) is None
            assert await purged(runtime, running) is False
            assert await store.tombstones() == []
        sound(store)

    story()


def test_what_was_sent_before_is_known_as_long_as_the_tombstone_stays(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock) as runtime:
            ref = await live(runtime)
            await clock.advance(MONTH + timedelta(days=1))
            for _ in range(2):
                for message_id, content in (("add-1", Added("a", 1)), ("open", Opened("a"))):
                    again = await runtime.send(ref, content, message_id=message_id)
                    assert (again.outcome, again.duplicate) == (Outcome.FINISHED, True)
                    assert (again.sequence_nr, again.reply) == (None, None)
                new = await runtime.send(ref, Opened("a"))
                assert (new.outcome, new.duplicate) == (Outcome.FINISHED, False)
                assert await purged(runtime, ref)
        sound(store)
        async with runtime_over(reopened(store), clock) as runtime:
            ref = runtime.ref(Kept, "a")
            again = await runtime.send(ref, Closed("a"), message_id="close")
            assert (again.outcome, again.duplicate) == (Outcome.FINISHED, True)
            with pytest.raises(InstanceFinished):
                await runtime.cancel(ref)
            await clock.advance(WEEK)
            assert await purged(runtime, ref) is None
            first = await runtime.send(ref, Opened("a"), message_id="open")
            assert (first.outcome, first.sequence_nr) == (Outcome.APPLIED, 1)
        sound(store)

    story()


def test_what_is_not_kept_is_said_so(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock) as runtime:
            ref = await live(runtime)
            await clock.advance(MONTH + timedelta(days=1))
            for _ in range(2):
                with pytest.raises(InstancePurged, match="its history is not kept any more"):
                    [entry async for entry in runtime.history(ref)]
                with pytest.raises(InstancePurged, match="ended as completed"):
                    await runtime.result(ref)
                await runtime.send(ref, Opened("a"))
            nobody = runtime.ref(Kept, "nobody")
            assert [entry async for entry in runtime.history(nobody)] == []

    story()


def test_a_long_journal_goes_in_steps_and_what_a_stop_leaves_is_taken_up(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock, snapshot_every=40) as runtime:
            await live(runtime, count=330)
            await clock.advance(MONTH - timedelta(seconds=1))
        sizes = []
        for _ in range(8):
            again = reopened(store)
            async with runtime_over(again, clock, snapshot_every=40) as runtime:
                await clock.advance(timedelta(milliseconds=502))
                sizes.append(len(await again.journal("Kept/a")))
                sound(again)
        assert sizes[0] == 332
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 0
        assert any(0 < size < 332 for size in sizes), sizes

    story()


def test_those_that_are_deleted_at_once(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock, Deleted, ForEver) as runtime:
            refs = [await live(runtime, Deleted, f"d-{n}") for n in range(60)]
            kept = await live(runtime, ForEver)
            await clock.advance(timedelta(seconds=2))
            assert [await purged(runtime, ref) for ref in refs] == [True] * 60
            assert await purged(runtime, kept) is False
            [tally, _] = await store.tallies()
            assert (tally.started, tally.completed, tally.kept) == (60, 60, 0)
            await clock.advance(timedelta(hours=2))
            assert [await purged(runtime, ref) for ref in refs] == [None] * 60
        sound(store)

    story()


def test_nothing_is_asked_of_the_store_when_nothing_is_due(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        asked = ("find", "tombstones", "outbox")
        async with runtime_over(store, clock, ForEver) as runtime:
            before = Counter(store.calls)
            await live(runtime, ForEver)
            await clock.advance(timedelta(days=400))
            assert all(store.calls[name] == before[name] for name in asked)
        async with runtime_over(store, clock, Kept) as runtime:
            await live(runtime)
            await clock.advance(timedelta(hours=1))
            before = Counter(store.calls)
            await clock.advance(timedelta(days=20))
            assert all(store.calls[name] == before[name] for name in asked)

    story()


def test_who_is_quarantined_is_kept(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock, Aside) as runtime:
            ref = runtime.ref(Aside, "q")
            await runtime.send(ref, Opened("q"))
            held = await runtime.send(ref, Added("q", 13))
            assert held.outcome is Outcome.HELD
            await runtime.send(ref, Closed("q"))
            await clock.advance(3 * MONTH)
            assert await purged(runtime, ref) is False
            assert await store.tombstones() == []

    story()


def test_a_damaged_one_is_kept_for_repair(tmp_path):
    @quickly
    async def story():
        clock = SimulatedClock()
        url = f"sqlite+aiosqlite:///{tmp_path}/kept.db"
        async with runtime_over(url, clock) as runtime:
            await live(runtime)
        with closing(sqlite3.connect(tmp_path / "kept.db")) as connection:
            connection.execute("UPDATE journal SET message_id = 'x' WHERE sequence_nr = 2")
            connection.commit()
        async with runtime_over(url, clock) as runtime:
            await clock.advance(2 * MONTH)
            assert await runtime.store.tombstones() == []
            assert len(await runtime.store.heads()) == 1
            with pytest.raises(InstanceQuarantined):
                await runtime.state(runtime.ref(Kept, "a"))

    story()


def test_a_lost_tombstone_is_not_taken_for_nobody(tmp_path):
    @quickly
    async def story():
        clock = SimulatedClock()
        url = f"sqlite+aiosqlite:///{tmp_path}/kept.db"
        async with runtime_over(url, clock) as runtime:
            await live(runtime)
            await clock.advance(MONTH + timedelta(days=1))
        with closing(sqlite3.connect(tmp_path / "kept.db")) as connection:
            connection.execute("UPDATE snapshots SET body = x'00'")
            connection.commit()
        async with runtime_over(url, clock) as runtime:
            held = await runtime.send(runtime.ref(Kept, "a"), Opened("a"), message_id="open")
            assert held.outcome is Outcome.HELD

    story()


def test_jobs_of_an_instance_are_waited_for(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        queue = WorkQueue("work", retry=Fixed(600, max_attempts=None))
        attempts = []

        @queue.worker
        async def perform(command: Work) -> Added | None:
            attempts.append(command.id)
            if len(attempts) < 3:
                raise ConnectionError("later")
            return Added(command.id, 1)

        async with runtime_over(store, clock, Deleted, queue) as runtime:
            ref = runtime.ref(Deleted, "w")
            await runtime.send(ref, Added("w", 100))
            await clock.advance(timedelta(minutes=15))
            assert await purged(runtime, ref) is False
            assert await runtime.result(ref) == "worked"
            await clock.advance(timedelta(minutes=35))
            assert len(attempts) == 3
            assert await purged(runtime, ref)
        sound(store)

    story()


def test_a_dead_letter_of_who_was_purged_is_not_redriven(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock) as runtime:
            ref = runtime.ref(Kept, "a")
            with pytest.raises(HandlerFailed):
                await runtime.send(ref, Added("a", 13))
            with pytest.raises(HandlerFailed):
                await runtime.send(ref, Added("a", 13))
            await live(runtime)
            await clock.advance(MONTH + timedelta(days=1))
            letters = [letter async for letter in runtime.dead_letters.list()]
            assert len(letters) == 2
            with pytest.raises(InstanceFinished):
                await runtime.dead_letters.redrive(letters[0].id)
            assert await runtime.dead_letters.discard(letters[0].id)
        sound(store)

    story()


def test_whoever_has_dead_letters_is_known_until_they_are_gone(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        queue = WorkQueue("work")

        @queue.worker
        async def perform(command: Work) -> None:
            raise NonRetryable("broken")

        async with runtime_over(store, clock, Deleted, queue) as runtime:
            ref = runtime.ref(Deleted, "w")
            await runtime.send(ref, Added("w", 100))
            await clock.advance(timedelta(days=1))
            [letter] = [letter async for letter in runtime.dead_letters.list()]
            assert await purged(runtime, ref)
            sound(store)
            await runtime.dead_letters.discard(letter.id)
            await clock.advance(timedelta(hours=2))
            assert await purged(runtime, ref) is None
            assert await store.tombstones() == []
        sound(store)

    story()


def test_messages_that_come_while_it_is_purged_wait_for_that(store):
    @quickly
    async def story():
        clock = FreeClock()
        async with runtime_over(store, clock) as runtime:
            ref = await live(runtime)
            for _ in range(4):  # until it is known who is due next
                await clock.advance(timedelta(seconds=1))
                await runtime.settled()
            store.hold_writes()
            await clock.advance(MONTH + timedelta(seconds=1))
            await store.held()
            sent = [
                asyncio.create_task(runtime.send(ref, Added("a", 1), message_id=message_id))
                for message_id in ("add-1", "new", "add-1", "new")
            ]
            await rounds()
            assert not any(task.done() for task in sent)
            store.release()
            answers = [await task for task in sent]
            assert {answer.outcome for answer in answers} == {Outcome.FINISHED}
            assert [answer.duplicate for answer in answers] == [True, False, True, True]
            assert await purged(runtime, ref)
        sound(store)

    story()


def test_one_whose_purge_is_in_doubt_is_loaded_when_that_is_known(store):
    @quickly
    async def story():
        clock = SimulatedClock()
        async with runtime_over(store, clock) as runtime:
            ref = await live(runtime)
            await clock.advance(MONTH - timedelta(seconds=1))
            store.fail_writes(1, after_commit=True)
            await clock.advance(timedelta(minutes=1))
            assert await purged(runtime, ref)
            again = await runtime.send(ref, Added("a", 1), message_id="add-1")
            assert (again.outcome, again.duplicate) == (Outcome.FINISHED, True)
            assert parts(runtime).supervisor.purging.is_settled
        sound(store)

    story()
