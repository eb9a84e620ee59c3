"""The conformance suite, part five: heads found by status, moment and field, and their counts.

Next to read: ``core/head_query.py``, what can be asked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perdure.core.commit import Entry, Fields, HeadRow, IndexedFields, Reindexed, Status
from perdure.core.head_query import HeadQuery, Order, place_of
from perdure.core.tally import TallyRow
from perdure.errors import SequenceConflict
from perdure.store.protocol import Store
from perdure.testing.sample_rows import head, turn, turns
from perdure.testing.store_contract_frame import (
    ContractFrame,
    StoreSource,
    all_or_none,
    with_store,
)

__all__ = ["HeadContract"]

_BOTH = (False, True)


def customer(name: str, **more: str) -> Fields:
    """Fields of an order, by name."""
    return tuple(sorted({"customer": f"s{name}", **more}.items()))


def placed(row: HeadRow, epoch: int) -> Entry:
    """The first turn of an instance."""
    return turn(row.instance, 1, epoch, head=row)


def several() -> list[HeadRow]:
    """Heads of two sagas, in all states, with equal moments and values among them."""
    return [
        head(
            f"Order/{number:02}",
            tuple(Status)[number % 4],
            started_at_ms=1_000 + number // 2,
            updated_at_ms=9_000 - number // 3,
            fields=customer("abc"[number % 3]),
        )
        for number in range(20)
    ] + [head("Orders/1", started_at_ms=5, updated_at_ms=6, fields=customer("a"))]


class HeadContract(ContractFrame):
    """What a store answers about many instances."""

    # -- finding

    @with_store
    async def test_heads_in_every_order_page_by_page(self, store: Store, epoch: int) -> None:
        rows = several()
        await store.write([placed(row, epoch) for row in rows])
        for order in Order:
            field = "customer" if order is Order.FIELD else ""
            expected = sorted(rows[:20], key=lambda row: place_of(row, order, field))
            for descending in _BOTH:
                query = HeadQuery("Order", (), order, field, descending=descending, limit=3)
                wanted = expected[::-1] if descending else expected
                assert await _pages(store, query) == wanted, (order, descending)

    @with_store
    async def test_heads_of_some_statuses(self, store: Store, epoch: int) -> None:
        rows = several()
        await store.write([placed(row, epoch) for row in rows])
        for wanted in ((Status.STUCK,), (Status.FAILED, Status.RUNNING)):
            for order in (Order.ID, Order.STARTED, Order.UPDATED):
                expected = [row for row in rows[:20] if row.status in wanted]
                expected.sort(key=lambda row: place_of(row, order, ""))
                for descending in _BOTH:
                    query = HeadQuery("Order", wanted, order, descending=descending, limit=2)
                    found = await _pages(store, query)
                    assert found == (expected[::-1] if descending else expected)
                    assert await store.count(query) == 2

    @with_store
    async def test_heads_between_bounds(self, store: Store, epoch: int) -> None:
        rows = several()
        await store.write([placed(row, epoch) for row in rows])
        for order, field, low, high in (
            (Order.STARTED, "", 1_002, 1_004),
            (Order.UPDATED, "", 8_995, 8_997),
            (Order.FIELD, "customer", "sb", "sb"),
            (Order.FIELD, "customer", "sa", "sb"),
        ):
            places = {row.instance: place_of(row, order, field)[0] for row in rows[:20]}
            expected = [row for row in rows[:20] if low <= places[row.instance] <= high]  # type: ignore[operator]
            expected.sort(key=lambda row: place_of(row, order, field))
            for descending in _BOTH:
                query = HeadQuery("Order", (), order, field, low, high, None, descending, 2)
                found = await _pages(store, query)
                assert found == (expected[::-1] if descending else expected)
                every = HeadQuery("Order", (), order, field, low, high)
                assert await store.count(every) == len(expected)

    @with_store
    async def test_a_head_is_found_by_what_it_is_now(self, store: Store, epoch: int) -> None:
        before = head("Order/1", fields=customer("ann", city="sUlm"))
        after = head("Order/1", fields=customer("bob", city="sUlm"))
        await store.write([placed(before, epoch), turn("Order/1", 2, epoch, head=after)])
        by_city = HeadQuery("Order", (), Order.FIELD, "city")
        assert await store.find(by_customer("sann")) == []
        assert await store.find(by_customer("sbob")) == await store.find(by_city) == [after]
        assert await store.count(by_customer("sann")) == 0
        await store.write([turn("Order/1", 3, epoch, head=head("Order/1"))])
        assert await store.find(by_customer("sbob")) == await store.find(by_city) == []
        assert await store.count(by_city) == 0

    @with_store
    async def test_a_turn_left_out_is_not_found(self, store: Store, epoch: int) -> None:
        before, after = (head("Order/1", fields=customer(name)) for name in ("ann", "bob"))
        await store.write([placed(before, epoch)])
        await store.write([turn("Order/1", 1, epoch, head=after)])
        await store.write([turn("Order/1", 2, epoch - 1, head=after)])
        assert await store.find(by_customer("sann")) == [before]
        assert await store.find(by_customer("sbob")) == []
        assert await store.tallies() == [TallyRow("Order", 1, running=1, indexed=("customer",))]

    # -- counting

    @with_store
    async def test_instances_are_counted_once_each_time_they_change(
        self, store: Store, epoch: int
    ) -> None:
        done = head("Order/2", Status.COMPLETED, started_at_ms=100, updated_at_ms=350)
        group = [
            placed(head("Order/1"), epoch),
            placed(head("Order/2"), epoch),
            placed(head("Order/3"), epoch),
            turn("Order/2", 2, epoch, head=done),
            turn("Order/1", 2, epoch),
            placed(head("Trip/1", Status.FAILED), epoch),
        ]
        await store.write(group)
        await store.write([turn("Order/3", 2, epoch, head=head("Order/3", updated_at_ms=7))])
        await store.write([turn("Order/1", 3, epoch, head=head("Order/1", Status.STUCK))])
        await store.write(group)
        assert await store.tallies() == [
            TallyRow("Order", 3, 1, 0, 1, 1, 1, 0, 250),
            TallyRow("Trip", 1, 0, 1, kept_failed=1),
        ]

    def test_counts_survive(self, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            store, epoch = await source.opened()
            await store.write([placed(row, epoch) for row in several()])
            before = await store.tallies()
            store, _ = await source.reopened()
            assert await store.tallies() == before
            assert [(tally.saga, tally.kept) for tally in before] == [("Order", 20), ("Orders", 1)]

        self.run(tmp_path, scenario)

    # -- indexing anew

    @with_store
    async def test_a_field_is_indexed_as_long_as_all_heads_have_it(
        self, store: Store, epoch: int
    ) -> None:
        both = customer("ann", city="sUlm")
        await store.write([placed(head("Order/1", fields=both), epoch)])
        assert [tally.indexed for tally in await store.tallies()] == [("city", "customer")]
        more = customer("bob", city="sBonn", zip="s1")
        await store.write([placed(head("Order/2", fields=more), epoch)])
        assert [tally.indexed for tally in await store.tallies()] == [("city", "customer")]
        await store.write([placed(head("Order/3", fields=customer("eve")), epoch)])
        assert [tally.indexed for tally in await store.tallies()] == [("customer",)]
        await store.write([IndexedFields("Order", ("customer", "zip"))])
        assert [tally.indexed for tally in await store.tallies()] == [("customer", "zip")]

    @with_store
    async def test_a_head_made_anew_is_put_only_if_nothing_came_between(
        self, store: Store, epoch: int
    ) -> None:
        old, new = head("Order/1"), head("Order/1", fields=customer("ann"))
        await store.write([turn("Order/1", 1, epoch, head=old), turn("Order/1", 2, epoch)])
        conflict = SequenceConflict
        assert await all_or_none(store, [Reindexed(new, 1)]) == [conflict]
        assert await all_or_none(store, [Reindexed(new, 3)]) == [conflict]
        assert await store.find(by_customer("sann")) == []
        later: list[Entry] = [*turns("Order/1", 3, 4, epoch), Reindexed(new, 3), Reindexed(new, 4)]
        assert await all_or_none(store, later) == [None, None, conflict, None]
        assert await store.find(by_customer("sann")) == await store.heads() == [new]
        again: list[Entry] = [Reindexed(new, 4), *turns("Order/1", 5, 5, epoch)]
        assert await all_or_none(store, again) == [None, None]
        assert await store.tallies() == [TallyRow("Order", 1, running=1)]

    # -- size

    @with_store
    async def test_the_size_grows_with_what_is_kept(self, store: Store, epoch: int) -> None:
        before = await store.size()
        await store.write(turns("Order/1", 1, 2_000, epoch))
        assert await store.size() > before


def by_customer(value: str) -> HeadQuery:
    """The orders of one customer."""
    return HeadQuery("Order", (), Order.FIELD, "customer", value, value)


async def _pages(store: Store, query: HeadQuery) -> list[HeadRow]:
    found: list[HeadRow] = []
    after = query.after
    while True:
        page = await store.find(replace(query, after=after))
        found += page
        if len(page) < query.limit:
            return found
        after = place_of(page[-1], query.order, query.field)
