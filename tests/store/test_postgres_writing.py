"""Writes to PostgreSQL: fenced, settled when their end is unknown, repeated where that is safe."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from perdure.core.commit import Entry
from perdure.errors import Fenced, SequenceConflict, StoreError, StoreLocked, StoreUnavailable
from perdure.store import postgres_database
from perdure.store.dialect import ServerConnection, ServerError, begin_writing
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.postgres_errors import LostConnection
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    queue_row,
    snapshot,
    turn,
    turns,
)
from tests.servers.databases import run_sql, until_waiting
from tests.store.proxies import line_to
from tests.store.support_postgres import numbers, on_loop, opened

# A commit waits in the server until the test lets it go on, and has written nothing before.
HELD_UP = """
CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7);
    RETURN NULL;
END $$
"""
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER held_up AFTER INSERT ON perdure.journal
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_up()
"""


AT_ONCE = """
CREATE TRIGGER held_up AFTER INSERT ON perdure.journal FOR EACH ROW EXECUTE FUNCTION hold_up()
"""


@asynccontextmanager
async def commits_held_up(url: str, when: str = AT_COMMIT) -> AsyncIterator[asyncio.Event]:
    """Commits of turns, or writes of them, wait until the event is set."""
    import asyncpg

    await run_sql(url, HELD_UP, when)
    holder = await asyncpg.connect(url.replace("+asyncpg", ""))
    await holder.execute("SELECT pg_advisory_lock(7)")
    goes_on = asyncio.Event()

    async def let_go() -> None:
        await goes_on.wait()
        await holder.execute("SELECT pg_advisory_unlock(7)")

    letting = asyncio.create_task(let_go())
    try:
        yield goes_on
    finally:
        goes_on.set()
        await letting
        await holder.close()


async def until_held_up(url: str) -> None:
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while not await run_sql(url, waiting):
        pass  # each look is a connection of its own


# -- the fence


@on_loop
async def test_who_lost_its_shard_writes_nothing_at_all(postgres):
    database = Database(postgres)
    before, after = PostgresStore(database, shard=3), PostgresStore(database, shard=3)
    async with opened(before, after) as (old, new):
        assert new > old
        group: list[Entry] = [
            turn("Order/1", 1, old),
            snapshot("Order/1", 1),
            inbox_row("Order/1", "m"),
            queue_row("payments"),
        ]
        answers = await before.write(group)
        assert [type(answer) for answer in answers] == [Fenced] * 4
        assert await after.write([turn("Order/1", 1, new)]) == [None]
        assert not await after.inbox()
        assert not await after.queues()


@on_loop
async def test_another_shard_in_other_hands_stands_in_nobodys_way(postgres):
    database = Database(postgres)
    ours, theirs = PostgresStore(database, shard=3), PostgresStore(database, shard=4)
    async with opened(ours, theirs) as (epoch, other):
        assert epoch != other
        assert await ours.write([turn("Order/1", 1, epoch)]) == [None]
        assert await theirs.write([turn("Order/2", 1, other)]) == [None]


@on_loop
async def test_who_owns_all_is_fenced_when_one_shard_is_taken(postgres):
    everything, one = PostgresStore(postgres), PostgresStore(postgres, shard=9)
    async with opened(everything) as [epoch], opened(one):
        [answer] = await everything.write([turn("Order/1", 1, epoch)])
        assert isinstance(answer, Fenced)


@on_loop
async def test_a_takeover_waits_for_the_commit_under_way(postgres):
    before, after = PostgresStore(postgres, shard=3), PostgresStore(postgres, shard=3)
    async with opened(before) as [epoch], commits_held_up(postgres) as goes_on:
        writing = asyncio.create_task(before.write([turn("Order/1", 1, epoch)]))
        await until_held_up(postgres)
        taking = asyncio.create_task(after.open())
        await until_waiting(postgres, 2)
        assert not taking.done()
        goes_on.set()
        assert await writing == [None]
        await taking
        assert await numbers(after) == [1]
        await after.close()


@on_loop
async def test_a_shard_that_was_claimed_is_opened_under_its_epoch(postgres):
    claiming = PostgresStore(postgres, shard=3)
    async with opened(claiming) as [epoch]:
        claimed = PostgresStore(postgres, shard=3, epoch=epoch)
        async with opened(claimed) as [same]:
            assert same == epoch
            assert await claimed.write([turn("Order/1", 1, epoch)]) == [None]
        with pytest.raises(Fenced, match="claimed under epoch 99"):
            await PostgresStore(postgres, shard=3, epoch=99).open()


@on_loop
async def test_two_cannot_own_everything(postgres):
    first, second = PostgresStore(postgres), PostgresStore(postgres)
    async with opened(first):
        with pytest.raises(StoreLocked, match=f"pid {os.getpid()}"):
            await second.open()
    async with opened(second) as [epoch]:
        assert await second.write([turn("Order/1", 1, epoch)]) == [None]


# -- an end that nobody knows


