"""The faulty store passes every call on, and fails or holds those it was told to."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest

from perdure.core.head_query import HeadQuery
from perdure.errors import StoreUnavailable
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.testing.faults import FaultyStore, Read
from perdure.testing.sample_rows import jobs, queue_row, settlement
from perdure.testing.store_contract import StoreContract

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "load": (["Order/1"],),
    "journal": ("Order/1",),
    "snapshots": ("Order/1",),
    "jobs_ready": ("payments", 5),
    "jobs_at": ([1],),
    "jobs_after": (1,),
    "inbox_sizes": (["Order/1"],),
    "rows_of": ("Order/1",),
    "find": (HeadQuery("Order"),),
    "count": (HeadQuery("Order"),),
}


class TestFaultyStoreWithoutFaults(StoreContract):
    def make_store(self, tmp_path):
        return FaultyStore(MemoryStore())

    def reopen(self, store, tmp_path):
        return store


def test_every_read_of_a_store_can_be_told_to_fail():
    operations = {name for name in vars(Store) if not name.startswith("_")}
    assert set(get_args(Read)) == operations - {"open", "close", "write", "name"}


@pytest.mark.parametrize("operation", get_args(Read))
def test_a_read_fails_as_often_as_told_and_is_counted(operation):
    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        await store.open()
        read = getattr(store, operation)
        arguments = ARGUMENTS.get(operation, ())
        store.fail_reads(operation=operation)
        with pytest.raises(StoreUnavailable):
            await read(*arguments)
        await read(*arguments)
        assert store.calls[operation] == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("operation", [name for name in get_args(Read) if name != "load"])
def test_the_answer_of_a_read_can_be_held(operation):
    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        await store.open()
        store.hold_reads()
        reading = asyncio.create_task(getattr(store, operation)(*ARGUMENTS.get(operation, ())))
        await store.reads_held()
        assert not reading.done()
        store.release()
        await reading

    asyncio.run(scenario())


def test_writes_that_are_about_nobody_can_fail_too():
    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        await store.open()
        store.fail_writes(instance="")
        await store.write([settlement("Order/1", outbox=jobs(1))])
        with pytest.raises(StoreUnavailable):
            await store.write([queue_row("payments")])
        assert not await store.queues()
        assert store.instances_written == {"Order/1": 1}

    asyncio.run(scenario())
