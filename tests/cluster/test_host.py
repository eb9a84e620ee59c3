"""A process takes its share of the shards, and gives it up."""

import asyncio

import pytest

from perdure.errors import StoreLocked, StoreUnavailable
from perdure.store.ownership import Kind
from tests.cluster.hosting import RARELY, SOON, Shards, beats, epochs_of, spread, told_by
from tests.cluster.support import connected, cut, hang, judged, session_of, wake
from tests.runtime.support import in_loop


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(database):
        in_loop(60)(test)(database)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on
async def test_the_first_host_runs_all_shards_when_it_has_started(url):
    shards = Shards()
    async with shards.host(url, "a") as host:
        assert sorted(host.owned) == list(range(8))
        assert all(runtime.phase == "running" for runtime in host.owned.values())
        assert len(set(epochs_of(host).values())) == 8
    assert not host.owned
    told = told_by(host)
    for number in range(8):
        mine = [what for what, shard in told if shard == number]
        assert mine == ["came", "leaves", "gone"]


def test_who_is_told_to_end_while_shards_start_ends_in_order(database, caplog):
    @on
    async def run(url):
        session, host = Shards().new_host(url, "a")
        await session.open()
        starting = asyncio.create_task(host.start())
        while not host._here:  # noqa: ASYNC110
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
        await session.close()
        assert starting.cancelled()

    run(database)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@on
async def test_hosts_that_come_get_their_share_and_leave_it_to_the_others(url):
    shards = Shards()
    async with shards.host(url, "a") as a:
        async with shards.host(url, "b") as b:
            await spread([a, b], [4, 4])
            async with shards.host(url, "c") as c:
                await spread([a, b, c], [2, 3, 3])
                owned = [*a.owned, *b.owned, *c.owned]
                assert sorted(owned) == list(range(8))
            await spread([a, b], [4, 4])
        await spread([a], [8])


@on
async def test_many_hosts_that_come_at_once_share_all_of_it(url):
    shards = Shards()
    pairs = [shards.new_host(url, f"h{n}") for n in range(5)]
    await asyncio.gather(*(session.open() for session, _ in pairs))
    hosts = [host for _, host in pairs]
    await asyncio.gather(*(host.start() for host in hosts))
    await spread(hosts, [1, 1, 2, 2, 2])
    await asyncio.gather(*(host.stop() for host in hosts))
    assert all(not host.owned for host in hosts)
    await asyncio.gather(*(session.close() for session, _ in pairs))


@on
async def test_a_drained_host_owns_nothing_and_takes_nothing_more(url):
    """What it gives up is taken when it is free: nobody here ever polls."""
    shards = Shards()
    async with shards.host(url, "a", RARELY) as a, shards.host(url, "b", RARELY) as b:
        await spread([a, b], [4, 4])
        await a.drain()
        assert not a.owned
        await spread([b], [8])
        rows = await b.session.ask(lambda connection, _: b.session.owners.hosts(connection))
        assert [row.is_draining for row in rows] == [True, False]


@on
async def test_the_shards_of_a_killed_host_are_taken_over(url):
    shards = Shards()
    session, a = shards.new_host(url, "a")
    await session.open()
    await a.start()
    async with shards.host(url, "b") as b:
        await spread([a, b], [4, 4])
        before = epochs_of(a)
        for number in before:
            shards.stores[number]._is_open = False  # its process is gone
        cut(session)
        await spread([b], [8])
        after = epochs_of(b)
        assert all(after[number] > epoch for number, epoch in before.items())
        await a.stop()


@on
async def test_a_host_whose_shards_were_taken_stops_their_runtimes_and_takes_others(url):
    """A process that was paused wakes: what it ran is not its own any more."""
    shards = Shards()
    async with shards.host(url, "a") as a:
        session = session_of(url, "thief", Kind.ASSIGNED)
        await session.open()
        runtime = a.owned[3]
        await session.ask(session.owners.take, [3])
        await runtime.stopped()
        assert 3 not in a.owned
        assert ("leaves", 3) in told_by(a)
        await session.close()
        await spread([a], [8])


@on
async def test_what_is_assigned_is_taken_by_force_and_nothing_else(url):
    shards = Shards()
    over = asyncio.Event()
    async with shards.host(url, "a", assigned=[1, 2], on_over=lambda _: over.set()) as a:
        assert sorted(a.owned) == [1, 2]
        for number in (1, 2):
            shards.stores[number]._is_open = False
        async with shards.host(url, "a again", assigned=[1, 2]) as again:
            await over.wait()
            assert sorted(again.owned) == [1, 2]
            await beats(a, 4)
            assert sorted(again.owned) == [1, 2], "the first one does not take them back"


