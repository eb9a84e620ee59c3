"""Mail in PostgreSQL: in order, whole, and never passed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from perdure.store import postgres_mail
from perdure.store.mail import MailKind, MailRow, Trace
from perdure.store.migrations import upgrade
from perdure.store.postgres_database import Database
from perdure.store.postgres_mail import PostgresMail
from perdure.store.shards import shard_of
from tests.runtime.support import quickly
from tests.servers.databases import run_sql
from tests.servers.postgres import Server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresMail]:
    database = Database(url)
    await database.open()
    try:
        yield PostgresMail(database)
    finally:
        await database.close()


def row(instance: str, message_id: str, body: bytes = b"hello") -> MailRow:
    return MailRow(instance, message_id, MailKind.MESSAGE, body, "replies/7", 1_700_000_000_000)


@quickly
async def test_rows_come_back_as_they_were_put_in_their_order(postgres: str) -> None:
    async with opened(postgres) as mail:
        rows = [row(f"Order/o-{n}", f"m-{n}", bytes([n])) for n in range(200)]
        positions = await mail.put(rows)
        assert list(positions) == sorted(positions)
        found = await mail.page(None, 0)
        assert [(one.message_id, one.position) for one in found] == [
            (one.message_id, position) for one, position in zip(rows, positions, strict=True)
        ]
        assert found[7].body == b"\x07"
        assert (found[7].reply_to, found[7].created_at_ms) == ("replies/7", 1_700_000_000_000)
        assert not any(one.is_damaged for one in found)


@quickly
async def test_a_page_is_of_one_shard_without_what_is_under_way_or_aside(postgres: str) -> None:
    async with opened(postgres) as mail:
        positions = await mail.put([row(f"Order/o-{n}", f"m-{n}") for n in range(100)])
        mine = [n for n in range(100) if shard_of(f"Order/o-{n}", 16) == 3]
        found = await mail.page(3, 0)
        assert [one.instance for one in found] == [f"Order/o-{n}" for n in mine]
        found = await mail.page(3, 0, [positions[mine[0]]], [f"Order/o-{mine[1]}"], 1)
        assert [one.instance for one in found] == [f"Order/o-{mine[2]}"]


@quickly
async def test_what_is_removed_is_gone(postgres: str) -> None:
    async with opened(postgres) as mail:
        positions = await mail.put([row("Order/o-1", f"m-{n}") for n in range(3)])
        rows = await mail.page(None, 0)
        await mail.remove([rows[1], replace(rows[2], position=99_999)], 0)
        await mail.remove([], 0)
        assert await mail.present(positions) == {positions[0], positions[2]}


@quickly
async def test_what_is_committed_late_is_seen_late(postgres: str) -> None:
    async with opened(postgres) as mail:
        late = await asyncpg.connect(postgres.replace("+asyncpg", ""))
        try:
            transaction = late.transaction()
            await transaction.start()
            await late.execute(
                "INSERT INTO perdure.mail (shard, instance, message_id, kind, body, reply_to,"
                " created_at_ms, checksum) VALUES (0, 'Order/late', 'm', 1, '', '', 0, 0)"
            )
            (position,) = await mail.put([row("Order/o-1", "m-1")])
            assert [one.message_id for one in await mail.page(None, 0)] == ["m-1"]
            await transaction.commit()
            (found,) = await mail.page(None, 0, [position])
            assert (found.instance, found.position < position) == ("Order/late", True)
            assert found.is_damaged
        finally:
            await late.close()


@quickly
async def test_senders_at_once_keep_their_own_order(postgres: str) -> None:
    async with opened(postgres) as mail:

        async def send(name: str) -> None:
            for n in range(10):
                await mail.put([row(f"Order/{name}", f"{name}-{n}-{i}") for i in range(5)])

        await asyncio.gather(*(send(name) for name in "abc"))
        found = await mail.page(None, 0)
        for name in "abc":
            ids = [one.message_id for one in found if one.instance == f"Order/{name}"]
            assert ids == [f"{name}-{n}-{i}" for n in range(10) for i in range(5)]


@quickly
async def test_who_is_not_the_owner_any_more_takes_nothing_and_removes_nothing(
    postgres: str,
) -> None:
    async with opened(postgres) as mail:
        await mail.put([row(f"Order/o-{n}", f"m-{n}") for n in range(100)])
        mine = [n for n in range(100) if shard_of(f"Order/o-{n}", 16) == 3]
        admin = await asyncpg.connect(postgres.replace("+asyncpg", ""))
        try:
            await admin.execute("UPDATE perdure.shards SET epoch = 7 WHERE shard = 3")
        finally:
            await admin.close()
        assert list(await mail.page(3, 6)) == []
        assert len(await mail.page(3, 7)) == len(mine)
        first = (await mail.page(3, 7))[:1]
        await mail.remove(first, 6)
        assert len(await mail.page(3, 7)) == len(mine)
        await mail.remove(first, 7)
        assert len(await mail.page(3, 7)) == len(mine) - 1
        assert len(await mail.page(None, 0)) == 100 - len(mine)


def test_who_removes_what_a_crash_took_removes_nobody_elses(own_postgres: Server) -> None:
    """A row that was put without waiting for the disk was read, and is gone with the server, which
    gives its position to another: if that was told, nobody would put it again.

    The server logs that it will give out the next 32 positions, so the 34th is the one to lose.
    """
    url = own_postgres.url("postgres")

    async def before() -> list[MailRow]:
        setting = "ALTER SYSTEM SET wal_writer_delay = '10s'"
        await run_sql(url, setting, "SELECT pg_reload_conf()")
        await upgrade(url)
        async with opened(url) as mail:
            await mail.put([row("Order/o-1", f"m-{n}") for n in range(33)])
            await mail.put([row("Order/o-1", "lost")], ["perdure.test"])
            read = list(await mail.page(None, 0))
            own_postgres.kill()
            return read[33:]

    async def after(read: list[MailRow]) -> None:
        async with opened(url) as mail:
            [position] = await mail.put([row("Order/o-2", "told")])
            assert [position] == [one.position for one in read]
            await mail.remove(read, 0)
            assert (await mail.page(None, 0))[-1].message_id == "told"

    read = asyncio.run(before())
    own_postgres.start()
    asyncio.run(after(read))


@quickly
async def test_a_message_is_traced_to_its_row_and_to_its_turn(postgres: str) -> None:
    async with opened(postgres) as mail:
        positions = await mail.put([row("Order/o-1", "m-1"), row("Order/o-2", "m-1")])
        here, there = ("Order/o-1", "m-1"), ("Order/o-2", "m-1")
        assert await mail.traces([here, ("Order/o-1", "m-2")]) == {here: Trace(positions[0], 0)}
        journaled = (
            "INSERT INTO perdure.journal (instance, sequence_nr, epoch, message_id, body, "
            "checksum) VALUES ('Order/o-2', 7, 1, 'm-1', '', 0)"
        )
        await run_sql(postgres, journaled)
        assert await mail.traces([here, there]) == {
            here: Trace(positions[0], 0),
            there: Trace(0, 7),
        }


@quickly
async def test_of_a_long_journal_the_last_turns_are_searched(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of all would hold up the mail of the process for as long as the disk takes."""
    monkeypatch.setattr(postgres_mail, "TURNS_SEARCHED", 3)
    turns = (
        "INSERT INTO perdure.journal (instance, sequence_nr, epoch, message_id, body, checksum) "
        "SELECT 'Order/o-' || o, n, 1, 'm-' || n, '', 0 "
        "FROM generate_series(1, 2) o, generate_series(1, 9) n"
    )
    await run_sql(postgres, turns)
    async with opened(postgres) as mail:
        asked = [(f"Order/o-{o}", f"m-{n}") for o in (1, 2) for n in range(1, 10)]
        found = await mail.traces([*asked, *asked])
        assert found == {one: Trace(0, int(one[1][2:])) for one in asked if one[1] > "m-6"}
