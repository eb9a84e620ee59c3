"""The conformance suite's part about reading: page by page, and instance by instance.

Not meant to be derived from directly; see ``store_contract.py``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from perdure.core.commit import Status
from perdure.store.protocol import Store
from perdure.testing.sample_rows import (
    HOSTILE,
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    queue_row,
    settlement,
    snapshot,
    turn,
    turns,
)
from perdure.testing.store_contract_frame import ContractFrame, StoreSource, with_store

__all__ = ["ReadContract"]


class ReadContract(ContractFrame):
    """What comes back from a store."""

    # -- instances whole

    @with_store
    async def test_load_is_snapshot_tail_and_inbox(self, store: Store, epoch: int) -> None:
        await store.write(turns("Order/1", 1, 7, epoch))
        await store.write([snapshot("Order/1", 3, b"three"), snapshot("Order/1", 5, b"five")])
        await store.write([inbox_row("Order/1", "z"), inbox_row("Order/1", "a")])
        [loaded] = await store.load(["Order/1"])
        assert loaded.snapshot == snapshot("Order/1", 5, b"five")
        assert [row.sequence_nr for row in loaded.turns] == [6, 7]
        assert [row.message_id for row in loaded.inbox] == ["z", "a"]
        assert not loaded.has_more
        assert loaded.corrupt is None

    @with_store
    async def test_the_newest_snapshot_counts(self, store: Store, epoch: int) -> None:
        await store.write(turns("Order/1", 1, 9, epoch))
        await store.write([snapshot("Order/1", number) for number in (2, 9, 4)])
        await store.write([snapshot("Order/1", 3), snapshot("Order/1", 9, b"replaced")])
        [loaded] = await store.load(["Order/1"])
        assert loaded.snapshot == snapshot("Order/1", 9, b"replaced")
        assert not loaded.turns

    @with_store
    async def test_load_answers_in_the_order_asked(self, store: Store, epoch: int) -> None:
        names = [f"Order/{number}" for number in range(250)]
        await store.write([turn(name, 1, epoch) for name in names])
        await store.write([snapshot(name, 1) for name in names[::2]])
        asked = [*reversed(names), "Order/unknown", names[0]]
        loaded = await store.load(asked)
        assert [found.instance for found in loaded] == asked
        assert loaded[-2].snapshot is None
        assert not loaded[-2].turns
        for found in loaded[:250]:
            assert (found.snapshot is None) == bool(found.turns)
        assert list(await store.load([])) == []

    @with_store
    async def test_a_long_tail_is_read_on(self, store: Store, epoch: int) -> None:
        await store.write(turns("Order/1", 1, 2500, epoch))
        await store.write([snapshot("Order/1", 100), turn("Order/2", 1, epoch)])
        long, short = await store.load(["Order/1", "Order/2"])
        assert long.has_more
        assert not short.has_more
        numbers = [row.sequence_nr for row in long.turns]
        while page := await store.journal("Order/1", after=numbers[-1]):
            assert len(page) <= 1000
            numbers += [row.sequence_nr for row in page]
        assert numbers == [*range(101, 2501)]

    @with_store
    async def test_a_page_that_just_fits(self, store: Store, epoch: int) -> None:
        await store.write(turns("Order/1", 1, 1000, epoch))
        [loaded] = await store.load(["Order/1"])
        assert (len(loaded.turns), loaded.has_more) == (1000, False)

    # -- pages

    @with_store
    async def test_journal_pages(self, store: Store, epoch: int) -> None:
        await store.write([*turns("Order/1", 1, 10, epoch), turn("Order/10", 1, epoch)])
        assert [row.sequence_nr for row in await store.journal("Order/1", 3, 4)] == [4, 5, 6, 7]
        assert not await store.journal("Order/1", 10)
        assert not await store.journal("Order/none")

    @with_store
    async def test_heads_pages_and_filters(self, store: Store, epoch: int) -> None:
        wanted = [
            head(f"{saga}/{number:02}", list(Status)[number % 3])
            for saga in ("Order", "Trip")
            for number in range(20)
        ]
        await store.write([turn(row.instance, 1, epoch, head=row) for row in reversed(wanted)])
        for saga in (None, "Order", "Trip", "None"):
            for status in (None, *Status):
                found = []
                after = ""
                while page := await store.heads(saga, status, after, limit=3):
                    found += page
                    after = page[-1].instance
                assert found == [
                    row
                    for row in wanted
                    if saga in (None, row.saga) and status in (None, row.status)
                ]

    @with_store
    async def test_deadlines_pages(self, store: Store, epoch: int) -> None:
        rows = [
            deadline(f"Order/{number % 4}", f"d{number}", 1, 100 * (number % 3))
            for number in range(24)
        ]
        group = [turn(f"Order/{n}", 1, epoch, deadlines_set=tuple(rows[n::4])) for n in range(4)]
        await store.write(group)
        found = await store.deadlines(limit=5)
        while page := await store.deadlines(
            (found[-1].due_at_ms, found[-1].instance, found[-1].name), limit=5
        ):
            found += page
        assert found == sorted(rows, key=lambda row: (row.due_at_ms, row.instance, row.name))

    @with_store
    async def test_positions_order_everything_that_waits(self, store: Store, epoch: int) -> None:
        names = [f"{number:02}" for number in (7, 3, 9, 1, 5, 11, 2)]
        for name in names:
            await store.write(
                [
                    turn(f"Order/{name}", 1, epoch, outbox=(outbox_row(f"Order/{name}", 1),)),
                    inbox_row("Order/x", name),
                    dead_letter("Order/x", name),
                ]
            )
        for read in (store.outbox, store.inbox, store.dead_letters):
            rows: list[Any] = await read(0, 3)
            while page := await read(rows[-1].position, 3):
                rows += page
            assert [row.instance[-2:] if read == store.outbox else row.message_id for row in rows]
            positions = [row.position for row in rows]
            assert positions == sorted(set(positions))
            assert min(positions) > 0
            keys = [getattr(row, "message_id", row.instance[-2:]) for row in rows]
            assert keys == names

    @with_store
    async def test_commands_of_a_turn_keep_their_order(self, store: Store, epoch: int) -> None:
        rows = tuple(outbox_row("Order/1", 1, index) for index in range(12))
        await store.write([turn("Order/1", 1, epoch, outbox=rows)])
        assert [row.id for row in await store.outbox()] == [row.id for row in rows]

    # -- anything can be stored

    @with_store
    async def test_hostile_strings_come_back(self, store: Store, epoch: int) -> None:
        await store.write(
            [
                turn(
                    key,
                    1,
                    epoch,
                    outbox=(outbox_row(key, 1, target=key, type=key),),
                    deadlines_set=(deadline(key, key, 1, 5),),
                    head=head(key),
                )
                for key in HOSTILE
            ]
        )
        await store.write([inbox_row(key, key) for key in HOSTILE])
        letters = [dead_letter(key, key, type=key, reason=key, error=key) for key in HOSTILE]
        await store.write(letters)
        for loaded, key in zip(await store.load(HOSTILE), HOSTILE, strict=True):
            assert loaded.turns == [turn(key, 1, epoch).row]
            assert [row.message_id for row in loaded.inbox] == [key]
            assert loaded.corrupt is None
        assert [(row.instance, row.target, row.type) for row in await store.outbox()] == [
            (key, key, key) for key in HOSTILE
        ]
        assert {row.instance for row in await store.heads()} == set(HOSTILE)
        assert {row.name for row in await store.deadlines()} == set(HOSTILE)
        assert [replace(row, position=0) for row in await store.dead_letters()] == letters

    @with_store
    async def test_bodies_of_any_size_and_byte(self, store: Store, epoch: int) -> None:
        bodies = [b"", b"\x00", bytes(range(256)) * 3, b"\xff\xfe" * 9, b"ab\x00\x01" * 1_250_000]
        group = [turn("Order/1", number + 1, epoch) for number in range(len(bodies))]
        for entry, body in zip(group, bodies, strict=True):
            entry.row.body = body
        await store.write([*group, snapshot("Order/2", 0, bodies[-1])])
        one, two = await store.load(["Order/1", "Order/2"])
        assert [row.body for row in one.turns] == bodies
        assert two.snapshot is not None
        assert two.snapshot.body == bodies[-1]

    # -- beside writes, and later

    @with_store
    async def test_reads_beside_writes_see_whole_turns(self, store: Store, epoch: int) -> None:
        async def write() -> None:
            for number in range(1, 51):
                row = outbox_row("Order/1", number)
                await store.write([turn("Order/1", number, epoch, outbox=(row,))])

        async def read() -> None:
            seen = 0
            while seen < 50:
                [loaded] = await store.load(["Order/1"])
                assert [row.sequence_nr for row in loaded.turns] == [
                    *range(1, len(loaded.turns) + 1)
                ]
                assert len(loaded.turns) >= seen
                assert len(await store.outbox()) >= len(loaded.turns)
                seen = len(loaded.turns)
                await asyncio.sleep(0)

        await asyncio.gather(write(), read(), read())

    def test_everything_is_there_after_reopening(self, tmp_path: Path) -> None:
        async def everything(store: Store) -> list[Any]:
            found: list[Any] = list(await store.load(["Order/1"]))
            for read in (store.heads, store.deadlines, store.inbox, store.outbox, store.queues):
                found += await read()
            return [*found, *await store.dead_letters()]

        async def scenario(source: StoreSource) -> None:
            store, epoch = await source.opened()
            armed = (deadline("Order/1", "pay", 1, 9),)
            row = outbox_row("Order/1", 1)
            opening = turn(
                "Order/1", 1, epoch, outbox=(row,), deadlines_set=armed, head=head("Order/1")
            )
            await store.write([opening, *turns("Order/1", 2, 5, epoch), snapshot("Order/1", 2)])
            await store.write([inbox_row("Order/1", "w"), dead_letter("Order/1", "d")])
            own = outbox_row("", 0, given_id="own", attempts=3, due_at_ms=9, after=7, leads=True)
            own.expires_at_ms = 11
            await store.write([settlement(outbox=(own,)), queue_row("payments")])
            before = await everything(store)
            assert len(before) == 8
            for later in (1, 2):
                store, reopened_epoch = await source.reopened()
                assert reopened_epoch == epoch + later
                assert await everything(store) == before

        self.run(tmp_path, scenario)
