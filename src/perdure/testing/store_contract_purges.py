"""The conformance suite's part about purges: what goes, what stays, what is left out.

Not meant to be derived from directly; see ``store_contract.py``.
"""

from __future__ import annotations

from dataclasses import replace

from perdure.core.commit import Entry, Purge, Reindexed, Status, TombstoneRow
from perdure.core.head_query import HeadQuery, Order
from perdure.core.tally import TallyRow
from perdure.errors import Gone, SequenceConflict
from perdure.store.protocol import Store
from perdure.testing.sample_rows import head, snapshot, turn, turns
from perdure.testing.store_contract_frame import ContractFrame, all_or_none, with_store

__all__ = ["PurgeContract"]

_ENDED = head("Order/1", Status.COMPLETED, fields=(("customer", "sann"),))
_BY_CUSTOMER = HeadQuery("Order", (), Order.FIELD, "customer")


async def lived(store: Store, epoch: int, count: int = 5) -> None:
    """An instance that has ended with so many turns, and a neighbour."""
    first = turn("Order/1", 1, epoch, head=replace(_ENDED, status=Status.RUNNING))
    last = turn("Order/1", count, epoch, head=_ENDED)
    await store.write([first, *turns("Order/1", 2, count - 1, epoch), last])
    await store.write([snapshot("Order/1", 2), snapshot("Order/1", 4)])
    await store.write([turn("Order/2", 1, epoch, head=head("Order/2"))])


def purge(swept_nr: int = 5, sequence_nr: int = 5) -> Purge:
    return Purge(TombstoneRow("Order/1", 9_000, sequence_nr, swept_nr), b"known")


class PurgeContract(ContractFrame):
    """Purged, swept, ended."""

    @with_store
    async def test_a_purge_leaves_a_tombstone(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        assert await all_or_none(store, [purge()]) == [None]
        assert await store.tombstones() == [purge().tombstone]
        assert await store.journal("Order/1") == []
        assert [one.instance for one in await store.heads()] == ["Order/2"]
        assert await store.find(_BY_CUSTOMER) == []
        [loaded] = await store.load(["Order/1"])
        assert loaded.snapshot == snapshot("Order/1", 5, b"known")
        assert (loaded.turns, loaded.has_more, loaded.corrupt) == ([], False, None)
        [tally] = await store.tallies()
        assert tally == TallyRow("Order", started=2, completed=1, running=1, duration_ms=1)

    @with_store
    async def test_the_instance_goes_on_after_its_tombstone(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        late, wrong = turn("Order/1", 6, epoch), turn("Order/1", 1, epoch)
        assert await all_or_none(store, [purge(), late]) == [None, None]
        [answer] = await store.write([wrong])
        assert isinstance(answer, SequenceConflict)
        [loaded] = await store.load(["Order/1"])
        assert [one.sequence_nr for one in loaded.turns] == [6]
        assert loaded.corrupt is None

    @with_store
    async def test_a_purge_of_what_has_moved_on_is_left_out(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        late = turn("Order/1", 6, epoch)
        assert await all_or_none(store, [late, purge()]) == [None, SequenceConflict]
        assert await store.tombstones() == []
        assert len(await store.journal("Order/1")) == 6
        assert len(await store.heads()) == 2

    @with_store
    async def test_a_journal_is_swept_in_steps(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        await all_or_none(store, [purge(swept_nr=2)])
        for swept_nr in (2, 4):
            row = replace(purge().tombstone, swept_nr=swept_nr)
            await store.write([row])
            assert [one.due_at_ms for one in await store.tombstones()] == [0]
            left = [one.sequence_nr for one in await store.journal("Order/1")]
            assert left == list(range(swept_nr + 1, 6))
            [loaded] = await store.load(["Order/1"])
            assert (loaded.turns, loaded.corrupt) == ([], None)
        await store.write([purge().tombstone])
        assert [one.due_at_ms for one in await store.tombstones()] == [9_000]
        assert await store.journal("Order/1") == []

    @with_store
    async def test_a_snapshot_of_before_does_not_stay(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        await all_or_none(store, [snapshot("Order/1", 5), purge()])
        [loaded] = await store.load(["Order/1"])
        assert loaded.snapshot == snapshot("Order/1", 5, b"known")

    @with_store
    async def test_when_its_tombstone_ends_nothing_is_left(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        await store.write([purge(), turn("Order/1", 6, epoch)])
        early = TombstoneRow("Order/1", 9_000, 5, 5, is_over=True)
        [answer] = await store.write([early])
        assert isinstance(answer, SequenceConflict)
        over = replace(early, sequence_nr=6, swept_nr=6)
        assert await all_or_none(store, [over]) == [None]
        assert await store.tombstones() == []
        [loaded] = await store.load(["Order/1"])
        assert (loaded.snapshot, loaded.turns, loaded.corrupt) == (None, [], None)
        assert await store.write([turn("Order/1", 1, epoch)]) == [None]

    @with_store
    async def test_who_was_purged_gets_no_head_again(self, store: Store, epoch: int) -> None:
        await lived(store, epoch)
        again = Reindexed(_ENDED, 5)
        groups: list[list[Entry]] = [[purge(), again], [again]]
        for group in groups:
            answers = await store.write(group)
            assert isinstance(answers[-1], Gone)
        assert len(await store.heads()) == 1
        assert await store.find(_BY_CUSTOMER) == []

    @with_store
    async def test_tombstones_come_in_order_of_their_moments(
        self, store: Store, epoch: int
    ) -> None:
        rows = [
            TombstoneRow("Order/a", 50, 3, 1),
            TombstoneRow("Order/b", 20, 3, 3),
            TombstoneRow("Order/c", 10, 3, 3),
            TombstoneRow("Order/d", 20, 3, 3),
        ]
        await store.write(rows)
        expected = [rows[0], rows[2], rows[1], rows[3]]
        assert await store.tombstones() == expected
        assert await store.tombstones(limit=2) == expected[:2]
        assert await store.tombstones((20, "Order/b")) == expected[3:]