@pytest.mark.parametrize("asked", ["read", "write"])
@on_loop
async def test_what_a_lost_connection_was_committing_is_waited_for(postgres, asked):
    async with line_to(postgres) as (url, line), commits_held_up(postgres) as goes_on:
        store = PostgresStore(url, shard=3)
        async with opened(store) as [epoch]:
            writing = asyncio.create_task(store.write([turn("Order/1", 1, epoch)]))
            await until_held_up(postgres)
            line.cut()
            with pytest.raises(LostConnection):
                await writing
            again = store.write([turn("Order/1", 1, epoch)])
            asking = asyncio.create_task(numbers(store) if asked == "read" else again)
            await until_waiting(postgres, 2)
            assert not asking.done()
            goes_on.set()
            if asked == "read":
                again.close()
                assert await asking == [1]
            else:
                [answer] = await asking
                assert isinstance(answer, SequenceConflict)
                assert await numbers(store) == [1]


@on_loop
async def test_a_cancelled_write_runs_to_its_end_before_anything_is_read(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch], commits_held_up(postgres) as goes_on:
        writing = asyncio.create_task(store.write([turn("Order/1", 1, epoch)]))
        await until_held_up(postgres)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        reading = asyncio.create_task(numbers(store))
        for _ in range(3):  # another one has read meanwhile
            await run_sql(postgres, "SELECT FROM perdure.journal")
        assert not reading.done()
        goes_on.set()
        assert await reading == [1]


