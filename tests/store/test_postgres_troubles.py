"""What can be wrong with a PostgreSQL server, and what a store says of it."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from perdure.errors import (
    DefinitionError,
    NotADatabase,
    SchemaTooNew,
    SchemaTooOld,
    SequenceConflict,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotWritable,
    StoreUnavailable,
)
from perdure.store.migrations import upgrade
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.postgres_errors import LostConnection
from perdure.store.urls import store_from_url, store_to_look_at
from perdure.testing.sample_rows import head, turn, turns
from tests.servers.databases import run_sql
from tests.servers.postgres import Server
from tests.store.support_postgres import numbers, on_loop, opened

SECRET = "a secret of ours"


def changed(url: str, **parts: object) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)  # type: ignore[arg-type]


async def refused(url: str | Database, **options: object) -> Any:
    """The error that opening raises; it must say what to do, and no password."""
    store = PostgresStore(url, **options)  # type: ignore[arg-type]
    with pytest.raises(StoreError) as caught:
        await store.open()
    await store.close()
    assert caught.value.remedy
    password = store.database.address.url.password
    assert password
    assert str(password) not in str(caught.value)
    return caught.value


async def user(url: str, *grants: str) -> str:
    """The URL as another user with these rights."""
    name = "somebody"
    await run_sql(
        url,
        f"DROP ROLE IF EXISTS {name}",
        f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'",
        *(each.format(name=name) for each in grants),
    )
    return changed(url, username=name, password=SECRET)


@pytest.fixture
def nobody_left(postgres: str):
    yield
    drop = "DROP OWNED BY somebody; DROP ROLE somebody"
    asyncio.run(run_sql(postgres, *drop.split(";")))


@on_loop
async def test_nobody_listens_there(postgres):
    error = await refused(changed(postgres, port=1))
    assert type(error) is StoreUnavailable
    assert "cannot reach" in str(error)
    assert "port" in str(error)


@on_loop
async def test_there_is_no_such_machine(postgres):
    error = await refused(changed(postgres, host="no-such-host.invalid"))
    assert type(error) is StoreUnavailable
    assert "cannot reach" in str(error)


@on_loop
async def test_the_password_is_wrong(postgres):
    error = await refused(changed(postgres, password=SECRET))
    assert type(error) is StoreUnavailable
    assert "password" in str(error)


@on_loop
async def test_there_is_no_such_database(postgres):
    error = await refused(changed(postgres, database="no_such_database"))
    assert type(error) is StoreUnavailable
    assert "CREATE DATABASE no_such_database" in str(error)


@on_loop
async def test_the_user_may_not_use_the_schema(postgres, nobody_left):
    error = await refused(await user(postgres))
    assert type(error) is StoreNotWritable
    assert "grant" in str(error)


@on_loop
async def test_the_user_may_read_and_not_write(postgres, nobody_left):
    url = await user(
        postgres,
        "GRANT USAGE ON SCHEMA perdure TO {name}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA perdure TO {name}",
    )
    assert type(await refused(url)) is StoreNotWritable
    async with opened(PostgresStore(url, read_only=True)):
        pass


@on_loop
async def test_the_user_has_too_many_connections(postgres, nobody_left):
    grants = ("ALTER ROLE {name} CONNECTION LIMIT 1", "GRANT ALL ON SCHEMA perdure TO {name}")
    tables = "GRANT ALL ON ALL TABLES IN SCHEMA perdure TO {name}"
    url = await user(postgres, *grants, tables)
    async with opened(PostgresStore(url, read_only=True)):
        error = await refused(url, read_only=True)
        assert type(error) is StoreUnavailable
        assert "max_connections" in str(error)


@on_loop
async def test_there_are_no_tables(empty_postgres):
    error = await refused(empty_postgres)
    assert type(error) is SchemaTooOld
    assert "perdure db upgrade" in str(error)
    assert not await run_sql(
        empty_postgres, "SELECT FROM pg_namespace WHERE nspname = 'perdure'"
    )  # nobody has made any


@pytest.mark.parametrize(("revision", "kind"), [("0000", SchemaTooOld), ("9999", SchemaTooNew)])
@on_loop
async def test_the_tables_are_of_another_perdure(postgres, revision, kind):
    await run_sql(postgres, f"UPDATE perdure.perdure_version SET version_num = '{revision}'")
    error = await refused(postgres)
    assert type(error) is kind
    assert revision in str(error)


@on_loop
async def test_tables_in_a_schema_of_another_name(empty_postgres):
    url = make_url(empty_postgres).update_query_dict({"schema": 'our "own" Schema'})
    named = url.render_as_string(hide_password=False)
    await upgrade(named)
    store = store_from_url(named.replace("+asyncpg", ""))
    assert isinstance(store, PostgresStore)
    async with opened(store) as [epoch]:
        await store.write([turn("Order/1", 1, epoch, head=head("Order/1"))])
        assert store.name.startswith("postgresql 1")
        look = store_to_look_at(named)
        assert isinstance(look, PostgresStore)
        async with opened(look):
            assert await numbers(look) == [1]
            assert await look.size() > 100_000
        assert type(await refused(empty_postgres)) is SchemaTooOld


@on_loop
async def test_a_table_is_gone(postgres):
    await run_sql(postgres, "DROP TABLE perdure.journal")
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        with pytest.raises(NotADatabase):
            await store.write([turn("Order/1", 1, epoch)])


@on_loop
async def test_the_rows_of_the_shards_are_gone(postgres):
    await run_sql(postgres, "DELETE FROM perdure.shards WHERE shard = 3")
    assert type(await refused(postgres, shard=3)) is SchemaTooOld
    with pytest.raises(DefinitionError, match="there is no shard 16"):
        await PostgresStore(postgres, shard=16).open()


@on_loop
async def test_the_server_only_reads(postgres):
    error = await refused(Database(postgres, read_only=True), shard=3)
    assert type(error) is StoreNotWritable
    assert "standby" in str(error)


@on_loop
async def test_the_servers_disk_is_full(postgres):
    await run_sql(
        postgres,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER is_full BEFORE INSERT ON perdure.journal EXECUTE FUNCTION full_disk()",
    )
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        with pytest.raises(StoreFull, match="make room"):
            await store.write([turn("Order/1", 1, epoch)])
        assert not await numbers(store)
        await run_sql(postgres, "DROP TRIGGER is_full ON perdure.journal")
        assert await store.write([turn("Order/1", 1, epoch)]) == [None]


@on_loop
async def test_a_lock_is_held_for_too_long(postgres, monkeypatch):
    import asyncpg

    monkeypatch.setattr("perdure.store.postgres_database.LOCK_S", 0.2)
    store = PostgresStore(postgres, shard=3)
    holder = await asyncpg.connect(postgres.replace("+asyncpg", ""))
    async with opened(store) as [epoch]:
        await holder.execute("BEGIN; LOCK TABLE perdure.journal")
        with pytest.raises(StoreUnavailable, match="end it"):
            await store.write([turn("Order/1", 1, epoch)])
        await holder.close()
        assert await store.write([turn("Order/1", 1, epoch)]) == [None]


@on_loop
async def test_a_statement_takes_too_long(postgres, monkeypatch):
    monkeypatch.setattr("perdure.store.postgres_database.STATEMENT_S", 0.2)
    await run_sql(
        postgres,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(5); RETURN NULL; END $$",
        "CREATE TRIGGER is_slow BEFORE INSERT ON perdure.journal EXECUTE FUNCTION slow()",
    )
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            await store.write([turn("Order/1", 1, epoch)])
        assert not await numbers(store)


@on_loop
async def test_a_session_that_is_ended_is_made_anew(postgres):
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'perdure' AND datname = current_database()"
    )
    store = PostgresStore(postgres)
    async with opened(store) as [epoch]:
        for number in range(1, 6):
            assert await store.write([turn("Order/1", number, epoch)]) == [None]
            assert len(await run_sql(postgres, ending)) >= 1
            assert await numbers(store) == [*range(1, number + 1)]


async def written_until_refused(store: PostgresStore, epoch: int, written: int) -> int:
    """A session may outlive its postmaster for a moment."""
    while True:
        try:
            await store.write([turn("Order/1", written + 1, epoch)])
        except StoreUnavailable:
            return written
        written += 1


@on_loop
async def test_a_server_that_is_killed_and_comes_again(own_postgres: Server):
    url = own_postgres.url("postgres")
    await upgrade(url)
    store = PostgresStore(url)
    async with opened(store) as [epoch]:
        await store.write(turns("Order/1", 1, 3, epoch))
        own_postgres.kill()
        written = await written_until_refused(store, epoch, 3)
        with pytest.raises(StoreUnavailable):
            await store.write([turn("Order/2", 1, epoch)])
        await asyncio.to_thread(own_postgres.start)
        found = await numbers(store)
        assert found in ([*range(1, written + 1)], [*range(1, written + 2)])
        assert await store.write([turn("Order/1", len(found) + 1, epoch)]) == [None]
        with pytest.raises(StoreLocked):  # it is still the owner
            await PostgresStore(url).open()


@on_loop
async def test_a_server_is_killed_again_and_again_under_load(own_postgres: Server):
    """Whatever was acknowledged is there, once, and in order."""
    url = own_postgres.url("postgres")
    await upgrade(url)
    store = PostgresStore(url)
    is_over, acknowledged = asyncio.Event(), asyncio.Semaphore(0)
    async with opened(store) as [epoch]:

        async def one(name: str) -> int:
            written = 0
            while not is_over.is_set():
                try:
                    [answer] = await store.write([turn(name, written + 1, epoch)])
                    assert answer is None or isinstance(answer, SequenceConflict)
                    written += answer is None
                    if answer is None:
                        acknowledged.release()
                        continue
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
                try:
                    found = await all_numbers(store, name)
                except StoreUnavailable:
                    continue
                assert found == [*range(1, len(found) + 1)]
                assert len(found) in (written, written + 1)
                written = len(found)
            return written

        working = asyncio.create_task(one("Order/1"))
        for _ in range(3):
            await several_of(acknowledged)
            own_postgres.kill()
            await asyncio.to_thread(own_postgres.start)
        await several_of(acknowledged)
        is_over.set()
        written = await working
        assert written > 10
        assert await all_numbers(store, "Order/1") == [*range(1, written + 1)]


async def several_of(acknowledged: asyncio.Semaphore) -> None:
    """Some more, beyond those that were already counted."""
    while not acknowledged.locked():
        await acknowledged.acquire()
    for _ in range(20):
        await acknowledged.acquire()


async def all_numbers(store: PostgresStore, name: str) -> list[int]:
    return [row.sequence_nr for row in await store.journal(name, limit=100_000)]


@on_loop
async def test_a_server_that_is_stopping_takes_no_one(own_postgres: Server):
    import asyncpg

    url = own_postgres.url("postgres")
    await upgrade(url)
    staying = await asyncpg.connect(own_postgres.dsn("postgres"))
    import os
    import signal

    os.kill(own_postgres.pid, signal.SIGTERM)  # waits for who is there
    while "shutdown request" not in own_postgres.log:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)
    error = await refused(url)
    assert isinstance(error, LostConnection)
    assert "starting or stopping" in str(error)
    await staying.close()


@on_loop
async def test_an_epoch_that_would_be_given_out_again_is_refused(postgres: str) -> None:
    """The rows were restored without the sequence: of two owners both would pass the fence."""
    store = PostgresStore(postgres, shard=3)
    first = await store.open()
    await store.close()
    await run_sql(postgres, "ALTER SEQUENCE perdure.epochs RESTART")
    error = await refused(postgres, shard=3)
    assert f"epoch {first}" in str(error)
    await run_sql(postgres, f"SELECT setval('perdure.epochs', {first})")
    assert await store.open() > first
    await store.close()


@on_loop
async def test_who_closes_while_a_write_hangs_owns_nothing_after(postgres: str) -> None:
    """A runtime does not wait for ever to stop; its process may live on."""
    store = PostgresStore(postgres)
    epoch = await store.open()
    session = store.session
    assert session is not None
    session._limit_s = 0.2
    blocker = await asyncpg.connect(postgres.replace("+asyncpg", ""))
    async with blocker.transaction():
        await blocker.execute("SELECT FROM perdure.shards FOR UPDATE")
        writing = asyncio.create_task(store.write([turn("Order/o-1", 1, epoch)]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(writing), 0.2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.close(), 0.2)
        assert not session.is_connected, "it would beat, and be the owner, for ever"
    await blocker.close()
    with pytest.raises(StoreError):
        await writing
    again = PostgresStore(postgres)
    assert await again.open() > epoch
    await again.close()
