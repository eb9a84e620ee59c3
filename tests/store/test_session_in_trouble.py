"""The session of a host under load, at a server that forgets, and with bells that do not ring."""

import asyncio
from contextlib import suppress

from perdure.store.migrations import upgrade
from perdure.store.postgres import PostgresStore
from tests.cluster.support import session_of, shards_of
from tests.runtime.support import in_loop
from tests.servers.databases import run_sql


@in_loop(20)
async def test_bells_without_end_keep_nobody_waiting(empty_postgres):
    """Answers are rung for all the time in a process under load; a shard must change hands."""
    await shards_of(empty_postgres)
    session = session_of(empty_postgres)
    await session.open()
    loop = asyncio.get_running_loop()
    is_over = False

    def ring():
        session.notify("perdure.test", str(loop.time()))
        if not is_over:
            loop.call_soon(ring)

    ring()
    async with asyncio.timeout(2):
        for _ in range(5):
            assert await session.ask(session.owners.shards) == 8
    is_over = True
    await session.close()


@in_loop(20)
async def test_a_bell_that_cannot_be_rung_costs_no_session(empty_postgres):
    await shards_of(empty_postgres)
    session = session_of(empty_postgres)
    await session.open()
    session.notify("", "no channel has this name")
    session.notify("perdure.test", "x" * 9_000)
    assert await session.ask(session.owners.shards) == 8
    assert session.lost == 0
    await session.close()


def epochs(url):
    return run_sql(url, "SELECT max(epoch) FROM perdure.shards")


def test_a_claim_is_there_after_a_crash_also_where_commits_do_not_wait(own_postgres):
    """Else its epoch would be given out again, and two owners would pass the fence."""
    server = own_postgres
    url = server.url("postgres")

    async def claim():
        await run_sql(
            url,
            "ALTER SYSTEM SET synchronous_commit = off",
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "SELECT pg_reload_conf()",
        )
        await upgrade(url)
        await run_sql(url, "CHECKPOINT")
        session = session_of(url)
        await session.open()
        claimed = await session.ask(session.owners.claim, 1)
        server.kill()
        await session.close()
        return max(claimed.values())

    async def take():
        store = PostgresStore(url, shard=5)
        epoch = await store.open()
        server.kill()
        with suppress(Exception):
            await store.close()
        return epoch

    for owning in (claim, take):
        epoch = asyncio.run(owning())
        server.start()
        [[found]] = asyncio.run(epochs(url))
        assert found == epoch
