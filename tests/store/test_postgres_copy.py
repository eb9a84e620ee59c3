"""Large groups go by COPY: as whole, fenced and forgiving as small ones, and the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.core.commit import Entry
from perdure.errors import Fenced, SequenceConflict, StoreError
from perdure.store import postgres_copy
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_copy import COPY_MIN
from perdure.store.postgres_database import Database
from perdure.store.postgres_errors import LostConnection
from perdure.store.shards import shard_of
from perdure.testing.sample_rows import outbox_row, turn
from tests.servers.databases import run_sql, until_waiting
from tests.store.proxies import line_to
from tests.store.support_postgres import numbers, on_loop, opened
from tests.store.test_postgres_writing import commits_held_up, until_held_up

MANY = 3 * COPY_MIN
JOURNAL = "SELECT instance, sequence_nr, epoch, message_id, body, checksum FROM perdure.journal"
OUTBOX = "SELECT * FROM perdure.outbox ORDER BY position"
NO_COPY = 10**9


def sending(instance: str, number: int, epoch: int) -> Entry:
    """A turn with a command that nobody has tried yet."""
    job = outbox_row(instance, number, error="", context=b"")
    return turn(instance, number, epoch, outbox=(job,))


def group_of(epoch: int, count: int = MANY, number: int = 1) -> list[Entry]:
    return [sending(f"Order/{n}", number, epoch) for n in range(count)]


async def copies(postgres: str) -> int:
    """How many COPY statements the server has seen, of those it looks at."""
    [[count]] = await run_sql(postgres, "SELECT count(*) FROM perdure.copied")
    return int(count)


COUNTED = (
    "CREATE TABLE perdure.copied (what text)",
    "CREATE FUNCTION perdure.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF current_query() LIKE 'COPY%' THEN"
    " INSERT INTO perdure.copied VALUES (TG_TABLE_NAME); END IF; RETURN NULL; END $$",
    *(
        f"CREATE TRIGGER noted AFTER INSERT ON perdure.{table} EXECUTE FUNCTION perdure.note()"
        for table in ("journal", "outbox")
    ),
)


@pytest.mark.parametrize("shard", [None, 3])
@on_loop
async def test_a_large_group_is_copied_into_the_rows_of_a_small_one(postgres, shard, monkeypatch):
    await run_sql(postgres, *COUNTED)
    store = PostgresStore(postgres, shard=shard)
    async with opened(store) as [epoch]:
        group = group_of(epoch)
        found: list[Sequence[object]] = []
        for least in (COPY_MIN, NO_COPY):
            monkeypatch.setattr(postgres_copy, "COPY_MIN", least)
            assert await store.write(group) == [None] * MANY
            assert await copies(postgres) == 2
            rows = await run_sql(postgres, JOURNAL, OUTBOX)
            found.append([*await run_sql(postgres, JOURNAL), *rows])
            assert len(await store.outbox()) == MANY
            await run_sql(postgres, "TRUNCATE perdure.journal, perdure.outbox")
        assert sorted(map(str, found[0])) == sorted(map(str, found[1]))
        assert len(found[0]) == 2 * MANY


@on_loop
async def test_each_copied_job_lies_in_the_shard_of_its_instance(postgres):
    store = PostgresStore(postgres)
    async with opened(store) as [epoch]:
        await store.write(group_of(epoch))
        rows = await run_sql(postgres, "SELECT instance, shard FROM perdure.outbox")
        assert len(rows) == MANY
        assert [shard for _, shard in rows] == [shard_of(key, 16) for key, _ in rows]


@on_loop
async def test_who_lost_its_shard_copies_nothing(postgres):
    database = Database(postgres)
    before, after = PostgresStore(database, shard=3), PostgresStore(database, shard=3)
    async with opened(before, after) as (old, new):
        answers = await before.write(group_of(old))
        assert [type(answer) for answer in answers] == [Fenced] * MANY
        assert await after.write(group_of(new)) == [None] * MANY


@on_loop
async def test_a_takeover_waits_for_the_copies_under_way(postgres):
    before, after = PostgresStore(postgres, shard=3), PostgresStore(postgres, shard=3)
    async with opened(before) as [epoch], commits_held_up(postgres) as goes_on:
        writing = asyncio.create_task(before.write(group_of(epoch)))
        await until_held_up(postgres)
        taking = asyncio.create_task(after.open())
        await until_waiting(postgres, 2)
        assert not taking.done()
        goes_on.set()
        assert await writing == [None] * MANY
        await taking
        assert await numbers(after, f"Order/{MANY - 1}") == [1]
        await after.close()


@on_loop
async def test_losers_of_a_large_group_are_left_out(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        await store.write([turn("Order/7", 1, epoch)])
        answers = [*await store.write(group_of(epoch))]
        assert isinstance(answers.pop(7), SequenceConflict)
        assert answers == [None] * (MANY - 1)
        assert len(await store.outbox()) == MANY - 1


BAD = {
    "a NUL": lambda epoch: turn("Order/bad\0", 1, epoch),
    "a lone surrogate": lambda epoch: turn("Order/\ud800", 1, epoch),
    "too large a number": lambda epoch: turn("Order/bad", 1, epoch, outbox=(_late_job(),)),
    "the position of another": lambda epoch: turn("Order/bad", 1, epoch, outbox=(_taken_job(),)),
}


def _late_job():
    return outbox_row("Order/bad", 1, error="", created_at_ms=2**63)


def _taken_job():
    return outbox_row("Order/bad", 1, error="", position=10**6)


@pytest.mark.parametrize("why", BAD)
@on_loop
async def test_one_row_that_cannot_be_copied_fails_no_neighbour(postgres, why):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        await store.write([turn("Order/first", 1, epoch, outbox=(_taken_job(),))])
        group = [*group_of(epoch, MANY // 2), BAD[why](epoch)]
        group += [sending(f"Trip/{n}", 1, epoch) for n in range(MANY // 2)]
        answers = await store.write(group)
        assert [n for n, answer in enumerate(answers) if answer is not None] == [MANY // 2]
        assert type(answers[MANY // 2]) is StoreError
        assert len(await store.outbox()) == MANY + 1
        assert await store.write(group_of(epoch, number=2, count=MANY // 2)) == [None] * (MANY // 2)


@on_loop
async def test_copies_of_which_nobody_knows_the_end_are_waited_for(postgres):
    async with line_to(postgres) as (url, line), commits_held_up(postgres) as goes_on:
        store = PostgresStore(url, shard=3)
        async with opened(store) as [epoch]:
            writing = asyncio.create_task(store.write(group_of(epoch)))
            await until_held_up(postgres)
            line.cut()
            with pytest.raises(LostConnection):
                await writing
            reading = asyncio.create_task(numbers(store, "Order/1"))
            await until_waiting(postgres, 2)
            assert not reading.done()
            goes_on.set()
            assert await reading == [1]


@on_loop
async def test_a_session_ended_in_the_midst_of_a_copy_leaves_nothing_of_it(postgres):
    import asyncpg

    store = PostgresStore(postgres, shard=3)
    holder = await asyncpg.connect(postgres.replace("+asyncpg", ""))
    async with opened(store) as [epoch]:
        await holder.execute("BEGIN; LOCK TABLE perdure.outbox")
        writing = asyncio.create_task(store.write(group_of(epoch)))
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND database IS NOT NULL"
        while not (found := await run_sql(postgres, waiting)):
            pass  # each look is a connection of its own
        await run_sql(postgres, f"SELECT pg_terminate_backend({found[0][0]})")
        await holder.close()
        with pytest.raises(LostConnection):
            await writing
        assert not await numbers(store, "Order/1")
        assert await store.write(group_of(epoch)) == [None] * MANY


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.binary(max_size=20)), min_size=1, max_size=12)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(rows=ROWS)
def test_whatever_is_copied_is_read_back_as_it_was(postgres, rows):
    async def there_and_back() -> None:
        store = PostgresStore(postgres, shard=3)
        async with opened(store) as [epoch]:
            made = [
                outbox_row("Order/1", 1, n, error="", target=target, type=type_, body=body)
                for n, (target, type_, body) in enumerate(rows * COPY_MIN)
            ]
            await store.write([turn(f"Order/{epoch}", 1, epoch, outbox=tuple(made))])
            found = await store.outbox(limit=len(made))
            assert found == made
            await run_sql(postgres, "TRUNCATE perdure.outbox")

    asyncio.run(there_and_back())
