"""Instances are found by status, moment and indexed field, in memory or not; and counted."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest

from perdure import (
    Between,
    Effects,
    Indexed,
    InstanceView,
    Job,
    OrderedSaga,
    ProcessManager,
    Runtime,
    SagaCounts,
    Settings,
    Status,
    Supervision,
    applies,
    continues,
    message,
    starts,
    workflow,
)
from perdure.core.commit import IndexedFields
from perdure.errors import DefinitionError, InvalidQuery, NotIndexed, UnknownSaga
from perdure.messages import datetime_of
from tests.runtime.support import quickly

MINUTE = timedelta(minutes=1)


class Tier(StrEnum):
    BASIC = "basic"
    GOLD = "gold"


@message(name="finding.placed")
class Placed:
    id: str
    customer: str = ""
    amount: int = 0


@message(name="finding.moved")
class Moved:
    id: str
    customer: str


@message(name="finding.closed")
class Closed:
    id: str
    how: str = "completed"


@message(name="finding.poison")
class Poison:
    id: str


@dataclass(frozen=True)
class Purchase:
    customer: Indexed[str] = ""
    amount: Indexed[int | None] = None
    price: Indexed[Decimal] = Decimal(0)
    tier: Indexed[Tier] = Tier.BASIC
    note: str = ""


class Buying(ProcessManager[Purchase]):
    name = "buying"
    supervision = Supervision.quarantine()

    @starts(Placed, by="id")
    def placed(self, state: Purchase, event: Placed, do: Effects) -> None:
        """Nothing is sent."""

    @continues(Moved, by="id")
    def moved(self, state: Purchase, event: Moved, do: Effects) -> None:
        """Nothing is sent."""

    @continues(Poison, by="id")
    def poisoned(self, state: Purchase, event: Poison, do: Effects) -> None:
        raise ValueError("poison")

    @continues(Closed, by="id")
    def closed(self, state: Purchase, event: Closed, do: Effects) -> None:
        end = {"completed": do.complete, "failed": lambda: do.fail("no"), "stuck": _stick(do)}
        end[event.how]()

    @applies(Placed)
    def fold_placed(self, state: Purchase, event: Placed) -> Purchase:
        tier = Tier.GOLD if event.amount > 5 else Tier.BASIC
        return Purchase(event.customer, event.amount, Decimal(event.amount) / 4, tier)

    @applies(Moved)
    def fold_moved(self, state: Purchase, event: Moved) -> Purchase:
        return replace(state, customer=event.customer)


def _stick(do: Effects) -> Any:
    return lambda: do.stuck("somebody must look")


@dataclass(frozen=True)
class Bare:
    customer: str = ""
    amount: int | None = None
    price: Decimal = Decimal(0)
    tier: Tier = Tier.BASIC
    note: str = ""


def bare() -> type[ProcessManager[Any]]:
    """The same saga by code that indexes nothing."""

    class BareBuying(ProcessManager[Bare]):
        name = "buying"

        @starts(Placed, by="id")
        def placed(self, state: Bare, event: Placed, do: Effects) -> None:
            """Nothing is sent."""

        @continues(Moved, by="id")
        def moved(self, state: Bare, event: Moved, do: Effects) -> None:
            """Nothing is sent."""

        @applies(Placed)
        def fold_placed(self, state: Bare, event: Placed) -> Bare:
            return Bare(event.customer, event.amount)

        @applies(Moved)
        def fold_moved(self, state: Bare, event: Moved) -> Bare:
            return replace(state, customer=event.customer)

    return BareBuying


@asynccontextmanager
async def running(store, clock, saga=Buying, **settings) -> AsyncIterator[Runtime]:
    async with Runtime(store, [saga], Settings(**settings), clock=clock) as runtime:
        yield runtime


async def ids(views: AsyncIterator[InstanceView]) -> list[str]:
    return [view.correlation_id async for view in views]


async def twelve(runtime: Runtime, clock) -> datetime:
    """Twelve purchases a minute apart, of three customers; the last four end. When it began."""
    began = datetime_of(clock.now_ms())
    for number in range(12):
        await runtime.publish(Placed(f"{number:02}", f"c-{number % 3}", number))
        await clock.advance(MINUTE)
    for number, how in ((8, "completed"), (9, "completed"), (10, "failed"), (11, "stuck")):
        await runtime.publish(Closed(f"{number:02}", how))
    return began


def some(*numbers: int) -> list[str]:
    return [f"{number:02}" for number in numbers]


@quickly
async def test_by_status_by_field_and_by_both(store, clock):
    async with running(store, clock) as runtime:
        await twelve(runtime, clock)
        find = runtime.find
        assert await ids(find(Buying)) == some(*range(12))
        assert await ids(find("buying", status="completed")) == some(8, 9)
        assert await ids(find(Buying, status=[Status.STUCK, "failed"])) == some(10, 11)
        assert await ids(find(Buying, where={"customer": "c-1"})) == some(1, 4, 7, 10)
        both = {"customer": "c-1", "amount": Between(3, 7)}
        assert await ids(find(Buying, where=both)) == some(4, 7)
        assert await ids(find(Buying, where={"customer": "c-1"}, status="running")) == some(1, 4, 7)
        assert await ids(find(Buying, where={"customer": {"c-0", "c-1"}, "amount": [3, 4, 5]})) == (
            some(3, 4)
        )
        assert await ids(find(Buying, where={"customer": "c-9"})) == []
        assert await ids(find(Buying, where={"amount": Between(None, 1)})) == some(0, 1)
        assert await ids(find(Buying, where={"amount": Between(10)})) == some(10, 11)
        assert await ids(find(Buying, where={"price": Decimal("0.50")})) == some(2)
        assert await ids(find(Buying, where={"price": Between(0, Decimal("0.3"))})) == some(0, 1)
        assert await ids(find(Buying, where={"tier": Tier.GOLD}, status="running")) == some(6, 7)
        assert await ids(find(Buying, where={"tier": "gold", "amount": 11})) == some(11)
        assert await ids(find(Buying, where={"amount": None})) == []


@quickly
async def test_by_moment_and_by_age(store, clock):
    async with running(store, clock) as runtime:
        began = await twelve(runtime, clock)
        find = runtime.find
        until = began + 3 * MINUTE
        assert await ids(find(Buying, started_before=until)) == some(0, 1, 2)
        assert await ids(find(Buying, started_after=until, started_before=until + MINUTE)) == some(
            3
        )
        assert await ids(find(Buying, older_than=10 * MINUTE)) == some(0, 1)
        assert await ids(find(Buying, older_than=10 * MINUTE, started_before=began + MINUTE)) == (
            some(0)
        )
        assert await ids(find(Buying, idle_for=10 * MINUTE, status="running")) == some(0, 1)
        assert await ids(find(Buying, updated_after=began + 12 * MINUTE)) == some(8, 9, 10, 11)
        late = find(Buying, where={"customer": "c-2"}, updated_after=began + 12 * MINUTE)
        assert await ids(late) == some(8, 11)
        east = (began + MINUTE).astimezone(None)
        assert await ids(find(Buying, started_before=east)) == some(0)


@quickly
async def test_a_turn_makes_the_instance_young_to_the_millisecond(store, clock):
    async with running(store, clock) as runtime:
        began = await twelve(runtime, clock)
        moved_at = began + 12 * MINUTE + timedelta(seconds=50)
        await clock.advance(timedelta(seconds=50))
        await runtime.publish(Moved("02", "c-2"))
        find = runtime.find
        assert await ids(find(Buying, updated_after=moved_at)) == some(2)
        await clock.advance(timedelta(seconds=1))
        just = find(Buying, updated_after=moved_at, updated_before=moved_at + timedelta(seconds=1))
        assert await ids(just) == some(2)
        assert await ids(find(Buying, idle_for=timedelta(seconds=2), status="running")) == (
            some(0, 1, 3, 4, 5, 6, 7)
        )


@quickly
async def test_an_ended_instance_is_as_old_as_its_end(store, clock):
    async with running(store, clock) as runtime:
        began = await twelve(runtime, clock)
        await clock.advance(5 * MINUTE)
        [receipt] = await runtime.publish(Closed("08"))
        assert receipt.outcome == "finished"
        await ends_at(runtime, began + 12 * MINUTE)
    await clock.advance(MINUTE)
    async with running(store, clock) as runtime:  # from its journal
        await ends_at(runtime, began + 12 * MINUTE)


async def ends_at(runtime: Runtime, at: datetime) -> None:
    """The ninth purchase was last changed then, and is found so."""
    view = await runtime.state(runtime.ref(Buying, "08"))
    assert view is not None
    assert view.updated_at == at
    find = runtime.find
    assert await ids(find(Buying, updated_before=at, status="completed")) == []
    assert "08" in await ids(find(Buying, idle_for=5 * MINUTE - timedelta(seconds=1)))


@pytest.mark.parametrize("order", ["id", "started", "updated", "amount", "customer", "tier"])
@quickly
async def test_every_order_in_both_directions_and_in_pages(store, clock, order):
    async with running(store, clock) as runtime:
        await twelve(runtime, clock)
        for what in (
            {},
            {"status": ["running", "stuck"]},
            {"where": {"customer": ["c-0", "c-2"]}},
            {"where": {"amount": Between(2, 10)}},
        ):
            every = await ids(runtime.find(Buying, order_by=order, **what))
            assert sorted(every) == await ids(runtime.find(Buying, order_by="id", **what))
            if order == "customer":
                assert every == sorted(every, key=lambda id: (int(id) % 3, id))
            elif order in ("id", "amount", "started"):
                assert every == sorted(every)
            turned = runtime.find(Buying, order_by=order, descending=True, **what)
            assert await ids(turned) == every[::-1]
            for by_text in (True, False):
                found: list[str] = []
                after: Any = None
                while True:
                    page = [
                        view
                        async for view in runtime.find(
                            Buying, order_by=order, limit=2, after=after, **what
                        )
                    ]
                    found += [view.correlation_id for view in page]
                    if len(page) < 2:
                        break
                    after = page[-1].cursor if by_text else page[-1]
                assert found == every


@quickly
async def test_passive_and_resident_instances_are_found_alike(store, clock):
    async with running(store, clock, residents_max=2, idle_after_s=1) as runtime:
        await twelve(runtime, clock)
        await clock.advance(MINUTE)
        assert runtime.residents < 12
        await runtime.publish(Moved("03", "c-9"))
        assert await ids(runtime.find(Buying, where={"customer": "c-9"})) == some(3)
        assert await ids(runtime.find(Buying, where={"customer": "c-0"})) == some(0, 6, 9)
        before = runtime.residents
        assert len(await ids(runtime.find(Buying))) == 12
        assert runtime.residents == before


@quickly
async def test_what_is_not_committed_is_not_found(store, clock):
    async with running(store, clock) as runtime:
        await runtime.publish(Placed("1", "ann"))
        store.hold_writes()
        moving = asyncio.create_task(runtime.publish(Moved("1", "bob")))
        await store.held()
        assert await ids(runtime.find(Buying, where={"customer": "ann"})) == ["1"]
        assert await ids(runtime.find(Buying, where={"customer": "bob"})) == []
        store.release()
        await moving
        assert await ids(runtime.find(Buying, where={"customer": "ann"})) == []
        assert await ids(runtime.find(Buying, where={"customer": "bob"})) == ["1"]


@quickly
async def test_long_values_are_told_apart_behind_what_the_index_keeps(store, clock):
    long = "x" * 500
    async with running(store, clock) as runtime:
        for number, end in enumerate("abc"):
            await runtime.publish(Placed(f"{number}", long + end))
        assert await ids(runtime.find(Buying, where={"customer": long + "b"})) == ["1"]
        within = Between(long + "b", long + "z")
        assert await ids(runtime.find(Buying, where={"customer": within})) == ["1", "2"]
        assert await ids(runtime.find(Buying, where={"customer": long})) == []


@pytest.mark.parametrize("customer", ["", "\x00\x01", "'; DROP TABLE x; --", "\U0001f600\uffff"])
@quickly
async def test_odd_values_are_found(store, clock, customer):
    async with running(store, clock) as runtime:
        await runtime.publish(Placed("1", customer))
        await runtime.publish(Placed("2", customer + "x"))
        assert await ids(runtime.find(Buying, where={"customer": customer})) == ["1"]


@quickly
async def test_an_instance_set_aside_is_found_and_says_so(store, clock):
    async with running(store, clock) as runtime:
        await runtime.publish(Placed("1", "ann"))
        [receipt] = await runtime.publish(Poison("1"))
        assert receipt.outcome == "held"
        [view] = [view async for view in runtime.find(Buying, where={"customer": "ann"})]
        assert view.quarantined


@quickly
async def test_instances_are_counted_by_saga_and_over_restarts(store, clock):
    for _ in range(2):
        async with running(store, clock) as runtime:
            await runtime.settled()
            if not await ids(runtime.find(Buying)):
                assert await runtime.counts() == {"buying": SagaCounts()}
                await twelve(runtime, clock)
            counts = await runtime.counts(Buying)
            assert counts == await runtime.counts("buying") == await runtime.counts()
            assert counts["buying"] == SagaCounts(12, 2, 1, 8, 1, timedelta(minutes=3, seconds=30))
            assert counts["buying"].active == 9
            with pytest.raises(UnknownSaga):
                await runtime.counts("unknown")


# -- asking wrongly


def cursor(*place: Any) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown status": ({"status": "asleep"}, "running, stuck"),
    "no status": ({"status": []}, "running, stuck"),
    "a number as status": ({"status": 5}, "running, stuck"),
    "unknown field": ({"where": {"colour": 1}}, "amount, customer, price, tier"),
    "a field that is not indexed": ({"where": {"note": ""}}, "amount, customer, price, tier"),
    "unknown order": ({"order_by": "note"}, "amount, customer, price, tier"),
    "another type": ({"where": {"customer": 5}}, "type"),
    "another type in a range": ({"where": {"amount": Between("a", "b")}}, "type"),
    "a truth for a number": ({"where": {"amount": True}}, "type"),
    "no type at all": ({"where": {"amount": 1.5}}, "str, int"),
    "the wrong way round": ({"where": {"amount": Between(5, 1)}}, "lower first"),
    "one of none": ({"where": {"amount": []}}, "some"),
    "where is no mapping": ({"where": ["amount"]}, "field"),
    "naive datetime": ({"started_after": datetime(2026, 1, 1)}, "aware"),
    "a text as moment": ({"updated_before": "yesterday"}, "aware"),
    "no such moment": (
        {
            "started_after": datetime(2026, 1, 2, tzinfo=UTC),
            "started_before": datetime(2026, 1, 1, tzinfo=UTC),
        },
        "earlier",
    ),
    "a negative age": ({"older_than": timedelta(-1)}, "zero"),
    "a number as age": ({"idle_for": 5}, "timedelta"),
    "no limit": ({"limit": 0}, "above zero"),
    "a truth as limit": ({"limit": True}, "above zero"),
    "a cursor of nobody's": ({"after": "abc"}, "same question"),
    "a cursor of another order": (
        {"after": "WyJpZCIsIiIsIngveSJd", "order_by": "started"},
        "same question",
    ),
    "a cursor of another saga": ({"after": cursor("id", "", "other/o-1")}, "same question"),
    "a cursor that is no text": ({"after": cursor("id", "", "buying/\ud800")}, "same question"),
    "a field that is no text": (
        {"after": cursor("field customer", "s\ud800", "buying/o-1"), "order_by": "customer"},
        "same question",
    ),
    "a cursor of no moment": (
        {"after": cursor("started", 10**30, "buying/o-1"), "order_by": "started"},
        "same question",
    ),
    "a cursor without end": (
        {"after": urlsafe_b64encode(b"[" * 100_000).decode()},
        "same question",
    ),
}


@pytest.mark.parametrize("what", BAD)
@quickly
async def test_a_question_that_cannot_be_asked_is_refused_at_once(memory, clock, what):
    asked, remedy = BAD[what]
    async with running(memory, clock) as runtime:
        with pytest.raises(InvalidQuery) as caught:
            runtime.find(Buying, **asked)
        assert remedy in str(caught.value.remedy)
        with pytest.raises(UnknownSaga):
            runtime.find("unknown")


def test_a_field_that_cannot_be_indexed_is_refused_at_definition():
    @dataclass(frozen=True)
    class Weighed:
        weight: Indexed[float] = 0.0

    class Weighing(ProcessManager[Weighed]):
        @starts(Placed, by="id")
        def placed(self, state: Weighed, event: Placed, do: Effects) -> None:
            """Nothing is sent."""

    Weighed.__init__.__globals__  # noqa: B018 - the class is local, and so are its hints
    with pytest.raises(DefinitionError, match="'weight'"):
        Runtime("memory://", [Weighing])


# -- declared later, declared no more


@quickly
async def test_a_field_declared_later_is_found_after_indexing(store, clock):
    async with running(store, clock, bare()) as runtime:
        for number in range(5):
            await runtime.publish(Placed(str(number), f"c-{number % 2}", number))
    async with running(store, clock) as runtime:
        with pytest.raises(NotIndexed) as caught:
            await ids(runtime.find(Buying, where={"customer": "c-1"}))
        assert "runtime.reindex('buying')" in str(caught.value.remedy)
        with pytest.raises(NotIndexed):
            await ids(runtime.find(Buying, order_by="amount"))
        assert await ids(runtime.find(Buying, status="running")) == list("01234")
        await runtime.publish(Moved("0", "c-1"))  # it is resident from now on
        assert await runtime.reindex(Buying) == 5
        assert await ids(runtime.find(Buying, where={"customer": "c-1"})) == ["0", "1", "3"]
        assert await runtime.reindex("buying") == 5
    async with running(store, clock) as runtime:
        assert await ids(runtime.find(Buying, order_by="amount")) == list("01234")


@quickly
async def test_a_field_declared_no_more_harms_nobody_and_must_be_indexed_again(store, clock):
    async with running(store, clock) as runtime:
        await runtime.publish(Placed("1", "ann"))
        await runtime.publish(Placed("2", "ann"))
    async with running(store, clock, bare()) as runtime:
        with pytest.raises(InvalidQuery, match="no indexed field"):
            runtime.find("buying", where={"customer": "ann"})
        await runtime.publish(Moved("1", "bob"))
        assert await ids(runtime.find("buying", status="running")) == ["1", "2"]
        [tally] = await store.tallies()
        assert tally.indexed == ()
    async with running(store, clock) as runtime:
        with pytest.raises(NotIndexed):
            await ids(runtime.find(Buying, where={"customer": "ann"}))
        await runtime.reindex(Buying)
        assert await ids(runtime.find(Buying, where={"customer": "ann"})) == ["2"]
        assert await ids(runtime.find(Buying, where={"customer": "bob"})) == ["1"]


@quickly
async def test_indexing_beside_turns_loses_neither(store, clock):
    async with running(store, clock, bare()) as runtime:
        for number in range(20):
            await runtime.publish(Placed(f"{number:02}", "ann"))
    async with running(store, clock) as runtime:

        async def move() -> None:
            for number in range(0, 20, 2):
                for name in ("bob", "eve"):
                    await runtime.publish(Moved(f"{number:02}", name))

        await asyncio.gather(move(), runtime.reindex(Buying), runtime.reindex(Buying))
        assert await ids(runtime.find(Buying, where={"customer": "eve"})) == some(*range(0, 20, 2))
        assert await ids(runtime.find(Buying, where={"customer": "ann"})) == some(*range(1, 20, 2))
        assert await ids(runtime.find(Buying, where={"customer": "bob"})) == []


@quickly
async def test_a_saga_without_instances_has_all_its_fields_indexed(store, clock):
    async with running(store, clock) as runtime:
        await store.write([IndexedFields("buying", ())])
        assert await ids(runtime.find(Buying, where={"customer": "ann"})) == []
        await runtime.publish(Placed("1", "ann"))
        assert await ids(runtime.find(Buying, where={"customer": "ann"})) == ["1"]


# -- other sagas


@message(name="finding.trip")
class Trip:
    id: str
    traveller: Indexed[str]
    hotel: Indexed[str] = ""


@quickly
async def test_ordered_sagas_and_workflows_are_found_by_their_data(store, clock):
    saga = OrderedSaga("trips", Trip, by="id")

    @saga.step(nothing_to_undo=True)
    async def book(trip: Trip, job: Job) -> dict[str, str]:
        return {"hotel": "Ritz"}

    @workflow("walks", Trip, by="id")
    async def walk(run: Any, trip: Trip) -> None:
        await run.sleep("rest", timedelta(hours=1))

    async with Runtime(store, [saga, walk], clock=clock) as runtime:
        await runtime.publish(Trip("1", "ann"))
        await clock.advance(MINUTE)
        for one, hotel in ((saga, "Ritz"), (walk, "")):
            assert await ids(runtime.find(one, where={"traveller": "ann"})) == ["1"]
            assert await ids(runtime.find(one, where={"hotel": hotel})) == ["1"]
            assert await ids(runtime.find(one, where={"traveller": "bob"})) == []
