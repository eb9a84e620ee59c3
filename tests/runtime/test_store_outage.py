"""The store fails, hangs, is slow, full, locked or dead: nothing is lost, and it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
import threading
from datetime import timedelta
from typing import Any

import pytest

from perdure import Outcome, Runtime, SqlStore
from perdure.errors import MailboxFull, PerdureError, SendError, StoreError, StoreUnavailable
from perdure.store import sqlite_connection
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import Asked, Done, desk, errands, queue_of
from tests.runtime.support import (
    add,
    adding,
    in_loop,
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    rounds,
    until,
)
from tests.sagas import Added, Alarm, Armed, Ledger
from tests.store.databases import on_writer

FOR_EVER = 1_000_000
FAT = {f"h{n}": "x" * 400 for n in range(30)}


async def told(task: asyncio.Task[Any]) -> Any:
    await asyncio.wait([task])
    return task.exception() or task.result()


@quickly
async def test_an_outage_refuses_senders_loses_nothing_and_ends_by_itself(store):
    async with ledgers(store, retry_pause_s=0.002) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, 1)
        store.fail_writes(FOR_EVER)
        store.fail_reads(FOR_EVER)
        outcomes = [await told(task) for task in adding(runtime, ref, 2, 3, 4)]
        assert all(isinstance(outcome, (StoreError, SendError)) for outcome in outcomes)
        assert all(outcome.remedy for outcome in outcomes)
        assert parts(runtime).supervisor.admission.accepted == 0
        store.heal()
        await asyncio.gather(*adding(runtime, ref, 2, 3, 4))  # under the same ids
        assert await items(runtime, ref) == [1, 2, 3, 4]


@quickly
async def test_deadlines_and_jobs_of_an_outage_are_made_up_for(store, clock):
    done: list[str] = []

    def deed(command: Any, job: Any) -> Done:
        done.append(command.id)
        return Done(command.id)

    async with errands(desk(do=deed), queue_of(), store=store, clock=clock) as runtime:
        store.fail_writes()
        asking = asyncio.create_task(runtime.publish(Asked("e-1")))
        await rounds()
        store.fail_writes(5)
        store.fail_reads(5)
        for _ in range(40):
            await clock.advance(timedelta(seconds=1))
            await rounds()
        store.heal()
        if isinstance(await told(asking), PerdureError):
            await runtime.publish(Asked("e-1"))
        await clock.advance(timedelta(seconds=60))
        await until(lambda: "e-1" in done)


@quickly
async def test_a_deadline_due_in_an_outage_fires_when_it_is_over(store, clock):
    async with Runtime(store, [Alarm], clock=clock) as runtime:
        await runtime.publish(Armed("a-1", "a", 10))
        store.fail_writes(FOR_EVER)
        store.fail_reads(FOR_EVER)
        await clock.advance(timedelta(seconds=20))
        store.heal()
        await clock.advance(timedelta(seconds=20))
        view = await runtime.state(runtime.ref(Alarm, "a-1"))
        assert view is not None
        assert view.state.heard == ("a",)


@quickly
async def test_messages_told_in_an_outage_are_bounded_and_none_is_lost(store, clock):
    async with ledgers(store, clock, mailbox_max=5) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(FOR_EVER)
        accepted = refused = 0
        for n in range(30):
            try:
                ref.tell(Added("x", n))
                accepted += 1
            except MailboxFull:
                refused += 1
            await clock.advance(timedelta(seconds=5))
        assert (accepted, refused) == (5, 25)
        store.heal()
        await clock.advance(timedelta(seconds=10))
        dead, applied = await store.inner.dead_letters(), await items(runtime, ref)
        assert len(dead) > 0
        assert len(dead) + len(applied) == accepted  # some had attempts left when it was over
        await add(runtime, ref, 7)
        assert await items(runtime, ref) == [*applied, 7]


@quickly
async def test_a_message_told_just_before_the_end_in_an_outage_is_named(memory, clock, caplog):
    async with ledgers(memory, clock, shutdown_timeout_s=0.05) as runtime:
        ref = await open_ledger(runtime)
        memory.fail_writes(FOR_EVER)
        ref.tell(Added("x", 1))
        await clock.advance(timedelta(seconds=5))
    assert "not even its dead letter could be kept" in caplog.text


@quickly
async def test_a_store_that_hangs_fills_the_mailbox_and_no_more(memory):
    async with ledgers(memory, mailbox_max=10, accept_timeout_s=0.05) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        tasks = adding(runtime, ref, *range(50))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        await until(lambda: sum(task.done() for task in tasks) == 40)
        memory.release()
        outcomes = [await told(task) for task in tasks]
        assert [type(o) for o in outcomes[10:]] == [MailboxFull] * 40
        assert await items(runtime, ref) == list(range(10))


@in_loop(20)
async def test_a_slow_store_holds_up_nobodys_lease(memory):
    """Each write takes 50 ms; jobs go on, none is taken from its worker."""
    write = memory.write

    async def slow(entries: Any) -> Any:
        await asyncio.sleep(0.05)
        return await write(entries)

    memory.write = slow
    where = desk(do=lambda command, job: Done(command.id))
    async with errands(where, queue_of(lease_s=1), store=memory) as runtime:
        await asyncio.gather(*(runtime.publish(Asked(f"e-{n}")) for n in range(100)))
        await runtime.settled()
        assert [job.attempt for job in where.jobs] == [1] * 100
    assert memory.writes < 40  # they share the transactions


# SQLite


def file_store(tmp_path: Any) -> SqlStore:
    return SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db", synchronous="NORMAL")


def set_pragma(connection: sqlite3.Connection, text: str) -> None:
    connection.execute(f"PRAGMA {text}").fetchall()


@quickly
async def test_a_full_disk_refuses_and_goes_on_by_itself(tmp_path):
    store = file_store(tmp_path)
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        await on_writer(store, set_pragma, "max_page_count=60")
        acked, refused = list[int](), list[PerdureError]()
        for n in range(0, 4000, 2):
            try:
                await runtime.send(ref, Added("x", n), headers=FAT)
            except PerdureError as error:
                refused.append(error)
                if len(refused) == 2:
                    break
            else:
                acked.append(n)
        assert acked
        assert all("full" in str(error) and error.remedy for error in refused)
        assert await items(runtime, ref) == acked  # it can be read
        await on_writer(store, set_pragma, "max_page_count=1000000")
        await add(runtime, ref, 9999)
        assert await items(runtime, ref) == [*acked, 9999]


@pytest.mark.parametrize("outlasts", [False, True])
@in_loop(20)
async def test_a_file_that_somebody_else_holds_locked(tmp_path, outlasts):
    store = file_store(tmp_path)
    async with ledgers(store, retry_pause_s=0.001, write_attempts=2) as runtime:
        ref = await open_ledger(runtime)
        await on_writer(store, set_pragma, "busy_timeout=200" if outlasts else "busy_timeout=9000")
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        [sending] = adding(runtime, ref, 1)
        ticks = 0
        while not sending.done() and ticks < 20:  # the loop goes on meanwhile
            await asyncio.sleep(0.01)
            ticks += 1
        if outlasts:
            outcome = await told(sending)
            assert isinstance(outcome, StoreUnavailable)
            assert "locked" in str(outcome)
        assert ticks >= 10
        other.execute("ROLLBACK")
        other.close()
        if outlasts:
            [sending] = adding(runtime, ref, 1)
        assert (await sending).outcome is Outcome.APPLIED
        assert await items(runtime, ref) == [1]


@quickly
async def test_a_failed_sync_is_the_end_and_said_so(tmp_path, monkeypatch, caplog):
    def failing(*args: Any) -> Any:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    store = file_store(tmp_path)
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, 1)
        with monkeypatch.context() as patched:
            patched.setattr("perdure.store.sql.write_entries", failing)
            [sending] = adding(runtime, ref, 2)
            assert isinstance(await told(sending), StoreUnavailable)
        [sending] = adding(runtime, ref, 3)  # the disk seems to be well again
        assert isinstance(await told(sending), StoreUnavailable)
        assert await items(runtime, ref) == [1]
    critical = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
    assert len(critical) == 1
    assert "nothing more is written before the store is opened again" in critical[0]
    async with ledgers(file_store(tmp_path)) as again:
        await add(again, again.ref(Ledger, "x"), 4)
        assert await items(again, again.ref(Ledger, "x")) == [1, 4]


async def sent_until_applied(runtime: Runtime, ref: Any) -> None:
    while True:
        with contextlib.suppress(StoreError, SendError):
            await runtime.send(ref, Added("x", 2), message_id="m-2")
            return


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("which", ["writer", "reader"])
@pytest.mark.parametrize("when", ["idle", "under way"])
@in_loop(20)
async def test_a_connection_whose_thread_dies_is_replaced(tmp_path, monkeypatch, which, when):
    monkeypatch.setattr(sqlite_connection, "LOOK_S", 0.02)
    store = file_store(tmp_path)
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, 1)
        ref.stop(block=False)
        connection = getattr(store._open, which)
        thread = sqlite_connection._thread_of(connection._driver)
        gate = threading.Event()
        holding = asyncio.create_task(connection.run(lambda _: gate.wait()))
        await rounds(3)
        connection._driver._tx.put_nowait(("no", "such", "call"))  # it cannot take this apart
        sending = asyncio.create_task(sent_until_applied(runtime, ref))
        if when == "idle":
            sending.cancel()
        else:
            await rounds(20)
        gate.set()
        await holding
        if when == "idle":
            thread.join()
            sending = asyncio.create_task(sent_until_applied(runtime, ref))
        await sending
        assert not thread.is_alive()
        await add(runtime, ref, 3)
        assert await items(runtime, ref) == [1, 2, 3]
        assert getattr(store._open, which) is not connection


# Cancellations


@pytest.mark.parametrize("seed", range(3))
@in_loop(20)
async def test_a_storm_of_cancellations_leaves_every_outcome_settled(store, seed):
    chance = random.Random(seed)
    async with ledgers(store, mailbox_max=40, retry_pause_s=0.001) as runtime:
        refs = [await open_ledger(runtime, f"l-{n}") for n in range(3)]
        tasks = [task for n in range(100) for ref in refs for task in adding(runtime, ref, 2 * n)]
        store.fail_writes(2, after_commit=True)
        victims = chance.sample(tasks, 150)
        for task in victims:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await runtime.settled()
        kept = {ref.correlation_id: await items(runtime, ref) for ref in refs}
        acked = 0
        for place, outcome in enumerate(outcomes):
            ref, number = refs[place % 3], 2 * (place // 3)
            assert kept[ref.correlation_id].count(number) <= 1
            if not isinstance(outcome, BaseException):
                acked += 1
                assert number in kept[ref.correlation_id]
        assert acked > 50
        assert parts(runtime).supervisor.admission.accepted == 0
        for ref in refs:  # repeated under their ids, all are there once
            await asyncio.gather(*adding(runtime, ref, *(2 * n for n in range(30))))
            assert sorted(await items(runtime, ref))[:30] == [2 * n for n in range(30)]


# Time that stands still


@quickly
async def test_settling_does_not_wait_for_what_waits_for_time(store, clock):
    """A claim whose write fails waits for a pause: time has to pass before it goes on."""
    where = desk(do=lambda command, job: Done(command.id))
    once = queue_of(write_first=True)
    async with errands(where, once, store=store, clock=clock) as runtime:
        fails_the_claim(store)
        await runtime.publish(Asked("e-1"))
        await clock.settle()
        assert where.jobs == []
        await clock.advance(timedelta(seconds=10))
        assert [job.attempt for job in where.jobs] == [1]


def fails_the_claim(store: FaultyStore) -> None:
    write, is_first = store.inner.write, True

    async def failing(entries: Any) -> Any:
        nonlocal is_first
        if is_first and type(entries[0]).__name__ == "OutboxRow":
            is_first = False
            raise StoreUnavailable("not now")
        return await write(entries)

    store.inner.write = failing  # type: ignore[method-assign]


@quickly
async def test_stopping_does_not_wait_for_what_waits_for_time(store):
    clock = SimulatedClock()
    where = desk(do=lambda command, job: Done(command.id))
    async with errands(where, queue_of(write_first=True), store=store, clock=clock) as runtime:
        fails_the_claim(store)
        await runtime.publish(Asked("e-1"))
        await clock.settle()
    assert where.jobs == []  # the next runtime does it
