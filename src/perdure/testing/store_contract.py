"""The conformance suite of stores: derive from it, say how to make one, run it with pytest.

    class TestMyStore(StoreContract):
        def make_store(self, tmp_path):
            return MyStore(tmp_path / "store")

What is checked is what ``store/protocol.py`` promises; how a store keeps it is its own business.
This part is about turns and owning. Next to read: ``store_contract_settlements.py``, jobs done and
given up, ``store_contract_jobs.py``, what waits, ``store_contract_quarantines.py``, who is set
aside, ``store_contract_looks.py``, one instance whole, ``store_contract_reads.py``, what comes
back, and ``store_contract_heads.py``, what is found.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perdure.core.commit import Entry, Status
from perdure.errors import Fenced, SequenceConflict, StoreLocked, StoreUnavailable
from perdure.store.protocol import Store
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    snapshot,
    turn,
    turns,
)
from perdure.testing.store_contract_frame import StoreSource, all_or_none, refusal, with_store
from perdure.testing.store_contract_heads import HeadContract
from perdure.testing.store_contract_jobs import JobContract
from perdure.testing.store_contract_looks import LookContract
from perdure.testing.store_contract_purges import PurgeContract
from perdure.testing.store_contract_quarantines import QuarantineContract
from perdure.testing.store_contract_reads import ReadContract
from perdure.testing.store_contract_settlements import SettlementContract

__all__ = ["StoreContract"]


class StoreContract(
    SettlementContract,
    JobContract,
    QuarantineContract,
    LookContract,
    ReadContract,
    HeadContract,
    PurgeContract,
):
    """Every store must pass these; ``make_store`` is the only thing to supply."""

    # -- all or nothing

    @with_store
    async def test_a_turn_is_written_whole(self, store: Store, epoch: int) -> None:
        await store.write([inbox_row("Order/1", "m-1")])
        full = turn(
            "Order/1",
            1,
            epoch,
            outbox=(outbox_row("Order/1", 1, 0), outbox_row("Order/1", 1, 1)),
            deadlines_set=(deadline("Order/1", "pay", 1, 500),),
            head=head("Order/1"),
            consumes_inbox=True,
            dead_letter=dead_letter("Order/1", "m-1"),
        )
        assert list(await store.write([full])) == [None]
        assert await store.journal("Order/1") == [full.row]
        assert await store.outbox() == list(full.outbox)
        assert await store.deadlines() == list(full.deadlines_set)
        assert await store.heads() == [full.head]
        assert await store.inbox() == []
        assert [replace(row, position=0) for row in await store.dead_letters()] == [
            full.dead_letter
        ]

    @with_store
    async def test_a_loser_leaves_nothing_behind(self, store: Store, epoch: int) -> None:
        await store.write([turn("Order/1", 1, epoch), inbox_row("Order/1", "m-3")])
        loser = turn(
            "Order/1",
            3,
            epoch,
            outbox=(outbox_row("Order/1", 3),),
            deadlines_set=(deadline("Order/1", "pay", 3, 500),),
            head=head("Order/1"),
            consumes_inbox=True,
            dead_letter=dead_letter("Order/1", "m-3"),
        )
        [answer] = await store.write([loser])
        assert isinstance(answer, SequenceConflict)
        assert [row.sequence_nr for row in await store.journal("Order/1")] == [1]
        assert not await store.outbox()
        assert not await store.deadlines()
        assert not await store.heads()
        assert not await store.dead_letters()
        assert [row.message_id for row in await store.inbox()] == ["m-3"]

    # -- sequence numbers

    @with_store
    async def test_only_the_next_number_is_taken(self, store: Store, epoch: int) -> None:
        assert await all_or_none(store, [turn("Order/1", 0, epoch)]) == [SequenceConflict]
        assert await all_or_none(store, [turn("Order/1", 2, epoch)]) == [SequenceConflict]
        assert await all_or_none(store, [turn("Order/1", 1, epoch)]) == [None]
        assert await all_or_none(store, [turn("Order/1", 1, epoch)]) == [SequenceConflict]
        assert await all_or_none(store, [turn("Order/1", 3, epoch)]) == [SequenceConflict]
        assert await all_or_none(store, turns("Order/1", 2, 9, epoch)) == [None] * 8
        assert [row.sequence_nr for row in await store.journal("Order/1")] == [*range(1, 10)]

    @with_store
    async def test_a_conflict_names_its_instance(self, store: Store, epoch: int) -> None:
        [answer] = await store.write([turn("Order/o-7", 5, epoch)])
        assert answer is not None
        assert (answer.saga, answer.correlation_id) == ("Order", "o-7")
        assert answer.remedy

    @with_store
    async def test_a_conflict_fails_no_neighbour(self, store: Store, epoch: int) -> None:
        await store.write(turns("Order/1", 1, 3, epoch))
        group: list[Entry] = [
            turn("Order/0", 1, epoch),
            turn("Order/1", 3, epoch, outbox=(outbox_row("Order/1", 3),)),
            inbox_row("Order/1", "waits"),
            turn("Order/2", 1, epoch, outbox=(outbox_row("Order/2", 1),)),
            turn("Order/1", 4, epoch),
            snapshot("Order/0", 1),
            dead_letter("Order/9", "m"),
        ]
        conflict = SequenceConflict
        expected = [None, conflict, None, None, conflict, None, None]
        assert await all_or_none(store, group) == expected
        assert [row.instance for row in await store.outbox()] == ["Order/2"]
        assert len(await store.journal("Order/1")) == 3
        assert len(await store.journal("Order/0")) == len(await store.journal("Order/2")) == 1
        assert len(await store.inbox()) == len(await store.dead_letters()) == 1

    @with_store
    async def test_within_a_group_numbers_follow_each_other(self, store: Store, epoch: int) -> None:
        gap = [turn("Order/1", number, epoch) for number in (1, 2, 4, 3)]
        conflict = SequenceConflict
        assert await all_or_none(store, gap) == [None, None, conflict, conflict]
        twice = [turn("Order/2", 1, epoch), turn("Order/2", 1, epoch)]
        assert await all_or_none(store, twice) == [None, conflict]

    # -- epochs

    @with_store
    async def test_another_epoch_is_fenced(self, store: Store, epoch: int) -> None:
        group = [
            turn("Order/1", 1, epoch - 1, outbox=(outbox_row("Order/1", 1),)),
            turn("Order/2", 1, epoch),
            turn("Order/1", 1, epoch),
            turn("Order/3", 1, epoch + 1),
        ]
        assert await all_or_none(store, group) == [Fenced, None, None, Fenced]
        assert [row.epoch for row in await store.journal("Order/1")] == [epoch]
        assert not await store.outbox()
        assert not await store.journal("Order/3")

    def test_an_owner_before_this_one_is_fenced(self, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            store, before = await source.opened()
            await store.write([turn("Order/1", 1, before)])
            store, epoch = await source.reopened()
            assert epoch == before + 1
            assert await all_or_none(store, [turn("Order/1", 2, before)]) == [Fenced]
            assert await all_or_none(store, [turn("Order/1", 2, epoch)]) == [None]
            [loaded] = await store.load(["Order/1"])
            assert [row.epoch for row in loaded.turns] == [before, epoch]
            assert loaded.corrupt is None

        self.run(tmp_path, scenario)

    # -- deadlines

    @with_store
    async def test_the_last_word_on_a_deadline_counts(self, store: Store, epoch: int) -> None:
        def setting(number: int, name: str, due: int) -> Entry:
            row = deadline("Order/1", name, number, due)
            return turn("Order/1", number, epoch, deadlines_set=(row,))

        def clearing(number: int, name: str) -> Entry:
            return turn("Order/1", number, epoch, deadlines_cleared=(name,))

        await store.write([setting(1, "kept", 100), setting(2, "moved", 200)])
        await store.write([setting(3, "moved", 50), setting(4, "gone", 70)])
        await store.write([clearing(5, "gone"), clearing(6, "never set")])
        await store.write([setting(7, "brief", 1), clearing(8, "brief")])
        await store.write([clearing(9, "kept"), setting(10, "kept", 900)])
        assert await store.deadlines() == [
            deadline("Order/1", "moved", 3, 50),
            deadline("Order/1", "kept", 10, 900),
        ]

    # -- the inbox

    @with_store
    async def test_putting_a_message_again_changes_nothing(self, store: Store, epoch: int) -> None:
        first = inbox_row("Order/1", "m", body=b"first")
        await store.write([first, inbox_row("Order/1", "m", body=b"second")])
        await store.write([inbox_row("Order/1", "m", body=b"third", attempts=9)])
        assert [replace(row, position=0) for row in await store.inbox()] == [first]

    @with_store
    async def test_put_and_consumed_in_one_group(self, store: Store, epoch: int) -> None:
        def consuming(number: int) -> Entry:
            return turn("Order/1", number, epoch, consumes_inbox=True)

        await store.write([inbox_row("Order/1", "m-1"), consuming(1)])
        assert not await store.inbox()
        await store.write([consuming(2), inbox_row("Order/1", "m-2", body=b"again")])
        assert [row.body for row in await store.inbox()] == [b"again"]
        again = inbox_row("Order/1", "m-3", body=b"again")
        await store.write([inbox_row("Order/1", "m-3"), consuming(3), again])
        assert [row.body for row in await store.inbox()] == [b"again", b"again"]

    @with_store
    async def test_a_dead_letter_may_consume_its_message(self, store: Store, epoch: int) -> None:
        await store.write([inbox_row("Order/1", name) for name in ("a", "b", "c")])
        await store.write(
            [dead_letter("Order/1", "a", consumes_inbox=True), dead_letter("Order/1", "b")]
        )
        assert [row.message_id for row in await store.inbox()] == ["b", "c"]
        assert [row.message_id for row in await store.dead_letters()] == ["a", "b"]

    @with_store
    async def test_a_position_never_comes_back(self, store: Store, epoch: int) -> None:
        await store.write([inbox_row("Order/1", "m-1")])
        [before] = await store.inbox()
        await store.write([turn("Order/1", 1, epoch, consumes_inbox=True)])
        await store.write([inbox_row("Order/1", "m-1")])
        assert [row.message_id for row in await store.inbox(after=before.position)] == ["m-1"]

    # -- heads, groups

    @with_store
    async def test_the_last_head_counts(self, store: Store, epoch: int) -> None:
        first, last = head("Order/1"), head("Order/1", Status.COMPLETED, updated_at_ms=9)
        await store.write([turn("Order/1", 1, epoch, head=first)])
        await store.write(
            [turn("Order/1", 2, epoch, head=first), turn("Order/1", 3, epoch, head=last)]
        )
        assert await store.heads() == [last]

    @with_store
    async def test_an_empty_group(self, store: Store, epoch: int) -> None:
        assert list(await store.write([])) == []

    @with_store
    async def test_a_group_of_three_thousand(self, store: Store, epoch: int) -> None:
        names = [f"Order/{number:03}" for number in range(300)]
        group = [
            turn(name, number, epoch, outbox=(outbox_row(name, number),))
            for number in range(1, 11)
            for name in names
        ]
        assert await all_or_none(store, group) == [None] * 3000
        assert len(await store.outbox(limit=5000)) == 3000
        assert all(len(found.turns) == 10 for found in await store.load(names))

    @with_store
    async def test_rows_are_not_shared_with_the_caller(self, store: Store, epoch: int) -> None:
        entry = turn("Order/1", 1, epoch, head=head("Order/1"))
        await store.write([entry])
        entry.row.body = b"changed"
        [stored] = await store.journal("Order/1")
        stored.message_id = "changed"
        [again] = await store.journal("Order/1")
        assert (again.body, again.message_id) == (b"Order/1 1", "m-1")

    # -- owning

    def test_closing_twice_and_unopened(self, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            await source.store.close()
            store, _ = await source.opened()
            await store.close()
            await store.close()

        self.run(tmp_path, scenario)

    def test_a_closed_store_answers_nothing(self, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            store, epoch = await source.opened()
            await store.close()
            for call in (store.write([turn("Order/1", 1, epoch)]), store.load(["Order/1"])):
                assert await refusal(call) is StoreUnavailable

        self.run(tmp_path, scenario)

    def test_a_second_owner_is_refused(self, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            store, epoch = await source.opened()
            assert await refusal(store.open()) is StoreLocked
            assert await all_or_none(store, [turn("Order/1", 1, epoch)]) == [None]

        self.run(tmp_path, scenario)
