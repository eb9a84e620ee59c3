"""Who has lost a shard writes nothing more, however the two meet: the interleavings, one by one.

The zombie is a store that was the owner; the new owner takes the shard by force. The zombie's
transaction is held at a point of its way, inside it, by the failpoints that are there.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy.util.concurrency import await_only

import perdure.failpoints as failpoints
from perdure.errors import Fenced, StoreUnavailable
from perdure.failpoints import Point
from perdure.store.ownership import Connection, HostId, Ownership
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.shards import shard_of
from perdure.testing.sample_rows import turn
from tests.cluster.support import SCHEMA, connected, host_named
from tests.runtime.support import in_loop

SHARD = 3
OWNERS = Ownership(SCHEMA)
KEY = next(key for n in range(999) if shard_of(key := f"Order/o-{n}", 16) == SHARD)


@dataclass
class Duel:
    """A zombie and whoever takes its shard."""

    database: Database
    zombie: PostgresStore
    connection: Connection
    host: HostId

    def write(self, *numbers, epoch=None):
        """The zombie writes these turns, in a task."""
        entries = [turn(KEY, n, epoch=epoch or self.zombie._epoch) for n in numbers]
        return asyncio.create_task(self.zombie.write(entries))

    def take(self):
        """The other takes the shard, in a task."""
        return asyncio.create_task(OWNERS.take(self.connection, self.host, [SHARD]))

    async def take_over(self):
        """The other takes the shard, and opens it."""
        store = PostgresStore(self.database, shard=SHARD, epoch=(await self.take())[SHARD])
        await store.open()
        return store

    async def waits(self, task):
        """Until the server says that somebody waits for a lock."""
        looking = await connected(self.database.address.url.render_as_string(hide_password=False))
        try:
            while not await looking.fetchval(WAITING):
                assert not task.done(), f"it did not wait: {task}"
                await asyncio.sleep(0.005)
        finally:
            await looking.close()


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'
"""


@asynccontextmanager
async def duel(url):
    database = Database(url)
    await database.open()
    first, host = await connected(url), host_named("zombie")
    await OWNERS.register(first, host, "0")
    epoch = (await OWNERS.take(first, host, [SHARD]))[SHARD]
    zombie = PostgresStore(database, shard=SHARD, epoch=epoch)
    await zombie.open()
    second, other = await connected(url), host_named("other")
    await OWNERS.register(second, other, "0")
    try:
        yield Duel(database, zombie, second, other)
    finally:
        await first.close()
        await second.close()
        await zombie.close()
        await database.close()


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(postgres):
        async def fight(url):
            async with duel(url) as made:
                await test(made)

        in_loop(20)(fight)(postgres)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Gate:
    """Holds whoever comes to the point, inside its transaction, until it is opened."""

    def __init__(self, point):
        self.point = point
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def __call__(self, point):
        if point is self.point and not self.reached.is_set():
            self.reached.set()
            await_only(self.opened.wait())

    def __enter__(self):
        failpoints.listener = self
        return self

    def __exit__(self, *_):
        failpoints.listener = None


async def turns_in(store):
    return [row.sequence_nr for row in await store.journal(KEY)]


@on
async def test_what_was_written_before_the_takeover_counts(duel):
    assert await duel.write(1) == [None]
    successor = await duel.take_over()
    assert await turns_in(successor) == [1]
    assert await successor.write([turn(KEY, 2, epoch=successor._epoch)]) == [None]
    await successor.close()


@on
async def test_what_is_written_after_the_takeover_is_fenced_all_of_it(duel):
    successor = await duel.take_over()
    assert [type(answer) for answer in await duel.write(1, 2)] == [Fenced, Fenced]
    assert await turns_in(successor) == []
    await successor.close()


@on
async def test_who_writes_while_the_shard_is_taken_waits_and_is_fenced(duel):
    takeover = duel.connection.transaction()
    await takeover.start()
    await duel.take()
    writing = duel.write(1)
    await duel.waits(writing)
    await takeover.commit()
    assert [type(answer) for answer in await writing] == [Fenced]
    assert await turns_in(duel.zombie) == []


@on
async def test_who_writes_while_a_takeover_fails_has_written(duel):
    takeover = duel.connection.transaction()
    await takeover.start()
    await duel.take()
    writing = duel.write(1)
    await duel.waits(writing)
    await takeover.rollback()
    assert await writing == [None]


@on
async def test_a_takeover_waits_for_the_commit_under_way_and_sees_it(duel):
    with Gate(Point.COMMITTING) as gate:
        writing = duel.write(1)
        await gate.reached.wait()
        taking = duel.take()
        await duel.waits(taking)
        gate.opened.set()
        assert await writing == [None]
    store = PostgresStore(duel.database, shard=SHARD, epoch=(await taking)[SHARD])
    await store.open()
    assert await turns_in(store) == [1]
    assert [type(answer) for answer in await duel.write(2)] == [Fenced]
    await store.close()


@on
async def test_a_plain_update_of_the_shard_waits_for_the_commit_under_way_too(duel):
    """FOR KEY SHARE would let it pass: a takeover changes no key."""
    with Gate(Point.COMMITTING) as gate:
        writing = duel.write(1)
        await gate.reached.wait()
        store = PostgresStore(duel.database, shard=SHARD, host="other")
        opening = asyncio.create_task(store.open())
        await duel.waits(opening)
        gate.opened.set()
        assert await writing == [None]
    await opening
    assert await turns_in(store) == [1]
    await store.close()


@on
async def test_a_claim_leaves_out_what_is_being_written_and_has_it_the_next_time(duel):
    impatient = Ownership(SCHEMA, lease_s=0.01, absent_s=0.01)
    await asyncio.sleep(0.02)
    with Gate(Point.COMMITTING) as gate:
        writing = duel.write(1)
        await gate.reached.wait()
        claimed = await impatient.claim(duel.connection, duel.host, 16)
        assert sorted({*range(16)} - {*claimed}) == [SHARD]
        gate.opened.set()
        assert await writing == [None]
    assert (await impatient.claim(duel.connection, duel.host, 16)).keys() == {SHARD}


@on
async def test_a_zombie_that_opens_again_under_its_old_epoch_is_refused(duel):
    epoch = duel.zombie._epoch
    successor = await duel.take_over()
    again = PostgresStore(duel.database, shard=SHARD, epoch=epoch)
    with pytest.raises(Fenced):
        await again.open()
    await successor.close()


@on
async def test_a_zombie_that_stands_still_inside_its_transaction_is_ended_by_the_server(duel):
    """As SIGSTOP in the midst of a commit: the takeover does not wait for it to wake."""
    with Gate(Point.COMMITTING) as gate:
        writing = duel.write(1)
        await gate.reached.wait()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        successor = await duel.take_over()
        assert loop.time() - began_s < 5, "idle_in_transaction_session_timeout is 2 s"
        gate.opened.set()
        with pytest.raises(StoreUnavailable):
            await writing
    assert await turns_in(successor) == []
    assert [type(answer) for answer in await duel.write(1)] == [Fenced]
    await successor.close()
