"""What comes back from the store is what was in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from perdure import (
    MemoryStore,
    Outcome,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    Status,
    applies,
    continues,
    errors,
    message,
    starts,
)
from perdure.messages import type_info_of
from tests.runtime.support import (
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    quickly,
    reopened,
    view_of,
)
from tests.sagas import HANDLED, Added, Basket, Closed, Filled, Ledger, Opened, OtherBasket


def damage(store, table: str, change: str) -> None:
    """Change rows behind the store's back; it must be closed."""
    with closing(sqlite3.connect(store.inner.path)) as connection, connection:
        assert connection.execute(f"{change.format(table=table)}").rowcount > 0


def forget_snapshots(store) -> None:
    if isinstance(store.inner, MemoryStore):
        store.inner._snapshots.clear()
    else:
        damage(store, "snapshots", "DELETE FROM {table}")


def spoil_snapshots(store) -> None:
    if isinstance(store.inner, MemoryStore):
        for rows in store.inner._snapshots.values():
            for row in rows.values():
                row.body = b"\xc1" + row.body
    else:
        damage(store, "snapshots", "UPDATE {table} SET body = X'C1' || body")


def spoil_newest_snapshot(store) -> None:
    if isinstance(store.inner, MemoryStore):
        for rows in store.inner._snapshots.values():
            rows[max(rows)].body = b"\xc1"
    else:
        damage(
            store,
            "snapshots",
            "UPDATE {table} SET body = X'C1' WHERE sequence_nr ="
            " (SELECT max(sequence_nr) FROM {table})",
        )


def spoil_journal(store, key: str, number: int) -> None:
    if isinstance(store.inner, MemoryStore):
        store.inner._journal[key][number - 1].body = b"\xc1"
    else:
        damage(
            store,
            "journal",
            f"UPDATE {{table}} SET body = X'C1' WHERE instance = '{key}'"
            f" AND sequence_nr = {number}",
        )


def drop_journal(store, key: str, number: int) -> None:
    if isinstance(store.inner, MemoryStore):
        del store.inner._journal[key][number - 1]
    else:
        damage(
            store,
            "journal",
            f"DELETE FROM {{table}} WHERE instance = '{key}' AND sequence_nr = {number}",
        )


@pytest.mark.parametrize("snapshot_every", [1, 2, 3, 100])
@pytest.mark.parametrize("change", [None, forget_snapshots, spoil_snapshots, spoil_newest_snapshot])
@quickly
async def test_the_state_after_a_restart_is_the_state_before_it(store, snapshot_every, change):
    async with ledgers(store, snapshot_every=snapshot_every) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, *range(7))
        before = await runtime.state(ref)
        history = [turn async for turn in runtime.history(ref)]
    if change is not None and snapshot_every < 100:
        change(store)
    HANDLED.clear()
    again = reopened(store)
    async with ledgers(again, snapshot_every=snapshot_every) as runtime:
        ref = runtime.ref(Ledger, "x")
        assert await runtime.state(ref) == before
        assert [turn async for turn in runtime.history(ref)] == history
        assert (await runtime.send(ref, Added("x", 0), message_id=history[1].message_id)).duplicate
        assert HANDLED == []  # folding runs no handler
        assert runtime.residents == 1
        await add(runtime, ref, 7)
        assert await items(runtime, ref) == list(range(8))
        assert HANDLED == [("x", 9)]


@quickly
async def test_snapshots_follow_every_so_many_turns(memory):
    async with ledgers(memory, snapshot_every=3) as runtime:
        ref = await open_ledger(runtime)
        seen = []
        for n in range(9):
            await add(runtime, ref, n)
            await runtime.settled()
            if n == 4:
                ref.stop(block=False)
            await add(runtime, ref, n)
            seen = sorted(memory.inner._snapshots.get(ref.key, {}))
        assert len(seen) == 2
        assert seen[1] - seen[0] == 3
        async with asyncio.timeout(1):
            ref.stop(block=False)
            assert (await view_of(runtime, ref)).sequence_nr == 19


@quickly
async def test_what_is_being_read_at_once_is_limited_and_shared(store):
    async with ledgers(store, rehydrations_max=10) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(35)]
        for ref in refs:
            ref.stop(block=False)
        before = store.calls["load"]
        store.hold_loads()
        tasks = [task for ref in refs for task in adding(runtime, ref, 1)]
        await store.loads_held()
        store.release()
        await asyncio.gather(*tasks)
        assert store.calls["load"] - before == 4


