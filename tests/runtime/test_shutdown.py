"""Stopping: what was accepted is finished or handed back, and the store is free again."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pykka
import pytest

from perdure import MemoryStore, Outcome, Runtime, Settings, SqlStore, errors
from perdure.runtime import running
from tests.runtime.support import (
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    quickly,
    reopened,
    rounds,
    until,
)
from tests.sagas import Added, Ledger


@quickly
async def test_stopping_finishes_what_was_accepted(store):
    runtime = Runtime(store, [Ledger])
    await runtime.start()
    ref = await open_ledger(runtime)
    tasks = adding(runtime, ref, *range(200))
    await rounds(3)
    await runtime.stop()
    receipts = await asyncio.gather(*tasks)
    assert {r.outcome for r in receipts} == {Outcome.APPLIED}
    async with ledgers(reopened(store)) as runtime:
        assert await items(runtime, runtime.ref(Ledger, "x")) == list(range(200))


@quickly
async def test_stopping_finishes_also_what_has_not_been_read_yet(store):
    runtime = Runtime(store, [Ledger])
    await runtime.start()
    ref = await open_ledger(runtime)
    ref.stop(block=False)
    tasks = adding(runtime, ref, 1, 2)
    await asyncio.sleep(0)
    await runtime.stop()
    assert {r.outcome for r in await asyncio.gather(*tasks)} == {Outcome.APPLIED}


@pytest.mark.parametrize("released", [False, True])
@quickly
async def test_what_cannot_be_finished_in_time_is_handed_back(memory, caplog, released):
    runtime = Runtime(memory, [Ledger], Settings(shutdown_timeout_s=0.02, mailbox_max=3))
    await runtime.start()
    ref = await open_ledger(runtime)
    memory.hold_writes()
    tasks = adding(runtime, ref, 1)
    await memory.held()
    tasks += adding(runtime, ref, 2, 3, 4, 5)
    asked = [ref.ask(Added("x", 6), block=False)]
    await rounds()
    stopping = asyncio.create_task(runtime.stop())
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.RuntimeNotRunning}
    with pytest.raises(errors.RuntimeNotRunning):
        await asked[0]
    caplog.clear()
    if released:
        memory.release()
    await stopping
    memory.release()
    await rounds()
    if released:
        assert [
            r for r in caplog.records if r.levelno >= logging.ERROR and "perdure" in r.name
        ] == []
    async with ledgers(memory) as runtime:
        ref = runtime.ref(Ledger, "x")
        for task_nr, n in enumerate((1, 2, 3, 4, 5)):
            await runtime.send(ref, Added("x", n), message_id=f"x-{n}")
            assert task_nr + 1 == len(await items(runtime, ref))
        assert await items(runtime, ref) == [1, 2, 3, 4, 5]


@quickly
async def test_stopping_twice_and_without_a_start(store):
    runtime = Runtime(store, [Ledger])
    await runtime.stop()
    await runtime.start()
    with pytest.raises(errors.RuntimeNotRunning, match="started before"):
        await runtime.start()
    await asyncio.gather(runtime.stop(), runtime.stop())
    await runtime.stop()
    with pytest.raises(errors.RuntimeNotRunning):
        await runtime.publish(Added("x", 1))
    assert pykka.ActorRegistry.get_all() == []


@quickly
async def test_an_error_inside_the_block_still_stops_the_runtime(store):
    async def failing() -> None:
        async with ledgers(store) as runtime:
            await open_ledger(runtime)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    async with ledgers(reopened(store)) as runtime:
        await add(runtime, runtime.ref(Ledger, "x"), 1)


@quickly
async def test_a_start_that_fails_leaves_the_store_to_others(store):
    store.fail_reads(operation="deadlines")
    runtime = Runtime(store, [Ledger])
    with pytest.raises(errors.StoreUnavailable):
        await runtime.start()
    assert pykka.ActorRegistry.get_all() == []
    async with ledgers(reopened(store)) as again:
        await open_ledger(again)


@quickly
async def test_a_second_runtime_is_refused_and_the_first_one_goes_on(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        second = Runtime(reopened(store), [Ledger])
        with pytest.raises(errors.StoreLocked):
            await second.start()
        if isinstance(store.inner, SqlStore):
            await add(runtime, ref, 1)


@quickly
async def test_senders_that_wait_for_room_are_told(memory):
    runtime = Runtime(memory, [Ledger], Settings(mailbox_max=1, shutdown_timeout_s=0.02))
    await runtime.start()
    ref = await open_ledger(runtime)
    memory.hold_writes()
    tasks = adding(runtime, ref, *range(10))
    await memory.held()
    asked: list = []
    thread = threading.Thread(target=lambda: asked.append(ref.ask(Added("x", 9), block=False)))
    thread.start()
    await asyncio.to_thread(thread.join)
    stopping = asyncio.create_task(runtime.stop())
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.RuntimeNotRunning}
    with pytest.raises(errors.RuntimeNotRunning):
        await asked[0]
    memory.release()
    await stopping


@quickly
async def test_a_thread_that_waits_for_room_is_told(memory):
    runtime = Runtime(
        memory, [Ledger], Settings(in_flight_max=1, shutdown_timeout_s=0.02, accept_timeout_s=60)
    )
    await runtime.start()
    ref = await open_ledger(runtime)
    memory.hold_writes()
    raised: list[BaseException] = []
    started = threading.Event()

    def flood() -> None:
        try:
            for n in range(10):
                ref.tell(Added("x", n))
                started.set()
        except (errors.RuntimeNotRunning, pykka.ActorDeadError) as error:
            raised.append(error)

    thread = threading.Thread(target=flood)
    thread.start()
    await asyncio.to_thread(started.wait)
    await memory.held()
    stopping = asyncio.create_task(runtime.stop())
    await asyncio.to_thread(thread.join)
    assert len(raised) == 1
    memory.release()
    await stopping


@quickly
async def test_a_pending_rehydration_does_not_hold_up_the_end(store):
    runtime = Runtime(store, [Ledger], Settings(shutdown_timeout_s=0.02))
    await runtime.start()
    ref = await open_ledger(runtime)
    ref.stop(block=False)
    store.hold_loads()
    tasks = adding(runtime, ref, 1, 2)
    await store.loads_held()
    await runtime.stop()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.RuntimeNotRunning}
    async with ledgers(reopened(store)) as runtime:
        assert await items(runtime, runtime.ref(Ledger, "x")) == []


@quickly
async def test_a_retry_that_waits_is_finished_or_told_when_stopping(store):
    runtime = Runtime(store, [Ledger], Settings(retry_pause_s=0.02))
    await runtime.start()
    ref = await open_ledger(runtime)
    store.fail_writes()
    (task,) = adding(runtime, ref, 1)
    await until(lambda: store.writes >= 2)
    await rounds(3)
    await runtime.stop()
    outcomes = await asyncio.gather(task, return_exceptions=True)
    async with ledgers(reopened(store)) as runtime:
        kept = await items(runtime, runtime.ref(Ledger, "x"))
        if isinstance(outcomes[0], errors.RuntimeNotRunning):
            assert "same message id" in str(outcomes[0])
            assert kept == []
        else:
            assert kept == [1]


@quickly
async def test_the_same_runtime_may_run_again(store):
    runtime = Runtime(store, [Ledger])
    for n in range(3):
        async with runtime:
            ref = await open_ledger(runtime)
            await add(runtime, ref, n)
            assert await items(runtime, ref) == list(range(n + 1))
    epochs = {row.epoch for row in await _rows(store)}
    assert epochs == {1, 2, 3}


async def _rows(store) -> Any:
    await store.inner.open()
    try:
        return await store.inner.journal("Ledger/x")
    finally:
        await store.inner.close()


@quickly
async def test_cancelling_a_sender_leaves_the_message_to_its_fate(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        store.hold_writes()
        tasks = adding(runtime, ref, 1, 2, 3)
        await store.held()
        tasks[0].cancel()
        tasks[2].cancel()
        store.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runtime.settled()
        assert await items(runtime, ref) == [1, 2, 3]
        (again,) = await asyncio.gather(*adding(runtime, ref, 3))
        assert again.duplicate


class SlowToClose(MemoryStore):
    """Closing it takes so many seconds of the loop's time, in which nothing else passes any."""

    has_closed = False

    def __init__(self, takes_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.takes_s = takes_s
        self.now_s = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now_s)

    async def close(self) -> None:
        self.now_s += self.takes_s
        await rounds()
        await super().close()
        self.has_closed = True


@quickly
async def test_a_short_time_to_stop_is_none_in_which_the_store_must_be_closed(caplog, monkeypatch):
    store = SlowToClose(0.05, monkeypatch)
    async with ledgers(store, shutdown_timeout_s=0.01):
        pass
    assert store.has_closed
    assert caplog.messages == []


@quickly
async def test_a_store_that_never_closes_is_left_and_said_to_be(caplog, monkeypatch):
    store = SlowToClose(running.GRACE_S + 0.01, monkeypatch)
    async with ledgers(store, shutdown_timeout_s=0.01):
        pass
    assert not store.has_closed
    assert caplog.messages == ["closing the store: it has not closed for 1 s"]
