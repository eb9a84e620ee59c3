"""The memory store passes the contract of stores."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure.core.commit import Entry
from perdure.errors import StoreError
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.testing.sample_rows import jobs, outbox_row, queue_row, settlement
from perdure.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, tmp_path: Path) -> Store:
        return MemoryStore()

    def reopen(self, store: Store, tmp_path: Path) -> Store:
        return store


@pytest.mark.parametrize("position", [0, -1, 4])
def test_a_position_that_cannot_be_fails_the_group(position):
    async def scenario() -> None:
        store = MemoryStore()
        await store.open()
        taken = outbox_row("", 0, position=4)
        await store.write([settlement(outbox=(taken,))])
        group: list[Entry] = [
            queue_row("q"),
            settlement(outbox=(outbox_row("", 0, position=position),)),
        ]
        with pytest.raises(StoreError) as caught:
            await store.write(group)
        assert caught.value.remedy
        with pytest.raises(StoreError, match="two outbox rows"):
            await store.write([queue_row("q"), settlement(outbox=jobs(2, position=9))])
        assert not await store.queues()
        assert await store.outbox() == [taken]

    asyncio.run(scenario())
