"""Whatever goes wrong, also within, costs one message its turn at most, and its sender is told."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import threading
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from perdure import (
    Effects,
    Outcome,
    Park,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    errors,
    message,
    starts,
)
from perdure.codec.journal import JournalCodec
from perdure.core.commit import InboxReason, InboxRow, SnapshotRow
from perdure.core.correlation import VerdictKind
from perdure.core.saga import MissingPolicy
from perdure.runtime.instances.pending import Unattended
from perdure.store.lock import FileLock
from perdure.store.sql_write import write_entries
from tests.runtime.support import (
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    reopened,
    rounds,
)
from tests.sagas import Added, Ledger, LedgerState, Opened


@message(name="mistake-test.begun")
class Begun:
    id: str


def mistake(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("a mistake of ours")


# Parking


@pytest.mark.parametrize(
    "for_s", [math.inf, -math.inf, math.nan, 0, -1, 1e300, True, "1", timedelta(1)]
)
def test_no_time_to_park_for_is_refused_where_it_is_declared(for_s):
    with pytest.raises(errors.DefinitionError, match=r"Park.* seconds"):
        Park(for_s=for_s)


class Patient(Ledger):
    name = "Patient"
    on_missing: ClassVar[MissingPolicy] = Park(None)


@quickly
async def test_what_is_parked_without_a_limit_waits_for_ever(store, clock):
    async with Runtime(store, [Patient], clock=clock) as runtime:
        ref = runtime.ref(Patient, "x")
        assert (await runtime.send(ref, Added("x", 1))).outcome is Outcome.PARKED
        await clock.advance(timedelta(days=50_000))
        assert await store.inner.dead_letters() == []
        await runtime.send(ref, Opened("x"))
        await runtime.settled()
        assert await items(runtime, ref) == [1]


async def pass_in_steps(clock, seconds: int) -> None:
    """Nobody's answer is waited for, so the clock does not wait either: give the loop its turns."""
    for _ in range(10 * seconds):
        await clock.advance(timedelta(seconds=0.1))
        await rounds()


@quickly
async def test_a_parked_message_and_a_failing_store_make_few_writes(memory, clock):
    async with ledgers(memory, clock) as runtime:
        await open_ledger(runtime)
        waiting = runtime._message(Added("x", 2), "w-1", None, None, None)
        body = parts(runtime).services.journal.encode_waiting(waiting, VerdictKind.CONTINUE, False)
    await memory.inner.open()
    await memory.inner.write([InboxRow("Ledger/x", "w-1", InboxReason.MISSING, body, 0)])
    await memory.inner.close()
    memory.fail_writes(1_000_000)
    before = memory.writes, memory.calls["load"]
    async with ledgers(memory, clock) as runtime:
        await pass_in_steps(clock, 60)
        writes, loads = memory.writes - before[0], memory.calls["load"] - before[1]
        memory.heal()
        await pass_in_steps(clock, 10)
        assert 5 < writes < 50
        assert loads < 60
        assert await items(runtime, runtime.ref(Ledger, "x")) == [2]
        assert await memory.inner.inbox() == []


# Mistakes of ours


@quickly
async def test_a_mistake_while_parking_refuses_that_message_only(store, monkeypatch):
    async with ledgers(store) as runtime:
        ref = runtime.ref(Ledger, "x")
        with monkeypatch.context() as patched:
            patched.setattr(JournalCodec, "encode_waiting", mistake)
            with pytest.raises(errors.SendError, match="mistake of ours"):
                await runtime.send(ref, Added("x", 1))
        await open_ledger(runtime)
        await add(runtime, ref, 2)
        await runtime.settled()
        assert (await items(runtime, ref))[-1] == 2


@quickly
async def test_a_mistake_of_the_supervisor_refuses_that_message_only(store, monkeypatch):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        await runtime.send(ref, Added("x", 1), message_id="m")
        with monkeypatch.context() as patched:
            patched.setattr(parts(runtime).supervisor, "answer_from_journal", mistake)
            others = adding(runtime, ref, 2, 3)
            with pytest.raises(errors.SendError, match="mistake of ours"):
                await runtime.send(ref, Added("x", 1), message_id="m")
            receipts = await asyncio.gather(*others)
        assert [receipt.outcome for receipt in receipts] == [Outcome.APPLIED] * 2
        assert (await runtime.send(ref, Added("x", 1), message_id="m")).duplicate
        assert await items(runtime, ref) == [1, 2, 3]


# Told messages


