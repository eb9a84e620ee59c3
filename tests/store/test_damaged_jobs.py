"""A damaged job stays where it is, is named, and does not stand in the way of the others."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from perdure.store import read_statements as queries
from perdure.store.sql_read import read_depths, read_jobs_at, read_sound
from perdure.testing.sample_rows import inbox_row, jobs, outbox_row, settlement
from tests.store.databases import database, file_store, on_writer, write_all


def filled(connection, count: int) -> list[int]:
    rows = [outbox_row("Order/1", 1, index, due_at_ms=5) for index in range(count)]
    write_all(connection, [settlement(outbox=tuple(rows))], 1)
    return [row.position for row in rows]


JOB_READS: list[tuple[queries.Query, list[Any]]] = [
    (queries.JOBS_READY, ["payments", 9]),
    (queries.JOBS_DUE, [0, 0]),
]


@pytest.mark.parametrize(("query", "values"), JOB_READS)
@pytest.mark.parametrize(("limit", "hurt"), [(2, 1), (2, 2), (2, 3), (3, 5), (10, 4)])
def test_damaged_jobs_do_not_stand_in_the_way(tmp_path, query, values, limit, hurt):
    connection, _ = database(tmp_path / "store.db")
    positions = filled(connection, 8)
    connection.execute(f"UPDATE outbox SET version = 99 WHERE position < {positions[hurt]}")
    rows, damaged = read_sound(connection, query, [*values, limit])
    assert [row.position for row in rows] == positions[hurt:][:limit]
    assert all(str(position) in str(damaged) for position in positions[:hurt])
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (8,)
    connection.close()


def test_a_damaged_job_is_passed_over_by_position(tmp_path):
    connection, _ = database(tmp_path / "store.db")
    positions = filled(connection, 3)
    hurt = "UPDATE outbox SET context = 'no bytes' WHERE position = ?"
    connection.execute(hurt, [positions[1]])
    hurt = "UPDATE outbox SET error = CAST(x'ff80fe' AS TEXT) WHERE position = ?"
    connection.execute(hurt, [positions[2]])
    rows, damaged = read_jobs_at(connection, positions)
    assert [row.position for row in rows] == positions[:1]
    assert len(damaged) == 2
    connection.close()


def test_a_damaged_job_is_named_in_the_log_once(tmp_path, caplog):
    async def scenario() -> None:
        store = file_store(tmp_path)
        await store.open()
        first, second = jobs(2, due_at_ms=5)
        waits = inbox_row("Order/1", "m")
        await store.write([settlement(outbox=(first, second), inbox=waits)])
        for table in ("outbox", "inbox"):
            sql = f"UPDATE {table} SET attempts = 99 WHERE instance = 'Order/1'"
            await on_writer(
                store, sqlite3.Connection.execute, f"{sql} AND rowid != {second.position}"
            )
        for _ in range(3):
            assert await store.jobs_ready("payments", 9) == [second]
            assert await store.jobs_due() == [second]
            assert await store.jobs_at([first.position]) == []
            assert await store.inbox_due() == []
        await store.close()
        assert caplog.text.count(f"position {first.position} ") == 1
        assert caplog.text.count("message_id 'm'") == 1

    asyncio.run(scenario())


def test_a_damaged_queue_name_is_counted_as_it_is(tmp_path):
    connection, _ = database(tmp_path / "store.db")
    filled(connection, 2)
    connection.execute("UPDATE outbox SET target = CAST(x'ff80' AS TEXT) WHERE idx = 0")
    assert read_depths(connection) == {"payments": 1, "\udcff\udc80": 1}
    assert connection.execute("SELECT 'x'").fetchone() == ("x",)
    connection.close()