@on_loop
async def test_a_write_cancelled_before_it_begins_is_done_before_the_store_is_closed(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        for number in range(1, 6):
            writing = asyncio.create_task(store.write([turn("Order/1", number, epoch)]))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert await numbers(store) == [*range(1, number + 1)]


@on_loop
async def test_a_server_that_says_nothing_is_given_up(postgres, monkeypatch):
    monkeypatch.setattr(postgres_database, "ANSWER_S", 0.3)
    async with line_to(postgres) as (url, line):
        store = PostgresStore(url, shard=3)
        async with opened(store) as [epoch]:
            line.goes_on.clear()
            with pytest.raises(StoreUnavailable):
                await store.write([turn("Order/1", 1, epoch)])
            line.goes_on.set()
            assert await store.write([turn("Order/1", 1, epoch)]) == [None]


@on_loop
async def test_who_stops_in_the_midst_of_a_write_holds_nobody_up(postgres, monkeypatch):
    monkeypatch.setattr(postgres_database, "IDLE_S", 0.2)
    async with line_to(postgres) as (url, line):
        paused, other = PostgresStore(url, shard=3), PostgresStore(postgres, shard=3)
        async with opened(paused) as [epoch], commits_held_up(postgres, AT_ONCE) as goes_on:
            writing = asyncio.create_task(paused.write([turn("Order/1", 1, epoch)]))
            await until_held_up(postgres)
            line.goes_on.clear()
            goes_on.set()  # it has the fence, and its next statement never comes
            async with asyncio.timeout(5):
                await other.open()
            line.goes_on.set()
            with pytest.raises(LostConnection):
                await writing
            assert not await numbers(other)
            await other.close()


# -- connections


def _begin(connection: ServerConnection, then: Exception | None) -> int:
    begin_writing(connection)
    if then is not None:
        raise then
    return int(connection.execute("SELECT pg_backend_pid() WHERE $1", [True]).fetchone()[0])


@pytest.mark.parametrize("then", [None, ValueError("a mistake of ours")])
@on_loop
async def test_a_connection_that_is_left_in_a_transaction_is_used_by_nobody_else(postgres, then):
    database = Database(postgres, connections=1)
    await database.open()
    if then is None:
        first = await database.read(_begin, None)
        assert await database.read(_begin, None) != first
    else:
        with pytest.raises(ValueError, match="of ours"):
            await database.read(_begin, then)
        assert not await database.read(lambda connection: connection.in_transaction)
    await database.close()


@on_loop
async def test_a_commit_that_was_none_is_no_success(postgres):
    def fail_and_commit(connection: ServerConnection) -> None:
        begin_writing(connection)
        with suppress(ServerError):
            connection.execute("SELECT 1 / (1 - $1::int)", [1])
        connection.execute("COMMIT")

    database = Database(postgres)
    await database.open()
    with pytest.raises(StoreUnavailable, match="answered with ROLLBACK"):
        await database.write(fail_and_commit)
    await database.close()


@on_loop
async def test_a_read_whose_connection_is_lost_is_made_again(postgres):
    import asyncpg

    store = PostgresStore(postgres, shard=3)
    holder = await asyncpg.connect(postgres.replace("+asyncpg", ""))
    async with opened(store) as [epoch]:
        await store.write([turn("Order/1", 1, epoch)])
        await holder.execute("BEGIN; LOCK TABLE perdure.inbox")
        reading = asyncio.create_task(numbers(store))
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND database IS NOT NULL"
        while not (found := await run_sql(postgres, waiting)):
            pass  # each look is a connection of its own
        await run_sql(postgres, f"SELECT pg_terminate_backend({found[0][0]})")
        await holder.close()
        assert await reading == [1]


# -- again, where that is safe

FAILS_TWICE = """
CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('failures') <= 2 THEN
        RAISE EXCEPTION 'made up' USING ERRCODE = '{state}';
    END IF;
    RETURN NULL;
END $$
"""


@pytest.mark.parametrize("state", ["40001", "40P01"])
@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
@on_loop
async def test_what_was_rolled_back_for_others_sake_is_done_again(postgres, state, deferred):
    await run_sql(
        postgres,
        "CREATE SEQUENCE perdure.failures",
        FAILS_TWICE.format(state=state),
        f"CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON perdure.journal {deferred}"
        " FOR EACH ROW EXECUTE FUNCTION fail_twice()",
    )
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        assert await store.write([turn("Order/1", 1, epoch, head=head("Order/1"))]) == [None]
        assert await numbers(store) == [1]
        [tally] = await store.tallies()
        assert tally.started == 1


@on_loop
async def test_a_real_deadlock_costs_nobody_a_turn(postgres):
    """Both put the same two queues, in opposite orders."""
    stores = [PostgresStore(postgres, shard=shard) for shard in (3, 4)]
    async with opened(*stores) as epochs:
        for number in range(1, 11):
            names = [["a", "b"], ["b", "a"]]
            answers = await asyncio.gather(
                *(
                    store.write([turn(f"Order/{epoch}", number, epoch), *map(queue_row, order)])
                    for store, epoch, order in zip(stores, epochs, names, strict=True)
                )
            )
            assert answers == [[None] * 3] * 2


# -- what one entry does wrong


@on_loop
async def test_one_entry_that_cannot_be_kept_fails_no_neighbour(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store) as [epoch]:
        bad = turn("Order/bad\0", 1, epoch)
        surrogate = dead_letter("Order/3", "m", reason="\ud800")
        large = turn("Order/4", 1, epoch, head=head("Order/4", started_at_ms=2**63))
        long = turn("Order/" + random.Random(1).randbytes(3_000).hex(), 1, epoch)  # of an index
        group: list[Entry] = [
            turn("Order/1", 1, epoch, outbox=(outbox_row("Order/1", 1),)),
            bad,
            turn("Order/1", 2, epoch, deadlines_set=(deadline("Order/1", "pay", 2, 5),)),
            surrogate,
            large,
            long,
            turn("Order/2", 1, epoch),
        ]
        answers = await store.write(group)
        assert [type(answer) for answer in answers] == [
            type(None),
            StoreError,
            type(None),
            StoreError,
            StoreError,
            StoreError,
            type(None),
        ]
        assert "NUL" in str(answers[1])
        assert await numbers(store) == [1, 2]
        assert await numbers(store, "Order/2") == [1]
        assert not await numbers(store, "Order/4")
        assert len(await store.outbox()) == 1
        assert not await store.dead_letters()
        assert await store.write([turn("Order/1", 3, epoch)]) == [None]


# -- the pool


@on_loop
async def test_a_hundred_reads_share_a_few_connections(postgres):
    database = Database(postgres, connections=2)
    store = PostgresStore(database, shard=3)
    async with opened(store) as [epoch]:
        await store.write(turns("Order/1", 1, 3, epoch))
        found = await asyncio.gather(*(numbers(store) for _ in range(100)))
        assert found == [[1, 2, 3]] * 100
        used = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perdure'"
        assert (await run_sql(postgres, used))[0][0] == 2


@on_loop
async def test_who_finds_no_connection_is_told_so(postgres, monkeypatch):
    monkeypatch.setattr(postgres_database, "CONNECT_S", 0.2)
    store = PostgresStore(Database(postgres, connections=1), shard=3)
    async with opened(store) as [epoch], commits_held_up(postgres) as goes_on:
        writing = asyncio.create_task(store.write([turn("Order/1", 1, epoch)]))
        await until_held_up(postgres)
        with pytest.raises(StoreUnavailable, match="are busy"):
            await store.inbox()
        goes_on.set()
        assert await writing == [None]


@on_loop
async def test_a_forked_child_is_refused(postgres):
    store = PostgresStore(postgres, shard=3)
    async with opened(store):
        child = os.fork()
        if not child:
            code = 1
            try:
                store.inbox().send(None)
            except StoreUnavailable:
                code = 0
            finally:
                os._exit(code)
        assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
        assert not await store.inbox()


@on_loop
async def test_who_only_looks_writes_nothing(postgres):
    owner, look = PostgresStore(postgres, shard=3), PostgresStore(postgres, read_only=True)
    async with opened(owner) as [epoch]:
        await owner.write([turn("Order/1", 1, epoch, head=head("Order/1"))])
        async with opened(look) as [seen]:
            assert seen == epoch
            assert [row.instance for row in await look.heads()] == ["Order/1"]
            with pytest.raises(StoreUnavailable, match="for reading only"):
                await look.write([turn("Order/1", 2, epoch)])
        assert await owner.write([turn("Order/1", 2, epoch)]) == [None]