@on
async def test_shards_of_a_silent_host_are_run_by_the_others_until_it_comes_again(url):
    """As Ray has it: whoever is told its shards, and hangs on a node that is well."""
    shards = Shards()
    over = asyncio.Event()
    mine = {"a": [0, 1, 2, 3], "b": [4, 5], "c": [6, 7]}
    session, a = shards.new_host(url, "a", assigned=mine["a"], on_over=lambda _: over.set())
    await session.open()
    await a.start()
    others_over: list[object] = []
    async with (
        shards.host(url, "b", assigned=mine["b"], on_over=others_over.append) as b,
        shards.host(url, "c", assigned=mine["c"], on_over=others_over.append) as c,
    ):
        before = epochs_of(a)
        for number in mine["a"]:
            shards.stores[number]._is_open = False  # another process opens it
        hanging = hang(session)
        await spread([b, c], [4, 4])
        for host, name in ((b, "b"), (c, "c")):
            assert set(host.owned) >= set(mine[name])
        after = epochs_of(b) | epochs_of(c)
        assert all(after[number] > epoch for number, epoch in before.items())
        wake(session, hanging)
        await over.wait()
        await a.stop()
        for number in mine["a"]:
            shards.stores[number]._is_open = False
        async with shards.host(url, "a again", assigned=mine["a"]) as again:
            assert sorted(again.owned) == mine["a"]
            await spread([b, c], [2, 2])
            rows = await again.session.ask(lambda one, _: again.session.owners.hosts(one))
            assert sorted(row.name for row in rows if row.shards) == ["a again", "b", "c"]
            assert not any(row.is_draining for row in rows if row.shards)
        assert not others_over, "they have lost what was not theirs"
    await session.close()


@on
async def test_shards_of_a_host_that_was_killed_are_left_to_who_made_it_for_a_lease(url):
    shards = Shards()
    session, a = shards.new_host(url, "a", assigned=[0, 1])
    await session.open()
    await a.start()
    connection = await connected(url)
    await judged(connection, session.owners.lease_s)
    await connection.close()
    async with shards.host(url, "b", assigned=[2, 3]) as b:
        while b._next_look_s > SOON.poll_s:  # noqa: ASYNC110 - it begins to look after a lease
            await asyncio.sleep(0.01)
        for number in (0, 1):
            shards.stores[number]._is_open = False
        loop = asyncio.get_running_loop()
        cut(session)
        began_s = loop.time()
        await spread([b], [4])
        assert loop.time() - began_s > SOON.lease_s - 2 * SOON.beat_s
        await a.stop()


@on
async def test_what_a_host_had_of_a_silent_one_is_run_on_when_it_drains(url):
    shards = Shards()
    session, a = shards.new_host(url, "a", assigned=[0, 1])
    await session.open()
    await a.start()
    async with (
        shards.host(url, "b", assigned=[2, 3]) as b,
        shards.host(url, "c", assigned=[4, 5]) as c,
    ):
        for number in (0, 1):
            shards.stores[number]._is_open = False
        hanging = hang(session)
        await spread([b, c], [3, 3])
        await b.drain()
        await spread([c], [6])
        wake(session, hanging)
        await a.stop()
    await session.close()


@on
async def test_a_runtime_that_stops_by_itself_is_noticed_and_its_shard_run_again(url):
    shards = Shards()
    async with shards.host(url, "a") as a:
        runtime = a.owned[5]
        await runtime.stop()
        await spread([a], [8])
        assert a.owned[5] is not runtime


@on
async def test_hosts_are_refused_while_one_runtime_owns_all(url):
    session = session_of(url, "embedded", Kind.ALONE)
    await session.open()
    await session.ask(session.owners.take_all)
    with pytest.raises(StoreLocked, match="embedded"):
        async with Shards().host(url, "a"):
            pass
    await session.close()
    async with Shards().host(url, "a") as a:
        assert len(a.owned) == 8


@on
async def test_a_runtime_that_owned_all_and_was_killed_is_waited_for(url):
    session = session_of(url, "embedded", Kind.ALONE)
    await session.open()
    await session.ask(session.owners.take_all)
    connection = await connected(url)
    await judged(connection, session.owners.lease_s)
    await connection.close()
    cut(session)
    async with Shards().host(url, "a") as a:
        assert len(a.owned) == 8


@on
async def test_a_host_that_cannot_run_a_shard_leaves_it_to_another(url):
    """Though it is of its share: it stands back, and what it can run it runs."""
    shards, broken, tried = Shards(), Shards(), asyncio.Event()

    async def fails():
        tried.set()
        raise StoreUnavailable("the disk of this shard is not here")

    # Of equal shards the first ones are given up.
    broken.stores[0].open = fails  # type: ignore[method-assign]
    async with shards.host(url, "good") as good:
        async with broken.host(url, "bad") as bad:
            await tried.wait()
            while 0 not in good.owned:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert 0 not in bad.owned
        await spread([good], [8])


@pytest.mark.parametrize(
    ("steps", "assigned"), [(0, None), (1, None), (2, None), (3, None), (0, (1, 2))]
)
def test_a_host_that_is_stopped_while_it_starts_leaves_nothing_behind(
    database, monkeypatch, steps, assigned
):
    """Whatever its start was waiting for: no shard, and nothing that goes on looking for some."""

    async def run():
        session, host = Shards().new_host(database, "a", assigned=assigned)
        await session.open()
        asked, ask = 0, session.ask
        stopping: asyncio.Task[None] | None = None

        async def counted(*arguments, **named):
            nonlocal asked, stopping
            asked += 1
            if asked == steps + 1 and stopping is None:
                stopping = asyncio.create_task(host.stop())
                await asyncio.sleep(0)
            return await ask(*arguments, **named)

        monkeypatch.setattr(session, "ask", counted)
        starting = asyncio.create_task(host.start())
        await asyncio.wait([starting])
        if stopping is None:
            stopping = asyncio.create_task(host.stop())
        await stopping
        assert not list(host.runtimes)
        assert host._seeking is None or host._seeking.done()
        await session.close()
        connection = await connected(database)
        owned = await connection.fetchval("SELECT count(host) FROM perdure.shards")
        await connection.close()
        assert owned == 0

    in_loop(60)(run)()
