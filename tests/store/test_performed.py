"""The record of a performed job: one, while the job is there; whoever is late gets none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from perdure.errors import CorruptRecord, NotJoinable
from perdure.store import performed
from perdure.store.joined import Joined, in_transaction
from perdure.store.performed import check_there, forget, record, recorded, sweep
from tests.runtime.payments import engine_of
from tests.runtime.support import in_loop
from tests.servers.databases import run_sql, until_waiting

within = in_loop(20)

JOB = (
    "INSERT INTO perdure.outbox (position, instance, sequence_nr, idx, kind, target, type, version,"
    " created_at_ms, context, given_id, attempts, due_at_ms, error, follows, leads, expires_at_ms,"
    " body, checksum, shard) VALUES ({}, '', 0, 0, 1, 'q', 't', 1, 0, '', '{}', 0, 0, '', 0, 0, 0,"
    " '', 0, 0)"
)
LETTER = (
    "INSERT INTO perdure.dead_letters (instance, message_id, type, reason, error, attempts,"
    " created_at_ms, queue, job, body, checksum, shard)"
    " VALUES ('', 'm', 't', 'r', '', 0, 0, 'q', {}, '', 0, 0)"
)


async def job(url: str, *positions: int) -> None:
    await run_sql(url, *(JOB.format(one, one) for one in positions))


async def put(connection: AsyncConnection, position: int, body: bytes = b"x") -> bool:
    return await in_transaction(connection, record, "perdure", position, body, 7)


async def read(engine: AsyncEngine, position: int) -> bytes | None:
    async with engine.connect() as connection:
        return await in_transaction(connection, recorded, "perdure", position)


@within
async def test_a_record_is_there_with_the_transaction(postgres: str) -> None:
    engine = engine_of(postgres)
    await job(postgres, 5)
    async with engine.connect() as connection:
        assert await put(connection, 5, b"what it did")
        assert await in_transaction(connection, recorded, "perdure", 5) == b"what it did"
        assert await read(engine, 5) is None
        await connection.rollback()
        assert await read(engine, 5) is None
        assert await put(connection, 5, b"what it did")
        await connection.commit()
    assert await read(engine, 5) == b"what it did"


@within
async def test_of_two_at_once_the_second_waits_and_has_none(postgres: str) -> None:
    engine = engine_of(postgres)
    await job(postgres, 5)
    async with engine.connect() as first, engine.connect() as second:
        assert await put(first, 5, b"first")
        late = asyncio.create_task(put(second, 5, b"second"))
        await until_waiting(postgres)
        await first.commit()
        assert not await late
    assert await read(engine, 5) == b"first"


@within
async def test_of_two_at_once_the_second_has_it_if_the_first_rolls_back(postgres: str) -> None:
    engine = engine_of(postgres)
    await job(postgres, 5)
    async with engine.connect() as first, engine.connect() as second:
        assert await put(first, 5, b"first")
        late = asyncio.create_task(put(second, 5, b"second"))
        await until_waiting(postgres)
        await first.rollback()
        assert await late
        await second.commit()
    assert await read(engine, 5) == b"second"


@within
async def test_of_a_job_that_is_gone_there_is_none(postgres: str) -> None:
    async with engine_of(postgres).connect() as connection:
        assert not await put(connection, 5)


@within
async def test_whoever_deletes_the_job_waits_for_the_commit(postgres: str) -> None:
    """Else an attempt could commit that nobody asks about any more."""
    engine = engine_of(postgres)
    await job(postgres, 5)
    async with engine.connect() as connection:
        assert await put(connection, 5)
        deleting = asyncio.create_task(run_sql(postgres, "DELETE FROM perdure.outbox"))
        await until_waiting(postgres)
        await connection.commit()
        await deleting
    async with engine.connect() as connection:
        assert not await put(connection, 5)


@within
async def test_whoever_rewrites_the_job_does_not_wait(postgres: str) -> None:
    await job(postgres, 5)
    async with engine_of(postgres).connect() as connection:
        assert await put(connection, 5)
        await run_sql(postgres, "UPDATE perdure.outbox SET attempts = 1")
        await connection.commit()


@within
async def test_who_stops_before_the_commit_loses_the_transaction(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performed, "COMMIT_WITHIN_MS", 100)
    engine = engine_of(postgres)
    await job(postgres, 5)
    async with engine.connect() as connection:
        assert await put(connection, 5)
        await run_sql(postgres, "DELETE FROM perdure.outbox")
        with pytest.raises(DBAPIError):
            await connection.commit()
        await connection.invalidate()
    assert await read(engine, 5) is None
    async with engine.connect() as connection:  # the limit ended with that transaction
        shown = await connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout")
        assert shown.scalar() == "0"


@within
async def test_a_damaged_record_is_no_result(postgres: str) -> None:
    await run_sql(postgres, "INSERT INTO perdure.performed VALUES ('5', 'x', 7, 4711)")
    with pytest.raises(CorruptRecord, match="job 5"):
        await read(engine_of(postgres), 5)


async def changed(engine: AsyncEngine, function: Any, *arguments: Any) -> int:
    async with engine.begin() as connection:
        count: int = await in_transaction(connection, function, "perdure", *arguments)
        return count


@within
async def test_records_of_settled_jobs_go_by_their_positions_or_by_sweeping(postgres: str) -> None:
    engine = engine_of(postgres)
    await job(postgres, *range(1, 6))
    async with engine.begin() as connection:
        for position in range(1, 6):
            assert await put(connection, position)
    assert await changed(engine, forget, [2, 99]) == 1
    await run_sql(postgres, "DELETE FROM perdure.outbox WHERE position IN (3, 4)")
    await run_sql(postgres, LETTER.format(4))  # it may be redriven
    assert await changed(engine, sweep) == 1
    left = await run_sql(postgres, "SELECT job FROM perdure.performed ORDER BY 1")
    assert [row[0] for row in left] == [1, 4, 5]


@within
async def test_a_database_without_our_tables_is_named(empty_postgres: str) -> None:
    def check(joined: Joined) -> None:
        check_there(joined, "perdure")

    async with engine_of(empty_postgres).connect() as connection:
        with pytest.raises(NotJoinable, match=r"no table perdure\.performed"):
            await in_transaction(connection, check)
