"""Damage in PostgreSQL's rows: found at its row, named, and kept from its neighbours."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.commit import Entry, Status
from perdure.core.head_query import HeadQuery, Order
from perdure.core.tally import TallyRow
from perdure.errors import CorruptRecord
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_schema import metadata
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    quarantine_row,
    queue_row,
    settlement,
    snapshot,
    turn,
    turns,
)
from tests.servers.databases import run_sql
from tests.store.support_postgres import on_loop, opened

SAGA = "Order"
NEAR = "Order/near"


def flipped(column: Any) -> str:
    """The value with some bits changed, as an expression of its type."""
    kind = column.type.python_type
    name = f'"{column.name}"'
    if kind is int:
        return f"{name} # 64"
    if kind is bytes:
        return f"set_byte({name} || '\\x00'::bytea, 0, 255)"
    return f"overlay({name} placing 'ü' from 1)"


def stored(table: str) -> list[Any]:
    """The columns that a checksum is over; a position that is given out orders, and names none."""
    skipped = {"shard"} if table == "outbox" else {"shard", "position"}
    return [each for each in metadata.tables[table].columns if each.name not in skipped]


def everything(name: str, epoch: int) -> list[Entry]:
    return [
        *turns(name, 1, 4, epoch),
        turn(
            name,
            5,
            epoch,
            outbox=(outbox_row(name, 5, target=name, due_at_ms=7),),
            deadlines_set=(deadline(name, "pay", 5, 500),),
            head=head(name),
        ),
        inbox_row(name, "waits"),
        dead_letter(name, "dead"),
        queue_row(name),
        settlement(quarantine=quarantine_row(name)),
    ]


LISTED = ("deadlines", "inbox", "inbox_due", "outbox", "jobs_due", "dead_letters", "heads")


@pytest.mark.parametrize(
    "table",
    ["deadlines", "inbox", "outbox", "dead_letters", "instances", "queues", "quarantines"],
)
@on_loop
async def test_a_damaged_row_is_passed_over_and_named(postgres, table, caplog):
    """One instance for each column, in which that one is damaged."""
    store = PostgresStore(postgres, shard=3)
    names = {column.name: f"Order/hit-{column.name}" for column in stored(table)}
    async with opened(store) as [epoch]:
        entries = [entry for name in (NEAR, *names.values()) for entry in everything(name, epoch)]
        assert await store.write(entries) == [None] * len(entries)
        key = "name" if table == "queues" else "instance"
        for column in stored(table):
            where = f"{key} = '{names[column.name]}'"
            change = f'"{column.name}" = {flipped(column)}'
            await run_sql(postgres, f"UPDATE perdure.{table} SET {change} WHERE {where}")
        for listing in LISTED:
            rows = await getattr(store, listing)()
            is_hit = listing in (table, *_other_names(table))
            expected = 1 if is_hit else 1 + len(names)
            assert len(rows) == expected, (listing, len(rows))
            assert NEAR in {row.instance for row in rows}
        is_of_queues = table == "queues"
        reasons = [row.reason for row in await store.queues() if row.name != NEAR]
        damaged = [reason for reason in reasons if "damaged" in reason]
        assert len(damaged) == (len(names) if is_of_queues else 0)
        aside = await store.quarantines()
        unknown = [row for row in aside if row.reason == "unknown"]
        assert len(unknown) == (len(names) if table == "quarantines" else 0)
        assert len(aside) == 1 + len(names)
        said = [record for record in caplog.records if "passed over" in record.getMessage()]
        assert len(said) >= len(names)


def _other_names(table: str) -> tuple[str, ...]:
    return {"inbox": ("inbox_due",), "outbox": ("jobs_due",), "instances": ("heads",)}.get(
        table, ()
    )


@on_loop
async def test_a_damaged_turn_is_its_instances_alone(postgres):
    columns = stored("journal")
    names = [f"Order/hit-{column.name}" for column in columns]
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        for name in (NEAR, *names):
            await store.write(turns(name, 1, 5, epoch))
        for column, name in zip(columns, names, strict=True):
            await run_sql(
                postgres,
                f'UPDATE perdure.journal SET "{column.name}" = {flipped(column)}'
                f" WHERE instance = '{name}' AND sequence_nr = 3",
            )
        near, *hit = await store.load([NEAR, *names])
        assert (near.corrupt, len(near.turns)) == (None, 5)
        assert all(isinstance(loaded.corrupt, CorruptRecord) for loaded in hit)


@on_loop
async def test_a_damaged_snapshot_gives_way_to_the_one_before_it(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        await store.write([*turns(NEAR, 1, 5, epoch), snapshot(NEAR, 1, b"1"), snapshot(NEAR, 3)])
        await run_sql(postgres, "UPDATE perdure.snapshots SET checksum = 1 WHERE sequence_nr = 3")
        [loaded] = await store.load([NEAR])
        assert loaded.snapshot == snapshot(NEAR, 1, b"1")
        assert [row.sequence_nr for row in loaded.turns] == [2, 3, 4, 5]


@on_loop
async def test_a_journal_that_is_gone_is_missed(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        await store.write([turn(NEAR, 1, epoch, head=head(NEAR))])
        await run_sql(postgres, "DELETE FROM perdure.journal")
        [loaded] = await store.load([NEAR])
        assert loaded.corrupt is not None
        assert "no journal" in loaded.corrupt.problem


@pytest.mark.parametrize("shard", [None, 3])
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE perdure.sagas SET running = 77",
        "UPDATE perdure.sagas SET saga = 'Other'",
        "UPDATE perdure.sagas SET indexed = 'nonsense'",
        "DELETE FROM perdure.sagas",
    ],
)
@on_loop
async def test_a_damaged_tally_is_counted_anew(postgres, damage, shard):
    store = PostgresStore(postgres, shard=shard)
    async with opened(store) as [epoch]:
        heads = [head(f"Order/{n}", fields=(("customer", f"sc{n}"),)) for n in range(40)]
        await store.write([turn(row.instance, 1, epoch, head=row) for row in heads])
        whole = [TallyRow("Order", 40, running=40, indexed=("customer",))]
        assert await store.tallies() == whole
        await run_sql(postgres, damage)
        assert await store.tallies() == [TallyRow("Order", 40, running=40)]
        done = [
            head(row.instance, Status.COMPLETED, updated_at_ms=row.started_at_ms + 5)
            for row in heads
        ]
        await store.write([turn(row.instance, 2, epoch, head=row) for row in done])
        tallies = {tally.saga: tally for tally in await store.tallies()}
        assert tallies["Order"] == TallyRow("Order", 40, 40, kept_completed=40, duration_ms=200)


@on_loop
async def test_each_shard_counts_its_own_and_who_looks_counts_all(postgres):
    everything_, third = PostgresStore(postgres), PostgresStore(postgres, shard=3)
    look = PostgresStore(postgres, read_only=True)
    async with opened(everything_) as [epoch]:
        heads = [head(f"Order/{n}", fields=(("customer", "s"),)) for n in range(40)]
        await everything_.write([turn(row.instance, 1, epoch, head=row) for row in heads])
    async with opened(third, look) as [epoch, _]:
        [before] = await third.tallies()
        assert 0 < before.running < 40
        row = head("Order/new", Status.COMPLETED, fields=(("customer", "s"),))
        await third.write([turn("Order/new", 1, epoch, head=row)])
        [after] = await third.tallies()
        assert (after.started, after.running) == (before.started + 1, before.running)
        [whole] = await look.tallies()
        assert (whole.started, whole.running, whole.completed) == (41, 40, 1)
        assert whole.indexed == ("customer",)
        by_field = HeadQuery("Order", (), Order.FIELD, "customer")
        assert len(await look.find(by_field)) == 41
        assert len(await third.find(by_field)) == after.kept
        assert await third.count(by_field) == after.kept