@quickly
async def test_a_told_message_whose_instance_cannot_be_loaded_is_a_dead_letter(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        await runtime.settled()
        assert parts(runtime).supervisor.passivate(ref.key)
        store.fail_loads()
        ref.tell(Added("x", 1))
        await runtime.settled()
        await parts(runtime).services.commit.drained()
        [letter] = await store.inner.dead_letters()
        assert (letter.instance, letter.type) == ("Ledger/x", "runtime-test.added")
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [2]


@quickly
async def test_a_told_message_that_cannot_be_committed_is_a_dead_letter(store, clock):
    async with ledgers(store, clock, write_attempts=3) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(3)
        ref.tell(Added("x", 1))
        await clock.advance(timedelta(seconds=10))
        await parts(runtime).services.commit.drained()
        [letter] = await store.inner.dead_letters()
        assert (letter.instance, letter.reason) == ("Ledger/x", "StoreUnavailable")
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [2]


@quickly
async def test_telling_while_the_runtime_stops_raises(memory):
    runtime = Runtime(memory, [Ledger])
    await runtime.start()
    ref = runtime.ref(Ledger, "x")
    memory.hold_writes()
    opening = asyncio.create_task(runtime.send(ref, Opened("x")))
    await memory.held()
    stopping = asyncio.create_task(runtime.stop())
    await rounds()
    with pytest.raises(errors.RuntimeNotRunning):
        ref.tell(Added("x", 1))
    memory.release()
    await stopping
    assert (await opening).outcome is Outcome.APPLIED


@pytest.mark.parametrize("limit", ["mailbox_max", "in_flight_max"])
@quickly
async def test_nobody_overtakes_who_waits_for_room(store, limit):
    async with ledgers(store, **{limit: 2}) as runtime:
        ref = await open_ledger(runtime)
        others = adding(runtime, ref, 2, 3)  # 3 will have to wait for room
        await add(runtime, ref, 1, 4)
        await asyncio.gather(*others)
        assert await items(runtime, ref) == [1, 2, 3, 4]


# The writer


@quickly
async def test_the_writer_survives_a_cancelled_call_of_the_driver(store, clock):
    async with ledgers(store, clock) as runtime:
        ref = await open_ledger(runtime)
        aborted: Any = asyncio.CancelledError()
        store.fail_writes(error=aborted)
        [sending] = adding(runtime, ref, 1)
        await rounds()
        await open_ledger(runtime, "y")
        await clock.advance(timedelta(seconds=1))
        assert (await sending).outcome is Outcome.APPLIED
        assert await items(runtime, ref) == [1]


class Clumsy(Unattended):
    """Stumbles over whatever it is told."""

    written = left_out = unknown = mistake


@pytest.mark.parametrize("fails", [False, True])
@quickly
async def test_the_writer_survives_a_mistake_of_whom_it_tells(memory, clock, fails):
    async with ledgers(memory, clock) as runtime:
        ref = await open_ledger(runtime)
        if fails:
            memory.fail_writes()
        parts(runtime).services.commit.submit(Clumsy(SnapshotRow("Ledger/other", 1, b"")))
        [sending] = adding(runtime, ref, 1)
        await rounds()
        await clock.advance(timedelta(seconds=1))
        assert (await sending).outcome is Outcome.APPLIED
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [1, 2]


# Stopping


@quickly
async def test_stopping_finishes_also_what_pauses_before_a_retry(store, clock):
    runtime = Runtime(store, [Ledger], clock=clock)  # time stands still: no pause would end
    await runtime.start()
    ref = await open_ledger(runtime)
    store.fail_writes()
    [sending] = adding(runtime, ref, 1)
    await asyncio.sleep(0)
    await runtime.settled()
    assert not sending.done()
    await runtime.stop()
    assert (await sending).outcome is Outcome.APPLIED
    async with ledgers(reopened(store)) as again:
        assert await items(again, again.ref(Ledger, "x")) == [1]


async def give_back(opened: Any) -> None:
    """What a store that was left behind a stuck write could not give back."""
    for connection in (opened.reader, opened.writer):
        connection.give_back()
    await opened.driver.dispose()
    for connection in (opened.reader, opened.writer):
        connection.join()


@quickly
async def test_stopping_does_not_wait_for_ever_behind_a_stuck_write(tmp_path, monkeypatch):
    goes_on, is_stuck = threading.Event(), threading.Event()

    def stuck(*args):
        is_stuck.set()
        goes_on.wait(30)
        return write_entries(*args)

    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    store = SqlStore(url)
    runtime = Runtime(store, [Ledger], Settings(shutdown_timeout_s=0.02))
    await runtime.start()
    opened = store._open
    ref = await open_ledger(runtime)
    monkeypatch.setattr("perdure.store.sql.write_entries", stuck)
    [sending] = adding(runtime, ref, 1)
    try:
        await asyncio.to_thread(is_stuck.wait)
        async with asyncio.timeout(5):
            await runtime.stop()
        assert not goes_on.is_set()
        with pytest.raises(errors.RuntimeNotRunning):
            await sending
    finally:
        monkeypatch.undo()
        goes_on.set()
    await give_back(opened)
    async with ledgers(SqlStore(url)) as again:
        ref = again.ref(Ledger, "x")
        await asyncio.gather(*adding(again, ref, 1))
        assert await items(again, ref) == [1]


# The lock


def test_a_lock_is_taken_also_on_a_full_disk(tmp_path, monkeypatch):
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    lock, other = FileLock(tmp_path / "a.db"), FileLock(tmp_path / "a.db")
    lock.acquire()
    with pytest.raises(errors.StoreLocked):
        other.acquire()
    lock.release()
    other.acquire()
    other.release()


# Declarations


async def never(*args: Any) -> Any:
    return False


def test_a_coroutine_as_a_guard_is_refused():
    guard: Any = never
    with pytest.raises(errors.NotAPlainFunction, match="when="):

        class Guarded(ProcessManager[LedgerState]):
            @starts(Begun, by="id", when=guard)
            def begun(self, state: LedgerState, event: Begun, do: Effects) -> None: ...


def test_a_coroutine_as_a_key_is_refused():
    key: Any = never
    with pytest.raises(errors.NotAPlainFunction, match="by="):

        class Keyed(ProcessManager[LedgerState]):
            @starts(Begun, by=key)
            def begun(self, state: LedgerState, event: Begun, do: Effects) -> None: ...
