"""The connection of a host: it beats, listens, rings, and comes again when it is lost."""

import asyncio

import pytest

from perdure.errors import StoreLocked, StoreUnavailable
from perdure.store.ownership import Beat, Kind, Ownership
from perdure.store.session import channel_of
from tests.cluster.support import SCHEMA, connected, now_ms, session_of, shards_of
from tests.runtime.support import in_loop, quickly
from tests.servers.databases import fresh_database

CHANNEL = channel_of(SCHEMA, "test")


@pytest.fixture
def database(empty_postgres):
    asyncio.run(shards_of(empty_postgres))
    return empty_postgres


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(database):
        quickly(test)(database)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Ear:
    """Hears a channel."""

    def __init__(self):
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, payload):
        self.heard.put_nowait(payload)


async def end(url, session):
    """The server ends the session, as when its network is lost."""
    connection = await connected(url)
    pid = session._connection.get_server_pid()
    await connection.execute("SELECT pg_terminate_backend($1)", pid)
    await connection.close()


@on
async def test_it_beats_by_itself_and_tells_what_is_owned(url):
    beats: asyncio.Queue[Beat] = asyncio.Queue()
    session = session_of(url, on_beat=beats.put_nowait)
    first = await session.open()
    assert first.is_known
    claimed = await session.ask(session.owners.claim, 2)
    while (await beats.get()).owned != claimed:
        pass
    assert abs(session.skew_s) < 1
    await session.close()
    await session.close()


@on
async def test_what_is_rung_is_heard_and_the_same_is_rung_once(url):
    listener, ringer, ear = session_of(url), session_of(url, "b"), Ear()
    await listener.open()
    await ringer.open()
    await listener.listen(CHANNEL, ear)
    for payload in ("x", "y", "x"):
        ringer.notify(CHANNEL, payload)
    assert [await ear.heard.get(), await ear.heard.get()] == ["x", "y"]
    await listener.unlisten(CHANNEL)
    ringer.notify(CHANNEL, "z")
    await ringer.ask(ringer.owners.beat)
    await listener.ask(listener.owners.beat)
    assert ear.heard.empty()
    await listener.close()
    await ringer.close()


@on
async def test_a_lost_connection_is_made_again_for_the_same_host(url):
    session, ear = session_of(url), Ear()
    await session.open()
    await session.listen(CHANNEL, ear)
    claimed = await session.ask(session.owners.claim, 3)
    await end(url, session)
    assert await ear.heard.get() == "", "something may have been missed"
    assert (await session.ask(session.owners.beat)).owned == claimed
    assert session.lost == 1
    session.notify(CHANNEL, "again")
    assert await ear.heard.get() == "again"
    await session.close()


@on
async def test_what_is_asked_while_the_connection_is_lost_is_refused(url):
    session = session_of(url)
    await session.open()
    await session.ask(session.owners.claim, 1)
    locker = await connected(url)
    await locker.execute("BEGIN; LOCK TABLE perdure.shards IN ACCESS EXCLUSIVE MODE")
    asked = asyncio.create_task(session.ask(session.owners.outlook))
    await asyncio.sleep(0)
    await end(url, session)
    with pytest.raises(StoreUnavailable):
        await asked
    await locker.close()
    await session.close()


@on
async def test_a_refusal_is_no_loss_of_the_connection(url):
    one, two = session_of(url, "one", Kind.ALONE), session_of(url, "two", Kind.ALONE)
    await one.open()
    await two.open()
    await one.ask(one.owners.take_all)
    with pytest.raises(StoreLocked, match="one"):
        await two.ask(two.owners.take_all)
    assert two.lost == 0
    await one.close()
    await two.ask(two.owners.take_all)
    await two.close()


@on
async def test_a_host_that_was_forgotten_registers_again(url):
    beats: asyncio.Queue[Beat] = asyncio.Queue()
    session = session_of(url, on_beat=beats.put_nowait)
    await session.open()
    connection = await connected(url)
    await connection.execute("DELETE FROM perdure.hosts")
    while not await connection.fetchval("SELECT count(*) FROM perdure.hosts"):
        await beats.get()
    await connection.close()
    await session.close()


@on
async def test_who_drains_does_so_after_a_reconnect_too(url):
    session = session_of(url)
    await session.open()
    await session.drain()
    await end(url, session)
    while session.lost == 0 or not session.is_connected:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (await session.ask(session.owners.outlook)).rank == -1
    await session.close()


@on
async def test_a_clock_that_is_wrong_is_measured(url):
    session = session_of(url)
    session._now_ms = lambda: now_ms() + 5000
    await session.open()
    await session.ask(session.owners.beat)
    while not session.skew_s:  # noqa: ASYNC110 - the next beat of its own
        await asyncio.sleep(0.01)
    assert 4.5 < session.skew_s < 5.5
    await session.close()


@on
async def test_no_server_is_said_at_once(url):
    session = session_of("postgresql://127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable):
        await session.open()
    await session.close()


def test_a_server_that_comes_again_has_all_its_hosts_again(own_postgres):
    """Sessions end all at once with it: who is back first does not take everything."""
    owners = Ownership(SCHEMA, lease_s=60.0, absent_s=0.05)
    others_may = asyncio.Event()

    async def run(url):
        first, *others = sessions = [session_of(url, f"h{n}", owners=owners) for n in range(3)]
        for session in sessions:
            await session.open()
        owned = [await session.ask(owners.claim, 2) for session in sessions]
        for session in others:
            session._connect = after(others_may, session._connect)
        await asyncio.to_thread(own_postgres.kill)
        while not all(session.lost for session in sessions):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.to_thread(own_postgres.start)
        await until_it_answers(first, owners.beat)
        while not await first.ask(is_old, 3 * owners.absent_s):
            pass
        claimed = await first.ask(owners.claim, 8)
        assert len(claimed) == 2, "those that were free before"
        others_may.set()
        for session, before in zip(sessions, owned, strict=True):
            beat = await until_it_answers(session, owners.beat)
            assert before.items() <= beat.owned.items()
            assert session.lost == 1
            await session.close()

    with fresh_database(own_postgres) as url:
        asyncio.run(shards_of(url))
        in_loop(60)(run)(url)


async def is_old(connection, host, age_s):
    """The session is this old; of an old server it would judge now who is gone."""
    return await connection.fetchval(
        "SELECT clock_timestamp() - backend_start > make_interval(secs => $1) "
        "FROM pg_stat_get_activity(pg_backend_pid())",
        age_s,
    )


def after(event, connect):
    """Connects only when this has happened."""

    async def wait_and_connect():
        await event.wait()
        return await connect()

    return wait_and_connect


async def until_it_answers(session, *asked):
    """Ask until there is a connection again."""
    while True:
        try:
            return await session.ask(*asked)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


def test_names_of_channels_are_never_too_long():
    assert channel_of("perdure", "shard-3") == "perdure.perdure.shard-3"
    long = {channel_of("s" * 45, f"host-{n}-with-a-long-name") for n in range(9)}
    assert len(long) == 9
    assert max(map(len, long)) <= 63
