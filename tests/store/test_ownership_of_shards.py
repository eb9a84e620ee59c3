"""Hosts, beats and claims, on a real server."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from perdure.errors import StoreLocked
from perdure.store.ownership import Kind, Ownership
from tests.cluster.support import SCHEMA, connected, host_named, judged, shards_of
from tests.runtime.support import quickly

OWNERS = Ownership(SCHEMA, lease_s=2.0, absent_s=0.2)
IMPATIENT = Ownership(SCHEMA, lease_s=0.05, absent_s=0.02)


@pytest.fixture
def database(empty_postgres):
    asyncio.run(shards_of(empty_postgres))
    return empty_postgres


@asynccontextmanager
async def joined(url, *names, kind=Kind.HOST):
    """Connections and hosts that have registered."""
    found = []
    for name in names:
        connection, host = await connected(url), host_named(name, kind)
        await OWNERS.register(connection, host, "0")
        found += [connection, host]
    try:
        yield found
    finally:
        for connection in found[::2]:
            await connection.close()


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(database):
        quickly(test)(database)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on
async def test_a_beat_tells_the_time_of_the_database_and_what_is_owned(url):
    async with joined(url, "a") as (connection, host):
        claimed = await OWNERS.claim(connection, host, 3)
        beat = await OWNERS.beat(connection, host)
        assert beat.is_known
        assert beat.owned == claimed
        assert sorted(claimed) == [0, 1, 2]
        assert len(set(claimed.values())) == 3, "each runtime numbers its jobs by its epoch"
        [at_ms] = await connection.fetchrow("SELECT extract(epoch FROM now()) * 1000")
        assert -1 <= float(at_ms) - beat.at_ms < 1000


@on
async def test_claimers_at_the_same_moment_never_take_the_same(url):
    names = [f"h{n}" for n in range(6)]
    async with joined(url, *names) as found:
        pairs = list(zip(found[::2], found[1::2], strict=True))
        taken = await asyncio.gather(*(OWNERS.claim(c, h, 2) for c, h in pairs))
        again = await asyncio.gather(*(OWNERS.claim(c, h, 2) for c, h in pairs))
        shards = [shard for claimed in (*taken, *again) for shard in claimed]
        assert sorted(shards) == list(range(8))


@on
async def test_the_shares_use_up_all_shards_and_differ_by_one_at_most(url):
    async with joined(url, "a", "b", "c") as found:
        shares = [
            (await OWNERS.outlook(c, h)).share for c, h in zip(found[::2], found[1::2], strict=True)
        ]
        assert sorted(shares) == [2, 3, 3]
        await OWNERS.drain(found[0], found[1])
        outlook = await OWNERS.outlook(found[0], found[1])
        assert (outlook.share, outlook.hosts) == (0, 2)


@on
async def test_who_has_not_registered_or_drains_claims_nothing(url):
    async with joined(url, "a") as (connection, host):
        assert await OWNERS.claim(connection, host_named("stranger"), 3) == {}
        await OWNERS.drain(connection, host)
        assert await OWNERS.claim(connection, host, 3) == {}


@on
async def test_a_silent_host_is_gone_after_its_lease_though_it_is_connected(url):
    async with joined(url, "silent", "other") as (c1, h1, c2, h2):
        before = await OWNERS.claim(c1, h1, 8)
        assert await OWNERS.claim(c2, h2, 8) == {}, "it lives"
        await asyncio.sleep(0.06)
        taken = await IMPATIENT.claim(c2, h2, 8)
        assert sorted(taken) == list(range(8))
        assert min(taken.values()) > max(before.values())
        beat = await OWNERS.beat(c1, h1)
        assert beat.is_known
        assert not beat.owned


@on
async def test_a_host_whose_session_has_ended_is_gone_after_a_moment(url):
    async with joined(url, "killed", "other") as (c1, h1, c2, h2):
        owners = Ownership(SCHEMA, lease_s=1.0, absent_s=0.1)
        await judged(c2, owners.lease_s)
        await OWNERS.claim(c1, h1, 8)
        await OWNERS.beat(c1, h1)
        c1.terminate()
        async with asyncio.timeout(0.9):
            while not await owners.claim(c2, h2, 8):
                await OWNERS.beat(c2, h2)
                await asyncio.sleep(0.01)
        [gone] = [row for row in await owners.hosts(c2) if row.name == "killed"]
        assert gone.is_gone
        assert (await owners.outlook(c2, h2)).ghosts == 1
        await owners.forget(c2, h2)
        assert [row.name for row in await owners.hosts(c2)] == ["other"]


@on
async def test_who_came_after_the_last_beat_waits_before_it_judges_by_sessions(url):
    """All sessions end with the server: the first that is back must not take everything."""
    async with joined(url, "away") as (c1, h1):
        await OWNERS.claim(c1, h1, 8)
        c1.terminate()
        await asyncio.sleep(0.15)
        owners = Ownership(SCHEMA, lease_s=60.0, absent_s=0.1)
        async with joined(url, "first") as (c2, h2):
            assert await owners.claim(c2, h2, 8) == {}


@on
async def test_a_host_that_was_forgotten_is_told_so_and_comes_again(url):
    async with joined(url, "paused", "other") as (c1, h1, c2, h2):
        await asyncio.sleep(0.06)
        await OWNERS.beat(c2, h2)
        await IMPATIENT.forget(c2, h2)
        assert not (await OWNERS.beat(c1, h1)).is_known
        assert (await OWNERS.register(c1, h1, "0")).is_known
        assert (await OWNERS.beat(c1, h1)).is_known


@on
async def test_the_beats_of_an_earlier_session_of_the_host_do_not_count(url):
    async with joined(url, "a") as (c1, h1):
        c2 = await connected(url)
        await OWNERS.register(c2, h1, "0")
        assert (await OWNERS.beat(c2, h1)).is_known
        assert not (await OWNERS.beat(c1, h1)).is_known
        await c2.close()


@on
async def test_a_release_gives_up_only_what_is_still_ones_own(url):
    async with joined(url, "a", "b") as (c1, h1, c2, h2):
        claimed = await OWNERS.claim(c1, h1, 2)
        await OWNERS.take(c2, h2, [0])
        assert await OWNERS.release(c1, h1, claimed) == [1]
        assert (await OWNERS.beat(c2, h2)).owned.keys() == {0}
        late = {1: claimed[1]}
        again = await OWNERS.claim(c1, h1, 1)
        assert again.keys() == {1}
        assert await OWNERS.release(c1, h1, late) == [], "an earlier life of the same shard"


@on
async def test_what_is_taken_by_force_is_taken_from_whoever_lives(url):
    async with joined(url, "a", "b") as (c1, h1, c2, h2):
        claimed = await OWNERS.claim(c1, h1, 8)
        taken = await OWNERS.take(c2, h2, [2, 5])
        assert taken.keys() == {2, 5}
        assert (await OWNERS.beat(c1, h1)).owned.keys() == claimed.keys() - {2, 5}


@on
async def test_who_leaves_frees_everything_at_once(url):
    async with joined(url, "a", "b") as (c1, h1, c2, h2):
        await OWNERS.claim(c1, h1, 8)
        await OWNERS.leave(c1, h1)
        assert len(await OWNERS.claim(c2, h2, 8)) == 8
        assert [row.name for row in await OWNERS.hosts(c2)] == ["b"]


@on
async def test_a_runtime_that_owns_all_is_refused_while_hosts_own_shards(url):
    async with joined(url, "pod-1") as (c1, h1), joined(url, "one", kind=Kind.ALONE) as (c2, h2):
        await OWNERS.claim(c1, h1, 1)
        with pytest.raises(StoreLocked, match="pod-1"):
            await OWNERS.take_all(c2, h2)
        assert (await OWNERS.beat(c2, h2)).owned == {}


@on
async def test_while_one_runtime_owns_all_nobody_takes_any(url):
    async with joined(url, "one", "two", kind=Kind.ALONE) as (c1, h1, c2, h2):
        epoch = await OWNERS.take_all(c1, h1)
        assert set((await OWNERS.beat(c1, h1)).owned.values()) == {epoch}
        with pytest.raises(StoreLocked, match="one"):
            await OWNERS.take_all(c2, h2)
        async with joined(url, "pod") as (c3, h3):
            outlook = await OWNERS.outlook(c3, h3)
            assert outlook.alone == f"one (pid {os.getpid()})"
            assert await OWNERS.claim(c3, h3, 8) == {}
            with pytest.raises(StoreLocked, match="one"):
                await OWNERS.take(c3, h3, [1])


@on
async def test_of_two_that_want_all_at_the_same_moment_one_gets_it(url):
    async with joined(url, "one", "two", kind=Kind.ALONE) as (c1, h1, c2, h2):
        answers = await asyncio.gather(
            OWNERS.take_all(c1, h1), OWNERS.take_all(c2, h2), return_exceptions=True
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["StoreLocked", "int"]


@on
async def test_hosts_are_listed_with_their_shards(url):
    async with joined(url, "a", "b") as (c1, h1, c2, h2):
        await OWNERS.claim(c1, h1, 3)
        await OWNERS.drain(c2, h2)
        first, second = await OWNERS.hosts(c1)
        assert (first.name, first.shards, first.is_draining) == ("a", (0, 1, 2), False)
        assert (second.name, second.shards, second.is_draining) == ("b", (), True)
        assert 0 <= first.silent_s < 2