@pytest.mark.parametrize(
    ("harm", "number"),
    [  # a missing last turn cannot be told from one that never was
        (spoil_journal, 1), (spoil_journal, 3), (spoil_journal, 5),
        (drop_journal, 1), (drop_journal, 3),
    ],
)  # fmt: skip
@quickly
async def test_a_damaged_journal_quarantines_its_instance_only(store, number, harm):
    async with ledgers(store) as runtime:
        for id in ("x", "y"):
            await add(runtime, await open_ledger(runtime, id), 1, 2, 3, 4)
    harm(store, "Ledger/x", number)
    again = reopened(store)
    async with ledgers(again) as runtime:
        ref, other = runtime.ref(Ledger, "x"), runtime.ref(Ledger, "y")
        for _ in range(2):
            (receipt,) = await add(runtime, ref, 9)
            assert receipt.outcome is Outcome.HELD
        with pytest.raises(errors.InstanceQuarantined) as caught:
            await runtime.state(ref)
        assert (caught.value.saga, caught.value.correlation_id) == ("Ledger", "x")
        (found,) = [one async for one in runtime.quarantined()]
        assert (found.correlation_id, found.held) == ("x", 2)
        # A store in memory has no checksums: there it is found when it is decoded.
        assert found.reason in ("corrupt", "undecodable")
        with pytest.raises(errors.InstanceQuarantined):
            await runtime.release(ref)
        await add(runtime, other, 5)
        assert await items(runtime, other) == [1, 2, 3, 4, 5]
        # That it is quarantined; two messages; nothing of the instance itself.
        assert again.instances_written == {"Ledger/x": 3, "Ledger/y": 1}


