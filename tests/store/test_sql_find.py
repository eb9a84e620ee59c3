"""Heads found in SQLite: by walking an index, whatever is asked; and what damage does to that."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from perdure.core.commit import Reindexed, Status
from perdure.core.head_query import HeadQuery, Order
from perdure.core.tally import TallyRow
from perdure.store.find_statements import counting, finding
from perdure.store.read_statements import HEADS_AT, TALLIES_ALL
from perdure.store.sql_find import read_found, read_tallies
from perdure.store.sql_heads import _COUNT
from perdure.store.statements import spread
from perdure.testing.sample_rows import head, turn
from tests.store.databases import database, file_store, write_all


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    parameters = [None] * sql.count("?")
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    return [row[3] for row in rows]


INDEX_OF = {
    Order.ID: "INDEX instances_by_status (saga=? AND status=? AND ",
    Order.STARTED: "INDEX instances_by_start (saga=? AND status=? AND ",
    Order.UPDATED: "INDEX instances_by_update (saga=? AND status=? AND ",
    Order.FIELD: "PRIMARY KEY (saga=? AND field=? AND ",
}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order", Order)
def test_every_question_walks_one_index_and_sorts_nothing(tmp_path, order, descending):
    connection, _ = database(tmp_path / "store.db")
    query = finding(order, descending)
    with closing(connection):
        for sql in (query.packed, query.one_by_one, counting(order)):
            steps = plan(connection, sql)
            assert not any("TEMP B-TREE" in step for step in steps), steps
            tables = [step for step in steps if not step.startswith(("CO-ROUTINE", "SCAN found"))]
            [walk] = tables
            assert INDEX_OF[order] in walk
            sign = "<" if descending and sql is not counting(order) else ">"
            assert f"instance{sign}?" in walk or f"instance){sign}(?,?)" in walk


def test_heads_and_tallies_are_read_by_their_keys(tmp_path):
    connection, _ = database(tmp_path / "store.db")
    with closing(connection):
        at, _ = spread(HEADS_AT.one_by_one, 2, ["Order/1", 0])
        assert plan(connection, at)[-1].startswith("SEARCH instances USING PRIMARY KEY")
        assert all("TEMP" not in step for step in plan(connection, TALLIES_ALL.one_by_one))
        [counted] = plan(connection, _COUNT)
        assert counted.startswith("SEARCH instances USING INDEX instances_by")


def filled(path):
    connection, epoch = database(path)
    heads = [head(f"Order/{n}", fields=(("customer", f"sc{n}"),)) for n in range(3)]
    write_all(connection, [turn(row.instance, 1, epoch, head=row) for row in heads], epoch)
    return connection, epoch, heads


ALL = HeadQuery("Order", (), Order.FIELD, "customer")


@pytest.mark.parametrize(
    "change",
    [
        "checksum = checksum + 1",
        "value = 'sc9'",
        "value = CAST(x'ff80' AS TEXT)",
        "instance = 'Order/none'",
        "instance = 'Order/2'",
    ],
)
def test_a_damaged_lookup_is_named_and_stands_in_nobodys_way(tmp_path, change):
    connection, epoch, heads = filled(tmp_path / "store.db")
    with closing(connection):
        connection.execute(f"UPDATE lookups SET {change} WHERE value = 'sc1'")
        found, damaged = read_found(connection, ALL)
        assert found == [heads[0], heads[2]]
        assert len(damaged) == 1
        assert read_found(connection, HeadQuery("Order"))[0] == heads
        write_all(connection, [Reindexed(heads[1], 1)], epoch)
        assert heads[1] in read_found(connection, ALL)[0]


@pytest.mark.parametrize("change", ['fields = \'{"customer":"sc7"}\'', "status = 'completed'"])
def test_a_damaged_head_is_not_found_and_is_mended_by_the_next(tmp_path, change):
    connection, epoch, heads = filled(tmp_path / "store.db")
    with closing(connection):
        connection.execute(f"UPDATE instances SET {change} WHERE instance = 'Order/1'")
        found, damaged = read_found(connection, ALL)
        assert (found, len(damaged)) == ([heads[0], heads[2]], 1)
        after = head("Order/1", Status.STUCK, fields=(("customer", "sc5"),))
        write_all(connection, [turn("Order/1", 2, epoch, head=after)], epoch)
        assert read_found(connection, ALL) == ([heads[0], heads[2], after], [])
        [tally] = read_tallies(connection)[0]
        assert tally == TallyRow("Order", 3, running=2, stuck=1, indexed=("customer",))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sagas SET running = 77",
        "UPDATE sagas SET saga = 'Other'",
        "UPDATE sagas SET indexed = 'nonsense'",
        "UPDATE sagas SET started = 'many'",
        "DELETE FROM sagas",
    ],
)
def test_a_damaged_tally_is_counted_anew(tmp_path, damage, caplog):
    connection, epoch, _ = filled(tmp_path / "store.db")
    with closing(connection):
        connection.execute(damage)
        done = head("Order/1", Status.COMPLETED, updated_at_ms=head("Order/1").started_at_ms + 5)
        write_all(connection, [turn("Order/1", 2, epoch, head=done)], epoch)
        tallies = {tally.saga: tally for tally in read_tallies(connection)[0]}
        assert tallies["Order"] == TallyRow("Order", 3, 1, 0, 2, 0, 1, 0, 5)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE sagas SET running = 77", "sagas row with saga 'Order' fails its checksum"),
        ("DELETE FROM sagas", "its tally is damaged or missing (saga 'Order')"),
    ],
)
def test_a_damaged_tally_is_counted_for_whoever_only_reads(tmp_path, caplog, damage, said):
    async def scenario() -> None:
        connection, _, _ = filled(tmp_path / "store.db")
        connection.execute(damage)
        connection.close()
        store = file_store(tmp_path)
        await store.open()
        assert await store.tallies() == [TallyRow("Order", 3, running=3)]
        await store.close()

    asyncio.run(scenario())
    assert said in caplog.text


def test_a_head_that_is_gone_is_written_and_counted_by_the_next(tmp_path):
    connection, epoch, heads = filled(tmp_path / "store.db")
    with closing(connection):
        connection.execute("DELETE FROM instances WHERE instance = 'Order/1'")
        write_all(connection, [turn("Order/1", 2, epoch, head=heads[1])], epoch)
        assert read_tallies(connection) == (
            [TallyRow("Order", 3, running=3, indexed=("customer",))],
            [],
        )
        assert read_found(connection, ALL) == (heads, [])
