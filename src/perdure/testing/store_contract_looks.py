"""The conformance suite's part about what is there for whoever looks: one instance, and retries.

Not meant to be derived from directly; see ``store_contract.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perdure.store.protocol import InstanceRows, Store
from perdure.testing.sample_rows import (
    HOSTILE,
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    quarantine_row,
    settlement,
    snapshot,
    turn,
    turns,
)
from perdure.testing.store_contract_frame import ContractFrame, with_store

__all__ = ["LookContract"]


class LookContract(ContractFrame):
    """What concerns one instance comes back whole, and nobody else's."""

    @with_store
    async def test_all_that_concerns_an_instance(self, store: Store, epoch: int) -> None:
        for name in ("Order/1", "Order/10", "Order/"):
            await store.write(turns(name, 1, 3, epoch))
        last = turn(
            "Order/1",
            4,
            epoch,
            outbox=(outbox_row("Order/1", 4, 0), outbox_row("Order/1", 4, 1, target="mail")),
            deadlines_set=(deadline("Order/1", "b", 4, 500), deadline("Order/1", "a", 4, 900)),
            head=head("Order/1"),
        )
        other = turn("Order/10", 4, epoch, outbox=(outbox_row("Order/10", 4),))
        await store.write([last, other, snapshot("Order/1", 2), snapshot("Order/1", 3)])
        await store.write([inbox_row("Order/1", "z"), inbox_row("Order/1", "a")])
        await store.write([dead_letter("Order/1", "d-1"), dead_letter("Order/10", "d-2")])
        await store.write([settlement("Order/1", quarantine=quarantine_row("Order/1"))])
        rows = await store.rows_of("Order/1")
        assert rows.head == last.head
        assert rows.newest_nr == 4
        assert rows.snapshots == [snapshot("Order/1", 3), snapshot("Order/1", 2)]
        assert rows.deadlines == list(last.deadlines_set)
        assert [row.message_id for row in rows.inbox] == ["z", "a"]
        assert rows.waiting == 2
        assert rows.jobs == list(last.outbox)
        assert [row.message_id for row in rows.dead_letters] == ["d-1"]
        assert rows.quarantine == quarantine_row("Order/1")

    @with_store
    async def test_of_no_instance_there_is_nothing(self, store: Store, epoch: int) -> None:
        await store.write([turn("Order/1", 1, epoch)])
        assert await store.rows_of("Order/2") == InstanceRows("Order/2")
        assert await store.snapshots("Order/2") == []
        assert await store.retried() == {}

    @with_store
    async def test_as_many_rows_as_are_asked_for(self, store: Store, epoch: int) -> None:
        sent = tuple(outbox_row("Order/1", 1, number) for number in range(5))
        await store.write([turn("Order/1", 1, epoch, outbox=sent)])
        await store.write([inbox_row("Order/1", f"m-{number}") for number in range(5)])
        await store.write([dead_letter("Order/1", f"d-{number}") for number in range(5)])
        rows = await store.rows_of("Order/1", 2)
        assert rows.jobs == list(sent[:2])
        assert [row.message_id for row in rows.inbox] == ["m-0", "m-1"]
        assert rows.waiting == 5
        assert [row.message_id for row in rows.dead_letters] == ["d-0", "d-1"]

    @with_store
    async def test_hostile_names_are_looked_at(self, store: Store, epoch: int) -> None:
        for name in HOSTILE:
            full = turn(name, 1, epoch, outbox=(outbox_row(name, 1),), head=head(name))
            await store.write([full, inbox_row(name, "m"), snapshot(name, 1)])
        for name in HOSTILE:
            rows = await store.rows_of(name)
            found: list[Any] = [rows.head, *rows.jobs, *rows.inbox, *rows.snapshots]
            assert [one.instance for one in found] == [name] * 4

    @with_store
    async def test_snapshots_come_newest_first(self, store: Store, epoch: int) -> None:
        await store.write(turns("Order/1", 1, 9, epoch))
        await store.write([snapshot("Order/1", number) for number in (3, 9, 6)])
        assert [row.sequence_nr for row in await store.snapshots("Order/1")] == [9, 6]

    @with_store
    async def test_jobs_that_are_retried_are_counted(self, store: Store, epoch: int) -> None:
        sent = [
            outbox_row("Order/1", 1, 0, target="b", attempts=2, due_at_ms=7),
            outbox_row("Order/1", 1, 1, target="a", due_at_ms=7),
            outbox_row("Order/1", 1, 2, target="b"),
        ]
        await store.write([turn("Order/1", 1, epoch, outbox=tuple(sent))])
        assert await store.retried() == {"b": 1}
        await store.write([replace(row, attempts=1, due_at_ms=8) for row in sent[1:]])
        assert await store.retried() == {"a": 1, "b": 2}
        await store.write([settlement("Order/1", job=sent[1].position)])
        assert await store.retried() == {"b": 2}
