"""A message id is applied once; every copy gets the first one's answer."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure import Outcome, errors
from tests.runtime.support import (
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    quickly,
    reopened,
    rounds,
    view_of,
)
from tests.sagas import Added, Closed, Ledger, Struck


@quickly
async def test_fifty_copies_at_once_are_applied_once_and_answered_alike(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        receipts = await asyncio.gather(*adding(runtime, ref, *[1] * 50))
        assert sum(not r.duplicate for r in receipts) == 1
        assert {(r.outcome, r.sequence_nr, r.reply) for r in receipts} == {(Outcome.APPLIED, 2, 1)}
        assert await items(runtime, ref) == [1]


@quickly
async def test_a_copy_in_flight_waits_for_the_commit_of_the_first(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        store.hold_writes()
        tasks = adding(runtime, ref, 1, 2, 1, 2)
        await store.held()
        await rounds()
        assert not any(task.done() for task in tasks)
        store.release()
        assert [r.reply for r in await asyncio.gather(*tasks)] == [1, 2, 1, 2]


@pytest.mark.parametrize("snapshot_every", [1, 2, 100])
@quickly
async def test_copies_after_commit_passivation_restart_and_finish(store, snapshot_every):
    settings = {"snapshot_every": snapshot_every}
    expected = ("applied", 2, 1, True)

    async def copy(runtime) -> None:
        ref = runtime.ref(Ledger, "x")
        r = await runtime.send(ref, Added("x", 1), message_id="m")
        assert (str(r.outcome), r.sequence_nr, r.reply, r.duplicate) == expected

    async with ledgers(store, **settings) as runtime:
        ref = await open_ledger(runtime)
        first = await runtime.send(ref, Added("x", 1), message_id="m")
        assert (first.reply, first.duplicate) == (1, False)
        await copy(runtime)
        ref.stop(block=False)
        await copy(runtime)
        await add(runtime, ref, 2)
    again = reopened(store)
    async with ledgers(again, **settings) as runtime:
        await copy(runtime)
        closed = await runtime.send(ref, Closed("x"), message_id="end")
        await copy(runtime)
        runtime.ref(Ledger, "x").stop(block=False)
        await copy(runtime)
        repeated = await runtime.send(ref, Closed("x"), message_id="end")
        assert (repeated.outcome, repeated.reply) == (Outcome.APPLIED, closed.reply)
        assert await items(runtime, ref) == [1, 2]
        assert (await view_of(runtime, ref)).sequence_nr == 4


@quickly
async def test_only_the_last_ids_are_known(store):
    async with ledgers(store, processed_window=3, snapshot_every=2) as runtime:
        ref = await open_ledger(runtime)
        for n in range(10):
            await runtime.send(ref, Added("x", n), message_id=f"m-{n}")
            if n % 3 == 0:
                ref.stop(block=False)
        for n in (7, 8, 9):
            assert (await runtime.send(ref, Added("x", n), message_id=f"m-{n}")).duplicate
        assert not (await runtime.send(ref, Added("x", 0), message_id="m-0")).duplicate


@quickly
async def test_what_is_in_flight_does_not_push_committed_ids_out_of_the_window(memory):
    async with ledgers(
        memory, processed_window=2, snapshot_every=1, batch_max=1,
        retry_pause_s=0.001, write_attempts=1,
    ) as runtime:  # fmt: skip
        ref = await open_ledger(runtime)
        memory.hold_writes()
        tasks = adding(runtime, ref, *range(1, 7))
        await memory.held()
        memory.let_through()
        await tasks[0]  # its snapshot is made while the other five are under way
        await memory.held()
        memory.fail_writes()
        memory.release()
        outcomes = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {errors.StoreUnavailable}
        again = await runtime.send(ref, Added("x", 1), message_id="x-1")
        assert again.duplicate
        assert await items(runtime, ref) == [1]


@pytest.mark.parametrize("written", [False, True], ids=["before", "after the commit"])
@quickly
async def test_copies_over_a_failed_write_are_applied_once(store, written):
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(after_commit=written)
        receipts = await asyncio.gather(*adding(runtime, ref, 1, 1, 2, 1))
        assert [r.reply for r in receipts] == [1, 1, 2, 1]
        assert await items(runtime, ref) == [1, 2]


@quickly
async def test_a_message_that_failed_may_come_again(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        for _ in range(2):
            with pytest.raises(errors.HandlerFailed):
                await runtime.send(ref, Struck("x", "error"), message_id="m")
        receipt = await runtime.send(ref, Added("x", 1), message_id="m")  # mended meanwhile
        assert (receipt.outcome, receipt.duplicate) == (Outcome.APPLIED, False)
        assert len(await store.inner.dead_letters()) == 2


@quickly
async def test_a_copy_is_answered_with_an_error_while_its_record_cannot_be_read(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        await runtime.send(ref, Added("x", 1), message_id="m")
        store.fail_reads(operation="journal")
        with pytest.raises(errors.StoreUnavailable):
            await runtime.send(ref, Added("x", 1), message_id="m")
        assert (await runtime.send(ref, Added("x", 1), message_id="m")).duplicate


@quickly
async def test_copies_from_threads_and_coroutines_together(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        futures: list = []

        def tell() -> None:
            futures.extend(ref.ask(Added("x", n), block=False) for n in range(2, 52))

        thread = threading.Thread(target=tell)
        thread.start()
        copies = await asyncio.gather(*adding(runtime, ref, *[1] * 50))
        await asyncio.to_thread(thread.join)
        assert len({copy.sequence_nr for copy in copies}) == 1
        assert len({await future for future in futures}) == 50
        assert sorted(await items(runtime, ref)) == list(range(1, 52))