@quickly
async def test_an_instance_whose_whole_journal_is_gone_is_not_taken_for_a_new_one(tmp_path):
    path = tmp_path / "store.db"
    async with ledgers(SqlStore(f"sqlite:///{path}")) as runtime:
        for id in ("x", "y"):
            await add(runtime, await open_ledger(runtime, id), 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM journal WHERE instance = 'Ledger/x'")
    async with ledgers(SqlStore(f"sqlite:///{path}")) as runtime:
        (receipt,) = await add(runtime, runtime.ref(Ledger, "x"), 2)
        assert receipt.outcome is Outcome.HELD
        (aside,) = [one async for one in runtime.quarantined()]
        assert (aside.correlation_id, aside.reason) == ("x", "corrupt")
        assert "no journal" in aside.error
        (receipt,) = await add(runtime, runtime.ref(Ledger, "y"), 2)
        assert receipt.outcome is Outcome.APPLIED


@message(name="runtime-test.forgotten")
class Forgotten:
    id: str


class Older(Ledger):
    """The ledger as it was: it knew one message more."""

    name = "Aging"

    @continues(Forgotten, by="id")
    def forgotten(self, state, event, do): ...

    @applies(Forgotten)
    def forget(self, state, event):
        return replace(state, items=())


class Newer(Ledger):
    name = "Aging"


@quickly
async def test_a_type_this_code_does_not_know_stops_its_instance_only(store):
    async with Runtime(store, [Older]) as runtime:
        await open_ledger(runtime, "x", Older)
        await open_ledger(runtime, "y", Older)
        await runtime.publish(Forgotten("x"))
    forgotten: Any = Forgotten
    info = type_info_of(Forgotten)
    assert info is not None
    del forgotten.__perdure_type__  # as if the class were gone
    try:
        async with Runtime(reopened(store), [Newer]) as runtime:
            (receipt,) = await runtime.publish(Added("x", 1))
            assert receipt.outcome is Outcome.HELD
            await runtime.publish(Added("y", 1))
            with pytest.raises(errors.InstanceQuarantined, match=r"runtime-test\.forgotten"):
                await runtime.state(runtime.ref(Newer, "x"))
            history = [turn.type async for turn in runtime.history(runtime.ref(Newer, "x"))]
            assert history == ["runtime-test.opened", "runtime-test.forgotten"]
    finally:
        forgotten.__perdure_type__ = info
    async with Runtime(reopened(store), [Older]) as runtime:
        (receipt,) = await runtime.publish(Added("x", 2))
        assert receipt.outcome is Outcome.APPLIED  # this code knows it again
        assert [one async for one in runtime.quarantined(Older)] == []
        assert await items(runtime, runtime.ref(Older, "x")) == [1, 2]


@quickly
async def test_one_quarantined_instance_does_not_end_a_listing(store):
    async with ledgers(store) as runtime:
        for id in "abc":
            await open_ledger(runtime, id)
    spoil_journal(store, "Ledger/b", 1)
    async with ledgers(reopened(store)) as runtime:
        seen = [view.correlation_id async for view in runtime.instances(Ledger)]
        assert [id for id in seen if id != "b"] == ["a", "c"]


@quickly
async def test_events_and_states_of_old_versions_are_upcast(store):
    def generation(version: int):
        @message(
            name="runtime-test.priced",
            version=version,
            upcasters={1: lambda old: {**old, "tip": 1}} if version > 1 else {},
        )
        @dataclass(frozen=True)
        class Priced:
            id: str
            price: int
            tip: int = 0

        @message(
            name="runtime-test.bill",
            version=version,
            upcasters={1: lambda old: {**old, "tips": 100}} if version > 1 else {},
        )
        @dataclass(frozen=True)
        class Bill:
            total: int = 0
            tips: int = 0

        class Billing(ProcessManager[Bill]):
            name = "Billing"

            @starts(Priced, by="id")
            def priced(self, state, event, do): ...

            @applies(Priced)
            def add(self, state, event):
                return Bill(state.total + event.price, state.tips + event.tip)

        return Priced, Billing

    old_event, old_saga = generation(1)
    async with Runtime(store, [old_saga], Settings(snapshot_every=2)) as runtime:
        for id, count in (("one", 1), ("two", 2), ("three", 3)):
            for _ in range(count):
                await runtime.publish(old_event(id, 5))
    del old_event.__perdure_type__, old_saga
    new_event, new_saga = generation(2)
    async with Runtime(reopened(store), [new_saga]) as runtime:
        tips = {}
        for id in ("one", "two", "three"):
            await runtime.publish(new_event(id, 7, 3))
            tips[id] = (await view_of(runtime, runtime.ref(new_saga, id))).state.tips
        assert tips == {"one": 1 + 3, "two": 100 + 3, "three": 100 + 1 + 3}


@quickly
async def test_a_finished_instance_stays_finished(store):
    async with ledgers(store, snapshot_every=2) as runtime:
        await open_ledger(runtime)
        await runtime.publish(Closed("x"))
    async with ledgers(reopened(store)) as runtime:
        (receipt,) = await runtime.publish(Opened("x"))
        assert str(receipt.outcome) == "finished"
        view = await runtime.state(runtime.ref(Ledger, "x"))
        assert view is not None
        assert view.status is Status.COMPLETED


@quickly
async def test_a_handler_that_changes_its_message_changes_nothing_else(store):
    async with Runtime(store, [Basket, OtherBasket]) as runtime:
        sent = Filled("b", [1])
        publishing = asyncio.create_task(runtime.publish(sent))
        await asyncio.sleep(0)
        sent.items.append(99)  # too late
        await publishing
        for saga in (Basket, OtherBasket):
            ref = runtime.ref(saga, "b")
            live = await view_of(runtime, ref)
            ref.stop(block=False)
            assert live == await runtime.state(ref)
            assert live.state.items == [1]


@pytest.mark.parametrize("written", [False, True])
@quickly
async def test_a_message_that_is_turned_again_is_as_it_was_sent(store, written):
    async with Runtime(store, [Basket], Settings(retry_pause_s=0.001)) as runtime:
        store.fail_writes(after_commit=written)
        await runtime.publish(Filled("b", [1]))
        assert (await view_of(runtime, runtime.ref(Basket, "b"))).state.items == [1]


@quickly
async def test_a_long_history_is_read_page_by_page(store):
    async with ledgers(store, snapshot_every=100_000) as runtime:
        ref = await open_ledger(runtime)
        for start in range(0, 2_500, 500):
            await asyncio.gather(*adding(runtime, ref, *range(start, start + 500)))
    async with ledgers(reopened(store)) as runtime:
        ref = runtime.ref(Ledger, "x")
        assert await items(runtime, ref) == list(range(2_500))
        await add(runtime, ref, -1)
        assert (await view_of(runtime, ref)).sequence_nr == 2_502
        assert len([turn async for turn in runtime.history(ref)]) == 2_502


@pytest.mark.parametrize("number", [1, 3])
@quickly
async def test_a_history_with_a_gap_is_not_shown_as_if_it_were_whole(store, number):
    async with ledgers(store, snapshot_every=2) as runtime:
        await add(runtime, await open_ledger(runtime), 1, 2, 3, 4)
    drop_journal(store, "Ledger/x", number)
    async with ledgers(reopened(store)) as runtime:
        seen = []
        with pytest.raises(errors.CorruptRecord, match=f"row {number} is m") as caught:  # noqa: PT012
            async for turn in runtime.history(runtime.ref(Ledger, "x")):
                seen.append(turn.sequence_nr)
        assert seen == [*range(1, number)]
        assert (caught.value.saga, caught.value.correlation_id) == ("Ledger", "x")
